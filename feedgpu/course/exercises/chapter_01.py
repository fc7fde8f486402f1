"""The exercise of chapter 01: what is asked of an answer."""

import itertools
from collections import Counter

from ..verdicts import exercise, short


@exercise
def batches(answer):
    "each sample once, whatever the number of samples and of a batch"
    pairs = [(n, size) for n in range(1, 41) for size in range(1, 13)]
    for n, size in [(1438, 64), (1000, 64), (128, 64), (5, 64), (0, 64), *pairs]:
        given = answer(n, size)
        if not hasattr(given, "__iter__"):
            return f"expected batches to loop over, you gave {short(given)}"
        indices, lengths = [], []
        for batch in itertools.islice(given, n + 1):  # n batches are the most, and an answer may be endless
            if isinstance(batch, int):
                return (
                    "expected a range for each batch, you gave single indices: `yield` each range, in a loop"
                )
            if not hasattr(batch, "__len__"):
                return f"expected a range or a list of indices for each batch, you gave {short(batch)}"
            indices += [int(index) for index in batch]
            lengths.append(len(batch))
        visits, said = Counter(indices), f"with n = {n:,} and batch_size = {size},"
        if missed := [index for index in range(n) if index not in visits]:
            return f"{said} {named(missed)} never visited: {why_missed(missed, n, size, lengths)}"
        if beyond := [index for index in visits if not 0 <= index < n]:
            return f"{said} index {max(beyond, key=abs):,} is visited, and has no sample: the last stop is n"
        if repeated := [index for index in visits if visits[index] > 1]:
            return f"{said} {named(repeated)} visited again: a batch begins where the one before ended"
        if lengths != (expected := [size] * (n // size) + [n % size] * (n % size > 0)):
            pairs = enumerate(zip(expected, lengths, strict=False))
            i = next((i for i, (right, given) in pairs if right != given), None)
            if i is None:
                return f"{said} the last of your {len(lengths)} batches is one too many"
            return f"{said} expected {expected[i]} samples in batch {i}, you gave {lengths[i]}"


def named(indices: list[int]) -> str:
    "How many samples these are, and which comes first."
    if len(indices) == 1:
        return f"sample {indices[0]:,} is"
    return f"{len(indices):,} samples (the first: {min(indices):,}) are"


def why_missed(missed: list[int], n: int, size: int, lengths: list[int]) -> str:
    if missed != list(range(missed[0], n)):
        return "a batch begins where the one before ended"
    if len(lengths) >= -(-n // size) and max(lengths) == size:
        return "a range ends before its stop, so the last stop is n"
    if len(missed) < size:
        return "the last batch is smaller than the others, and has to be made too"
    return f"{len(lengths):,} batches of at most {max(lengths, default=0)} cannot reach the end"
