"""Chapter 09 builds feedgpu.PrefetchLoader: nothing less, nothing more, with these left out:

docstrings, annotations, the checks of arguments in `__init__`, and what is there for a CUDA device or for a
dataset with threads of its own: LATER lists the text of the file, and what the chapter has in its place.

And what the chapter's exercise asks of a batch.
"""

import ast

import numpy
import pytest
import torch
from syntax import ROOT, code_cells, members, replaced, tagged

from feedgpu.course import verdict

LATER = {
    "        foreseen: AbstractContextManager[Any] = nullcontext()\n"
    '        if foresee := getattr(type(self._loader.dataset), "foresee", None):\n'
    "            indices = foresee(self._loader.dataset, indices)\n"
    "            foreseen = closing(indices)  # type: ignore[type-var]\n": "",
    "with self._thread() as (asked, made), foreseen:": "with self._thread() as (asked, made):",
    '        device: torch.device | str = "cpu",\n': "",
    "        pin_memory: bool = False,\n": "",
    "            pin_memory=pin_memory,\n": "",
    "        self.device = device\n": "",
    "        running: deque[torch.cuda.Event] = deque()  # the ends of steps, on a CUDA device\n": "",
    '        if self._device.type == "cuda" and self._stream is None:\n'
    "            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  "
    "# one for good: memory is kept by stream\n"
    "            self._device = self._stream.device\n": "",
    "        if self._stream is not None:\n"
    "            torch.cuda.set_device(self._device)  # a new thread begins on device 0\n": "",
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
    "return indices, None": "return indices",
}
# Methods, functions and declarations
FOR_LATER = "__getstate__ __setattr__ device _copied _receive _hold_back _loader _device _stream".split()
FOR_LATER += ["pinned", "refuse_for_workers"]


def is_check(statement, function):
    "Of `__init__` what only raises, or calls what raises"
    if function != "__init__" or not isinstance(statement, (ast.If, ast.For)):
        return False
    return all(isinstance(one, ast.Raise) or "refuse" in ast.unparse(one) for one in statement.body)


def parts(source):
    "What is defined: {name: syntax tree}, without what is for later"
    found = members(source, annotations=False, leave_out=is_check)
    later = {f"PrefetchLoader.{name}" for name in FOR_LATER} | set(FOR_LATER)
    return {name: tree for name, tree in found.items() if name.partition(":")[0] not in later}


def built():
    return parts("\n".join(tagged("09", "PrefetchLoader")))


def in_the_file():
    return replaced((ROOT / "feedgpu" / "prefetch.py").read_text(encoding="utf-8"), LATER)


def test_the_chapter_ends_with_the_loader_of_the_file():
    assert built() == parts(in_the_file())


def test_no_other_cell_changes_the_loader():
    others = [source for source, tags in code_cells("09") if "same-as:PrefetchLoader" not in tags]
    assert not [source for source in others if "class PrefetchLoader" in source]


@pytest.mark.parametrize(
    ("now", "planted"),
    [
        ("drop_last: bool = False", "drop_last: bool = True"),
        ("asked.put(None)", "asked.put([])"),
        ("            pending, many = 0, 0", "            pending, many = 0, 1"),
        ("                batches = made.get()", "                batches = made.get_nowait()"),
        ("raise batch", "yield batch"),
        ("manual_seed(torch.initial_seed())", "manual_seed(0)"),
        ("min(16, max(1,", "min(8, max(1,"),
        ("    def __len__(self)", "    def extra(self):\n        pass\n\n    def __len__(self)"),
    ],
)
def test_a_planted_change_is_noticed(now, planted):
    assert built() != parts(replaced(in_the_file(), {now: planted}))


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
    sentence = verdict.getitems(answer).sentence
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
    sentence = verdict.getitems(answer).sentence
    assert sentence.startswith("✓ getitems: right") and "times as fast as row by row" in sentence
