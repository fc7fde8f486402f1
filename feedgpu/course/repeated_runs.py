"""Runs of chapter 11: what a model sees in each epoch, under one setting of a loader or another."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..order import EpochSampler


def begun(dataset: Any, loader: Any, epoch: int) -> Iterator[Any]:
    "The batches of an epoch, of which both dataset and sampler are told; the first one is made at once"
    loader.sampler.set_epoch(epoch)
    if hasattr(dataset, "set_epoch"):
        dataset.set_epoch(epoch)
    batches = iter(loader)  # workers that start here hear of this epoch
    return chain([next(batches)], batches)


def seen(
    dataset: Dataset[Any],
    digest: Callable[[Iterable[Any]], str],
    epochs: Sequence[int] = (0, 1),
    at_once: bool = False,
    batch_size: int = 4,
    kind: Callable[..., Any] = DataLoader,
    **how: Any,
) -> dict[int, str]:
    """{epoch: the digest of what a model sees in it}, after `torch.manual_seed(0)`.

    `at_once`: a loop for each epoch, all of which take their batches in turn. `how`: arguments of `kind`.
    """
    torch.manual_seed(0)
    loader = kind(dataset, batch_size, sampler=EpochSampler(len(dataset)), **how)  # type: ignore[arg-type]
    if not at_once:
        return {epoch: digest(begun(dataset, loader, epoch)) for epoch in epochs}
    turns = list(zip(*[begun(dataset, loader, epoch) for epoch in epochs], strict=True))
    return {epoch: digest(turn[i] for turn in turns) for i, epoch in enumerate(epochs)}


def grid(
    ways: dict[str, Callable[[], Dataset[Any]]],
    settings: dict[str, dict[str, Any]],
    digest: Callable[[Iterable[Any]], str],
) -> dict[str, dict[str, bool]]:
    """{setting: {way: whether a model sees what it sees in a plain loop}}. `ways`: {way: what makes the
    dataset}; `settings`: {setting: arguments of `seen`}."""
    plain = {way: seen(make(), digest) for way, make in ways.items()}
    return {
        setting: {
            way: seen(make(), digest, **how).items() <= plain[way].items() for way, make in ways.items()
        }
        for setting, how in settings.items()
    }
