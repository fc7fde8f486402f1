"""Splits the time of a loop into waiting for a batch and computing on it."""

import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import torch

from .system import ctrl_c_deferred


class Meter:
    """Splits the time of a loop over batches, in seconds, into waiting for a batch and computing on it.

        meter = Meter(device)
        for local_batch, local_labels in meter(training_generator):
            ...
        print(meter.waiting_share)

    `waiting[i]` is the time before batch i and `computing[i]` the time spent on it; `waiting` has one entry
    more, the wait for the end of the epoch. Together they are the wall time of the loop. Calling the meter
    again forgets the loop before.

    On a CUDA device the marks are events on the current stream. The host only queues work and runs ahead of
    the device, so its own waiting says little; the events tell how long the device had nothing to do.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.use_cuda = self.device.type == "cuda"
        self.marks: list[Any] = []  # seconds of time.perf_counter, or torch.cuda.Event

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        self.marks = []
        self._mark()
        with ctrl_c_deferred():  # a loader torn while its workers start up cannot end them
            iterator = iter(batches)
        for batch in iterator:
            self._mark()
            yield batch
            self._mark()
        self._mark()

    def _mark(self) -> None:
        if self.use_cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            self.marks[-1].record(torch.cuda.current_stream(self.device))
        else:
            self.marks.append(time.perf_counter())

    def _spans(self) -> list[float]:
        if self.use_cuda and self.marks:
            self.marks[-1].synchronize()
            return [a.elapsed_time(b) / 1000 for a, b in pairwise(self.marks)]
        return [b - a for a, b in pairwise(self.marks)]

    @property
    def waiting(self) -> list[float]:
        "Seconds before each batch, and those at the end of the epoch"
        return self._spans()[0::2]

    @property
    def computing(self) -> list[float]:
        "Seconds spent on each batch"
        return self._spans()[1::2]

    @property
    def seconds(self) -> float:
        "Seconds of the whole loop"
        return sum(self._spans())

    @property
    def waiting_share(self) -> float:
        "Share of the loop's time that was spent waiting, 0 to 1"
        return sum(self.waiting) / max(self.seconds, 1e-9)
