"""What chapter 09's exercise asks of a batch."""

import numpy
import pytest
import torch

from feedgpu.course import verdict


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
