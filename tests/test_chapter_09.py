"""Chapter 09 builds my_prefetch.PrefetchLoader: nothing less, nothing more, with these left out:

docstrings, annotations, the checks of arguments in `__init__`, and what is there for a CUDA device or for a
dataset with threads of its own: LATER lists the text of the file, and what the chapter has in its place.

The rule is that of chapter 03: the cells tagged `same-as:PrefetchLoader`, in their order, make up the class
and the functions that it needs.

And what the chapter's exercise asks of a batch.
"""

import ast
from pathlib import Path

import nbformat
import numpy
import pytest
import torch

from feedgpu.checks import check

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "09_the_price_of_a_file.ipynb"
LATER = {
    '        if foresee := getattr(type(self._loader.dataset), "foresee", None):\n'
    "            indices = foresee(self._loader.dataset, indices)\n": "",
    '        device: torch.device | str = "cpu",\n': "",
    "        pin_memory: bool = False,\n": "",
    "            pin_memory=pin_memory,\n": "",
    "        self.device = torch.device(device)\n        self._stream = None\n": "",
    "        running = deque()  # events at the ends of steps, on a CUDA device\n": "",
    '        if self.device.type == "cuda" and self._stream is None:\n'
    "            self._stream = torch.cuda.Stream(self.device)  # one for good: memory is kept by stream\n"
    "            self.device = self._stream.device\n": "",
    "        if self._stream is not None:\n"
    "            torch.cuda.set_device(self.device)  # a new thread begins on device 0\n": "",
    "many or pieced(batches[0][0])": "many or pieced(batches[0])",
    "for batch, copied in batches:": "for batch in batches:",
    "                    if copied is not None:\n                        self._receive(batch, copied)\n": "",
    "                    if copied is not None:\n                        self._hold_back(running)\n": "",
    "            if self._stream is None:\n"
    "                if self._loader.pin_memory and torch.cuda.is_available():\n"
    "                    batch = tree_map(pinned, batch)\n"
    "                return batch, None\n": "            return batch\n",
    "            if not tensors(batch):\n"
    "                raise TypeError("
    'f"there is no tensor in this {type(batch).__name__} to be sent to the device")\n': "",
    "            with torch.cuda.stream(self._stream):\n"
    "                batch = tree_map(self._copied, batch)\n"
    "                return batch, self._stream.record_event()\n": "",
    "return error, None": "return error",
}
# methods and functions
FOR_LATER = {"__getstate__", "_copied", "_receive", "_hold_back", "pinned"}


def without_later(source):
    for now, instead in LATER.items():
        assert source.count(now) == 1, f"my_prefetch.py has not once: {now}"
        source = source.replace(now, instead)
    return source


class Bare(ast.NodeTransformer):
    "Takes docstrings and annotations away, and from `__init__` what only raises"

    def visit_FunctionDef(self, node):
        node = self.generic_visit(node)
        node.returns = None
        first = node.body[0].value if isinstance(node.body[0], ast.Expr) else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            node.body = node.body[1:]
        if node.name == "__init__":
            node.body = [one for one in node.body if not is_check(one)]
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node


def is_check(node):
    return isinstance(node, ast.If) and all(isinstance(one, ast.Raise) for one in node.body)


def members(source):
    "{name: syntax tree} of the class's methods, whether it is written in one piece or several, and functions"
    found, pieces = {}, 0
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name not in FOR_LATER:
            found[node.name] = ast.dump(Bare().visit(node))
        if not isinstance(node, ast.ClassDef):
            continue
        assert node.name == "PrefetchLoader" and not node.decorator_list and not node.keywords
        assert [ast.unparse(base) for base in node.bases] == ["PrefetchLoader"] * (pieces > 0)
        pieces += 1
        for one in node.body:
            if isinstance(one, ast.Expr):  # the docstring
                continue
            assert isinstance(one, ast.FunctionDef), ast.unparse(one)
            if one.name not in FOR_LATER:
                found[f"PrefetchLoader.{one.name}"] = ast.dump(Bare().visit(one))
    return found


def built():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    tagged = [cell.source for cell in cells if "same-as:PrefetchLoader" in cell.metadata.get("tags", [])]
    return members("\n".join(tagged))


def in_the_file():
    return without_later((ROOT / "my_prefetch.py").read_text(encoding="utf-8"))


def test_the_chapter_ends_with_the_loader_of_the_file():
    assert built() == members(in_the_file())


