"""Chapter 13 builds padded and SimilarLengths of feedgpu/unequal.py: nothing less, nothing more, with these
left out:

docstrings, annotations of arguments and results, the check in `padded` of what it is given, and the shares of
several processes.

And what the chapter's exercise asks of a batch, and the sounds that it is made of.
"""

import ast

import pytest
import torch
from syntax import ROOT, code_cells, members, replaced, tagged

from feedgpu.course import verdict
from feedgpu.prepare import sounds

SHARES = {
    "        rank: int | None = None,\n        ranks: int | None = None,\n": "",
    "seed, weights, rank, ranks)\n        self.sampler": "seed, weights)\n        self.sampler",
    "        self.sampler = self.visits  # by this name Lightning looks for what has a set_epoch\n": "",
    "        self.ranks = ranks\n": "",
}
SOURCE = replaced((ROOT / "feedgpu" / "unequal.py").read_text(encoding="utf-8"), SHARES)
BUILT = {"Padded", "padded", "SimilarLengths", "in_parts"}


def is_check(statement, function):
    "The loop or the condition that only raises, and what it compares with"
    if isinstance(statement, ast.If):
        return isinstance(statement.body[-1], ast.Raise)
    if isinstance(statement, ast.For):
        return all(isinstance(one, ast.If) and isinstance(one.body[-1], ast.Raise) for one in statement.body)
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "first"


def parts(source):
    return members(source, annotations=False, leave_out=is_check)


def built():
    return parts("\n".join(tagged("13", "padded", "SimilarLengths")))


def test_the_chapter_ends_with_what_is_in_the_file():
    assert built() == parts(SOURCE)


def test_no_other_cell_defines_it():
    others = [
        source for source, tags in code_cells("13") if not tags & {"same-as:padded", "same-as:SimilarLengths"}
    ]
    assert not [source for source in others if members(source, BUILT)]


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
        ("class SimilarLengths(torch.utils.data.Sampler[list[Visit]]):", "class SimilarLengths:"),
        ("class Padded(NamedTuple):", "class Padded(tuple):"),
        ("    def set_epoch(", "    def extra(self):\n        pass\n\n    def set_epoch("),
    ],
)
def test_a_planted_change_is_noticed(now, planted):
    assert built() != parts(replaced(SOURCE, {now: planted}))


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
    assert verdict.padded_pictures(answer).sentence.startswith("✓ padded_pictures: each picture")


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
    sentence = verdict.padded_pictures(answer).sentence
    assert sentence.startswith("✗ padded_pictures: ") and WRONG[answer] in sentence


JUNK = [None, 3, [], lambda *_, **__: None, lambda *_, **__: [], lambda samples: samples]


@pytest.mark.parametrize("answer", JUNK)
def test_junk_is_not_right(answer):
    assert verdict.padded_pictures(answer).sentence.startswith("✗ padded_pictures: ")
