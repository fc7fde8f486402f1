"""One epoch, timed: with batches as they come, and with the same batches from memory."""

import time
from collections.abc import Callable, Iterable
from itertools import cycle, islice

import torch

from ..meter import Meter
from .loaders import as_arguments, delivered


def run_epoch(batches: Iterable, step: Callable, device="cpu") -> Meter:
    """Calls `step(*batch)` on every batch and returns the Meter of the loop, in seconds.

    `step` may be any function of a batch: the training of a model, or one that does nothing, to see how fast
    the batches alone can come. Where it has a method `synchronize`, as a stand-in device has, the loop ends
    when that returns.
    """
    meter = Meter(device)
    with delivered(batches) as batches:
        for batch in meter(batches):
            step(*as_arguments(batch))
    if hasattr(step, "synchronize"):
        step.synchronize()
        meter.marks.append(time.perf_counter())
    return meter


def training_step(model: torch.nn.Module, learning_rate: float = 0.003) -> Callable:
    """A function `step(local_batch, local_labels)` that trains `model` by one batch with Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    device = next(model.parameters()).device
    model.train()

    def step(local_batch, local_labels):
        loss = torch.nn.functional.cross_entropy(model(local_batch.to(device)), local_labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def data_stall(batches: Iterable, step: Callable, device="cpu") -> float:
    """Share of an epoch's time that would vanish if batches were free, 0 to 1.

    Runs one epoch over `batches` as they come, then one over the same batches held in memory, and returns
    1 - replayed / real. DS-Analyzer (Mohan et al., VLDB 2021) replays one cached batch in the same way.
    Unlike the waiting, this also counts what loading takes from the step, such as the CPUs that workers use.
    Raises ValueError for a generator, which can be gone through only once, and for no batches at all.
    """
    if iter(batches) is batches:
        raise ValueError("a generator can be gone through only once: give the loader itself")
    meter = run_epoch(batches, step, device)
    held = hold(batches)
    replayed = run_epoch(replay(held, len(meter.waiting) - 1), step, device).seconds
    return max(0.0, 1 - replayed / meter.seconds)


def hold(batches: Iterable, most: float = 1e9) -> list:
    "The first of the batches, up to `most` bytes, in memory. Raises ValueError if there is none."
    held, size = [], 0
    with delivered(batches) as batches:
        for batch in batches:
            held.append(batch)
            size += sum(part.nbytes for part in as_arguments(batch) if isinstance(part, torch.Tensor))
            if size > most:
                break
    if not held:
        raise ValueError("the loader yields no batch, so there is nothing to measure")
    return held


def replay(held: list, batches: int) -> Iterable:
    "As many batches, from those that are held, over and over"
    return islice(cycle(held), batches)


def median_epoch(meters: Iterable[Meter]) -> Meter:
    "Of several epochs the one of median length: of three, neither the quickest nor the slowest"
    ordered = sorted(meters, key=lambda meter: meter.seconds)
    return ordered[len(ordered) // 2]
