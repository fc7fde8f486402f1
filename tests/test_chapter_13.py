"""Chapter 13 builds my_unequal.padded and SimilarLengths: nothing less, nothing more, with these left out:

docstrings, annotations of arguments and results, and the check in `padded` of what it is given.

The rule is that of chapter 03: the cells tagged `same-as:NAME`, in their order, make up the two.

And what the chapter's exercise asks of a batch, and the sounds that it is made of.
"""

import ast
from pathlib import Path

import nbformat
import pytest
import torch

from feedgpu.checks_shapes import check
from feedgpu.workloads import sounds

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "13_when_samples_do_not_stack.ipynb"
SOURCE = (ROOT / "my_unequal.py").read_text(encoding="utf-8")
NAMES = {"same-as:padded": ("Padded", "padded"), "same-as:SimilarLengths": ("SimilarLengths", "cut")}


class Bare(ast.NodeTransformer):
    "Takes docstrings and annotations of functions away, and what only checks"

    def visit_FunctionDef(self, node):
        node = self.generic_visit(node)
        node.returns = None
        node.body = [one for one in without_docstring(node.body) if not is_check(one)]
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node


def without_docstring(body):
    first = body[0].value if body and isinstance(body[0], ast.Expr) else None
    return body[1:] if isinstance(first, ast.Constant) and isinstance(first.value, str) else body


def is_check(node):
    "The loop or the condition that only raises, and what it compares with"
    if isinstance(node, ast.If):
        return isinstance(node.body[-1], ast.Raise)
    if isinstance(node, ast.For):
        return all(isinstance(one, ast.If) and isinstance(one.body[-1], ast.Raise) for one in node.body)
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "first"


def members(source):
    "{name: syntax tree} of functions and of what is in classes, whether in one piece or several"
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = ast.dump(Bare().visit(node))
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [ast.unparse(one) for one in node.bases + node.keywords + node.decorator_list]
        assert (bases == [node.name]) == (f"{node.name}, above" in found), f"{node.name} grows from {bases}"
        found.setdefault(f"{node.name}, above", bases)
        for one in without_docstring(node.body):
            name = one.name if isinstance(one, ast.FunctionDef) else ast.unparse(one)
            found[f"{node.name}.{name}"] = ast.dump(Bare().visit(one))
    return found


def cells():
    return nbformat.read(NOTEBOOK, as_version=4).cells


def built():
    return members(
        "\n".join(cell.source for cell in cells() if set(cell.metadata.get("tags", [])) & set(NAMES))
    )


def test_the_chapter_ends_with_what_is_in_the_file():
    assert built() == members(SOURCE)


@pytest.mark.parametrize("tag", NAMES)
def test_no_other_cell_defines_it(tag):
    others = [cell.source for cell in cells() if tag not in cell.metadata.get("tags", [])]
    defined = [f"{kind} {name}{end}" for name in NAMES[tag] for kind, end in (("class", "("), ("def", "("))]
    assert not [source for source in others for text in defined if text in source and "```" not in source]


@pytest.mark.parametrize(
    ("now", "planted"),
    [
        ("batch_first=True", "batch_first=False"),
        ("torch.arange(X.shape[1]) < lengths", "torch.arange(X.shape[1]) <= lengths"),
        ("lengths: torch.Tensor  # N, int64", "sizes: torch.Tensor  # N, int64"),
        ("pool: int = 50", "pool: int = 100"),
        ("key=self.lengths.__getitem__", "key=int"),
        ("whole + (rest > 0 and not self.drop_last)", "whole + (rest > 0)"),
        ("Random(seed).shuffle(batches)", "pass"),
        ("class SimilarLengths(torch.utils.data.Sampler):", "class SimilarLengths:"),
        ("class Padded(NamedTuple):", "class Padded(tuple):"),
        ("    def set_epoch(", "    def extra(self):\n        pass\n\n    def set_epoch("),
    ],
)
def test_a_planted_change_is_noticed(now, planted):
    assert SOURCE.count(now) == 1
    assert built() != members(SOURCE.replace(now, planted))


# The sounds


def test_a_sound_is_a_function_of_its_id_and_the_seed():
    one, two, other = sounds(66), sounds(99), sounds(66, seed=1)
    for ID in ("sound-1", "sound-2", "sound-33"):
        X = one.read(ID)
        assert X.dtype == torch.float32 and X.dim() == 1 and 800 <= len(X) <= 32_000
        assert 0.2 < X.abs().max() <= 1 and torch.equal(X, two.read(ID))
        assert len(X) != len(other.read(ID))
    assert [one.labels[f"sound-{i}"] for i in (1, 2, 33, 34, 66)] == [0, 1, 2, 1, 2]