def test_no_other_cell_changes_the_loader():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    others = [cell for cell in cells if "same-as:PrefetchLoader" not in cell.metadata.get("tags", [])]
    assert not [cell.source for cell in others if "class PrefetchLoader" in cell.source]


@pytest.mark.parametrize(
    ("now", "planted"),
    [
        ("drop_last: bool = False", "drop_last: bool = True"),
        ("asked.put(None)", "asked.put([])"),
        ("            pending, many = 0, None", "            pending, many = 0, 1"),
        ("                batches = made.get()", "                batches = made.get_nowait()"),
        ("raise batch", "yield batch"),
        ("min(16, max(1,", "min(8, max(1,"),
        ("    def __len__(self)", "    def extra(self):\n        pass\n\n    def __len__(self)"),
    ],
)
def test_a_planted_change_is_noticed(now, planted):
    assert in_the_file().count(now) == 1
    assert built() != members(in_the_file().replace(now, planted))


# The exercise


@pytest.fixture(autouse=True)
def one_thread():
    "As in the chapter: two that wait for each other are slower than one, on a busy machine"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def right(rows, labels, indices):
    return torch.from_numpy(numpy.take(rows, indices, 0)), torch.from_numpy(numpy.take(labels, indices))


def clips(rows, labels, indices):
    return torch.from_numpy(numpy.take(rows, indices, 0, mode="clip")), right(rows, labels, indices)[1]


def wraps(rows, labels, indices):
    X, y = (numpy.take(one, indices, 0, mode="wrap") for one in (rows, labels))
    return torch.from_numpy(X), torch.from_numpy(y)


def sorts(rows, labels, indices):
    return right(rows, labels, sorted(indices))


def once(rows, labels, indices):
    return right(rows, labels, list(dict.fromkeys(indices)))


def all_labels(rows, labels, indices):
    return right(rows, labels, indices)[0], torch.from_numpy(labels[: len(indices)].copy())


def a_slice(rows, labels, indices):
    if indices == list(range(indices[0], indices[0] + len(indices))):
        return torch.from_numpy(rows[indices[0] : indices[-1] + 1]), right(rows, labels, indices)[1]
    return right(rows, labels, indices)


BLOCK = numpy.empty((64, 64), numpy.float32)


def one_block(rows, labels, indices):
    y = right(rows, labels, indices)[1]
    rows_there = [index % len(rows) for index in indices]
    return torch.from_numpy(numpy.take(rows, rows_there, 0, out=BLOCK[: len(indices)], mode="clip")), y


def one_by_one(rows, labels, indices):
    X = torch.stack([torch.from_numpy(rows[index].copy()) for index in indices])
    return X, right(rows, labels, indices)[1]


def no_negative(rows, labels, indices):
    if min(indices) < 0:
        raise IndexError("index -1 is out of range")
    return right(rows, labels, indices)


WRONG = {
    no_negative: "[-1, 4, -3000] led to an IndexError, index -1 is out of range; but each of them has a row",
    clips: "row 2,999: a negative index counts from the end",
    wraps: "expected an IndexError for index 3,000",
    sorts: "the order is that of the indices",
    once: "expected X to be float32 of shape 4×64",
    all_labels: "y follows the same indices",
    a_slice: "X is a view of the map",
    one_block: "changed when a later one was made",
    one_by_one: "times the speed of row by row",
    lambda rows, labels, indices: [right(rows, labels, [index])[0] for index in indices]: "expected (X, y)",
    lambda rows, labels, indices: (rows[indices], labels[indices]): "torch.from_numpy makes one",
}


@pytest.mark.parametrize("answer", WRONG)
def test_a_wrong_batch_is_told_why(answer):
    sentence = check.getitems(answer).sentence
    assert sentence.startswith("✗ getitems: ") and WRONG[answer] in sentence


@pytest.mark.parametrize(
    "answer",
    [
        right,
        lambda rows, labels, indices: (torch.tensor(rows[indices]), torch.tensor(labels[indices])),
        lambda rows, labels, indices: [
            torch.from_numpy(one)[torch.tensor(indices)] for one in (rows, labels)
        ],
    ],
)
def test_a_right_batch_is_told_its_speed(answer):
    sentence = check.getitems(answer).sentence
    assert sentence.startswith("✓ getitems: right") and "times as fast as row by row" in sentence
