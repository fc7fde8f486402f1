"""The exercises of chapters 09 and 10: what is asked of an answer."""

import tempfile
import time
from pathlib import Path

import numpy
import torch

from ...measure.spread import alternate
from ...measure.streams import OnDevice, StandIn
from ...sample import describe
from ..verdicts import Right, exercise, short


@exercise
def getitems(answer):
    "right for indices in any order, repeated and negative, an IndexError for others, no batch changes"
    values = numpy.random.default_rng(0).random((3_000, 64), numpy.float32)
    labels = numpy.arange(3_000)[::-1].copy()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        numpy.save(Path(folder, "rows.npy"), values)
        rows = numpy.load(Path(folder, "rows.npy"), mmap_mode="c")
        try:
            return fault_of_batches(answer, rows, labels, values) or speed_of(answer, rows, labels)
        finally:
            rows._mmap.close()


def fault_of_batches(answer, rows, labels, values) -> str | None:
    "What is wrong with the batches that an answer makes"
    asked = {
        "unsorted": [5, 0, 2_999, 3],
        "repeated": [7, 2, 7, 7],
        "negative": [-1, 4, -3_000],
        "one": [11],
        "in a row": [20, 21, 22, 23],
    }
    held = {}
    for kind, indices in asked.items():
        try:
            given = answer(rows, labels, list(indices))
        except IndexError as error:
            return (
                f"{indices} led to an IndexError, {error}; but each of them has a row: a negative index "
                "counts from the end"
            )
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            return f"expected (X, y) for {indices}, you gave {short(given)}"
        if wrong := [part for part in given if not isinstance(part, torch.Tensor)]:
            return f"expected two tensors, you gave {short(wrong[0])}: torch.from_numpy makes one of an array"
        X, y = given
        if tuple(X.shape) != (len(indices), 64) or X.dtype != torch.float32:
            return (
                f"expected X to be float32 of shape {len(indices)}×64 for {indices}, yours is {describe(X)}"
            )
        if tuple(y.shape) != (len(indices),):
            return f"expected {len(indices)} labels for {indices}, you gave {short(y)}"
        for place, index in enumerate(indices):
            if not numpy.array_equal(X[place].numpy(), values[index]):
                found = numpy.flatnonzero((values == X[place].numpy()).all(1))
                told = f"row {found[0]:,}" if len(found) else "a row that is none of them"
                why = {"unsorted": "the order is that of the indices", "negative": COUNTED_FROM_THE_END}
                why = why.get(kind, "an index asked for twice is two rows")
                return f"for {indices} place {place} has {told}, expected row {index % 3_000:,}: {why}"
            if y[place].item() != labels[index]:
                return (
                    f"for {indices} label {place} is {short(y[place].item())}, expected {labels[index]}: y "
                    "follows the same indices as X"
                )
        if numpy.shares_memory(X.numpy(), rows):
            return f"for {indices} X is a view of the map, so each page of it may wait for the disk: copy"
        held[kind] = X, X.clone()
    for kind, (X, before) in held.items():
        if not torch.equal(X, before):
            return (
                f"the batch of {asked[kind]} changed when a later one was made, and it was still held: "
                "memory may be used again only when nobody holds it"
            )
    for beyond in (3_000, -3_001):
        try:
            answer(rows, labels, [0, beyond])
        except IndexError:
            continue
        return (
            f"expected an IndexError for index {beyond:,} of 3,000 rows, you gave a batch: "
            'a wrong sample without a word. mode="clip" and mode="wrap" do that'
        )


COUNTED_FROM_THE_END = 'a negative index counts from the end; with mode="clip" it is row 0'