def test_their_lengths_are_skewed_and_a_thirty_third_trills():
    source = sounds(802)
    lengths = torch.tensor([len(source.read(ID)) for ID in source.labels]).float()
    assert 3_500 < lengths.median() < 4_500 < lengths.mean() < 6_000 and lengths.max() > 20_000
    assert len(source.partition["train"]) == 641  # 20 batches of 32, and one sound
    assert sum(source.labels[ID] == 2 for ID in source.partition["train"]) == 19


# The exercise


def right(samples):
    C, H, W = torch.tensor([X.shape for X, _ in samples]).amax(0).tolist()
    X = samples[0][0].new_zeros(len(samples), C, H, W)
    mask = torch.zeros(len(samples), H, W, dtype=torch.bool)
    for place, (picture, _) in enumerate(samples):
        _, h, w = picture.shape
        X[place, :, :h, :w], mask[place, :h, :w] = picture, True
    return X, mask, torch.tensor([y for _, y in samples])


def by_comparison(samples):
    "Without a loop for the mask"
    X, _, y = right(samples)
    h, w = (torch.tensor([picture.shape[i] for picture, _ in samples]) for i in (1, 2))
    rows = torch.arange(X.shape[2]) < h[:, None]
    return [X, rows[:, :, None] & (torch.arange(X.shape[3]) < w[:, None])[:, None], y]


@pytest.mark.parametrize("answer", [right, by_comparison])
def test_a_right_batch(answer):
    assert check.padded_pictures(answer).sentence.startswith("✓ padded_pictures: each picture")


def of_the_first(samples):
    C, H, W = samples[0][0].shape
    return torch.stack([X[:, :H, :W].new_zeros(C, H, W) for X, _ in samples]), None, None


def changed(which, how):
    def answer(samples):
        parts = [*right(samples)]
        parts[which] = how(parts[which], samples)
        return tuple(parts)

    return answer


def either(samples):
    "Rows or columns"
    X, _, y = right(samples)
    h, w = (torch.tensor([picture.shape[i] for picture, _ in samples]) for i in (1, 2))
    rows = torch.arange(X.shape[2]) < h[:, None]
    return X, rows[:, :, None] | (torch.arange(X.shape[3]) < w[:, None])[:, None], y


def tallest_square(samples):
    X, mask, y = right(samples)
    side = max(X.shape[2:])
    wide = X.new_zeros(*X.shape[:2], side, side)
    wide[:, :, : X.shape[2], : X.shape[3]] = X
    return wide, mask, y


def centred(samples):
    X, mask, y = right(samples)
    return X.flip(2), mask.flip(1), y


def in_place(samples):
    answer = right(samples)
    for X, _ in samples:
        X += 1
    return answer


WRONG = {
    tallest_square: "the height of the tallest and the width of the widest",
    of_the_first: "expected three tensors, you gave None",
    centred: "each begins in the upper left corner",
    either: "a pixel is there where both its row and its column are",
    in_place: "it may be somebody else's memory",
    changed(0, lambda X, _: X.double()): "padding must not change the dtype",
    changed(
        0, lambda X, _: X.masked_fill(~right(_)[1][:, None], 1)
    ): "something else than 0 below or to the right",
    changed(1, lambda mask, _: mask.float()): "expected a mask of bool",
    changed(1, lambda mask, _: ~mask): "it is to be true where the picture is",
    changed(1, lambda mask, _: mask[:, None]): "one value a pixel says it for all channels",
    changed(
        1, lambda mask, samples: (right(samples)[0] != 0).any(1)
    ): "what is there cannot be seen from the values",
    changed(2, lambda y, _: y.flip(0)): "they follow the pictures",
    changed(2, lambda y, _: y.float()): "as int64",
    lambda samples: right(samples)[0]: "expected (X, mask, y)",
    lambda samples: torch.stack([X for X, _ in samples]): "for pictures of shapes 1×3×8, 1×6×2, 1×4×4",
}


@pytest.mark.parametrize("answer", WRONG)
def test_a_wrong_batch_is_told_why(answer):
    sentence = check.padded_pictures(answer).sentence
    assert sentence.startswith("✗ padded_pictures: ") and WRONG[answer] in sentence


JUNK = [None, 3, [], lambda *_, **__: None, lambda *_, **__: [], lambda samples: samples]


@pytest.mark.parametrize("answer", JUNK)
def test_junk_is_not_right(answer):
    assert check.padded_pictures(answer).sentence.startswith("✗ padded_pictures: ")