def speed_of(answer, rows, labels) -> str:
    "How many times as fast as row by row an answer is: a fault if that is no more than chance"
    batches = torch.randperm(3_000).split(64)[:40]

    def seconds(make) -> float:
        begin = time.perf_counter()
        for indices in batches:
            make(indices.tolist())
        return time.perf_counter() - begin

    ways = {
        "rows": lambda indices: torch.stack([torch.from_numpy(rows[index]) for index in indices]),
        "take": lambda indices: torch.from_numpy(numpy.take(rows, indices, 0)),
        "yours": lambda indices: answer(rows, labels, indices),
    }
    found = alternate({name: lambda make=make: seconds(make) for name, make in ways.items()})
    times = found["rows"].low / found["yours"].low
    if times < 1.4:
        return (
            f"the values are right, at ≈ {times:.1f} times the speed of row by row: gather all rows at once"
        )
    said = f"It is ≈ {times:.1f} times as fast as row by row"
    if found["yours"].low > 4 * found["take"].low:
        said += f"; a copy of whole rows would be ≈ {found['rows'].low / found['take'].low:.1f} times as fast"
    return Right(said)


@exercise
def prefetched(answer):
    "the copy of the next batch is on its way when a batch is handed over, and nothing is read too early"
    batches = [[torch.full((2, 3), float(i)), torch.tensor([i, i + 1])] for i in range(7)]
    most = 0  # batches that were taken from the loader and not handed over
    for after_each_step in (True, False):
        gpu, given, own = StandIn(), 0, 0
        taken = []

        def source(taken=taken):
            for batch in batches:
                taken.append(batch)
                yield batch

        handed = answer(source(), gpu)
        if not hasattr(handed, "__next__"):
            return f"expected a generator, you gave {short(handed)}: hand a batch over with `yield`"
        for batch in handed:
            if given == len(batches):
                return f"expected {len(batches)} batches, you hand over more"
            if fault := fault_of_sent(batch, batches[given], given + 1, gpu):
                return fault
            given += 1
            sent = gpu.sent / 2
            if sent < min(given + 1, len(batches)):
                return (
                    f"batch {given} was handed over before batch {given + 1} was sent: a loop that waits for "
                    "its step would have it sent only afterwards"
                )
            if sent > given + 3:
                return f"{sent:.0f} batches were sent when batch {given} was handed over: at most three ahead"
            most = max(most, len(taken) - given)
            stream = gpu.current_stream()
            if stream is not gpu.default:
                return (
                    "your stream was still the current one when a batch was handed over, so that the steps "
                    "would be put there: `yield` after the `with gpu.stream(...)`, not in it"
                )
            if any(stream.clock.get(part.stream, 0) > max(one.written for one in batch) for part in batch):
                return (
                    f"the step on batch {given} has to wait for the copy of batch {given + 1}: wait for a "
                    "batch's own copy, when you hand it over"
                )
            for part in batch:
                gpu.compute(part, 0.001)
            if after_each_step:
                before = gpu.waited
                stream.synchronize()  # as .item() does
                own += gpu.waited - before
            del batch, part
        if given < len(batches):
            return f"expected {len(batches)} batches, you handed over {given}: the last ones are missing"
        if gpu.pageable:
            return (
                f"{gpu.pageable} of {gpu.sent} tensors were sent without gpu.pin: the host copies and waits"
            )
        if gpu.waited > own:
            return (
                f"the host waited {gpu.waited - own} times: send with non_blocking=True, and let the stream "
                "of the steps wait, not the host"
            )
        if gpu.races:
            return gpu.races[0]
    try:
        left = list(answer(iter([]), StandIn()))
    except Exception as error:
        return f"a loader without batches ends in {type(error).__name__}: such a loop should end at once"
    if left:
        return "you hand over a batch of a loader that has none"
    if most > 4:
        return (
            f"{most} batches lay in memory before they were sent: take one from the loader when you send it"
        )


def fault_of_sent(batch, expected: list, number: int, gpu: StandIn) -> str | None:
    "What is wrong with a batch that was handed over, apart from its time"
    if not isinstance(batch, (list, tuple)) or len(batch) != 2:
        return f"expected batch {number} as a list of two tensors on the device, you gave {short(batch)}"
    for part, values in zip(batch, expected, strict=True):
        if not isinstance(part, OnDevice):
            return f"a part of batch {number} is not on the device: gpu.send returns one that is"
        if not torch.equal(part.values, values):
            return f"batch {number} has other numbers than those it came with: is it the one that was due?"
        if part.stream is gpu.default:
            return (
                f"batch {number} was sent on the stream of the steps, where a copy waits for the step before "
                "it: gpu.Stream() makes another one"
            )
