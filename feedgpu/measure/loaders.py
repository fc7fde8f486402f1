"""Loaders like a given one: with other settings, with the first batches alone, ended whatever happens."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from ..prefetch import OF_WORKERS, PrefetchLoader
from ..system import ctrl_c_deferred

Loader = DataLoader | PrefetchLoader


class delivered:
    """A block in which the batches of `loader` are gone through, once: `with delivered(loader) as batches`.

    If the block ends by an error, the workers, or the thread of a PrefetchLoader, have ended too; whoever
    keeps the error would keep them else.
    Where the loader's own timeout ran out, the error is a TimeoutError that says so. `loader` may be any
    iterable.
    """

    def __init__(self, loader):
        self.loader, self.iterator = loader, None

    def __enter__(self) -> "delivered":
        return self

    def __iter__(self) -> Iterator:
        with ctrl_c_deferred():
            self.iterator = iter(self.loader)
        return self.iterator

    def __exit__(self, kind, error, traceback):
        persistent = getattr(self.loader, "persistent_workers", False)
        if error is not None or not persistent:
            getattr(self.iterator, "_shutdown_workers", lambda: None)()
            if isinstance(self.loader, PrefetchLoader):
                getattr(self.iterator, "close", lambda: None)()
            if persistent:
                self.loader._iterator = None  # the next epoch starts new ones
        if isinstance(error, RuntimeError) and "DataLoader timed out" in str(error):
            seconds = f"{self.loader.timeout:g} s"
            raise TimeoutError(
                f"no batch came for {seconds}: a worker hangs, or a batch takes longer than that"
            ) from None


def similar(loader: Any, kind: type | None = None, **changes: Any) -> Any:
    """A DataLoader with the settings of `loader` but for `changes`, such as num_workers=4; a PrefetchLoader
    stays one, unless `kind` is DataLoader.

    Raises ValueError for a batch_size where the loader was given its batches by a batch_sampler.
    """
    names = "dataset collate_fn num_workers pin_memory timeout worker_init_fn generator prefetch_factor"
    settings = {name: getattr(loader, name) for name in names.split()}
    settings |= {"persistent_workers": loader.persistent_workers, "in_order": loader.in_order}
    settings["multiprocessing_context"] = loader.multiprocessing_context
    if loader.batch_size is None and loader.batch_sampler is not None:
        if "batch_size" in changes:
            raise ValueError("the batch_sampler of this loader decides its batch size")
        settings["batch_sampler"] = loader.batch_sampler
    else:
        settings |= {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        if not isinstance(loader.dataset, IterableDataset):
            settings["sampler"] = loader.sampler
    if "batch_sampler" in changes:
        for name in ("batch_size", "drop_last", "sampler"):
            settings.pop(name, None)
    settings |= changes
    if not settings["num_workers"]:
        settings |= {"prefetch_factor": None, "persistent_workers": False, "multiprocessing_context": None}
        settings["timeout"] = 0
    if not isinstance(loader, PrefetchLoader) or kind is DataLoader:
        return DataLoader(**settings)
    settings = {name: value for name, value in settings.items() if name not in OF_WORKERS}
    if threads := getattr(loader, "threads", None):
        settings.setdefault("threads", threads)
    return PrefetchLoader(**settings, device=loader.device)


def first_batches(loader: Loader, batches: int | None = None) -> Loader:
    "A copy of `loader` that yields the same first batches in every epoch, by default all of one epoch"
    if isinstance(loader.dataset, IterableDataset):
        return loader
    which = "sampler" if loader.batch_sampler is None else "batch_sampler"
    changes: dict[str, Any] = {which: list(islice(getattr(loader, which), batches))}
    return similar(loader, **changes)


def patient(loader: Loader, timeout: float) -> Loader:
    "A copy of `loader` that gives up after `timeout` seconds without a batch, if it has workers"
    return similar(loader, timeout=loader.timeout or timeout) if loader.num_workers else loader


def as_arguments(batch) -> tuple:
    "What a step is called with: the parts of a tuple or list, or the batch itself"
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def samples_in(batch) -> int:
    """The samples of a batch: the length that its tensors have in common.

    A list of tensors of unequal lengths is taken for a list of samples.
    """
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.ndim else 1
    if isinstance(batch, dict):
        return samples_in(list(batch.values()))
    if isinstance(batch, (tuple, list)):
        parts = [part for part in batch if isinstance(part, (torch.Tensor, dict, tuple, list))]
        lengths = {samples_in(part) for part in parts}
        return lengths.pop() if len(lengths) == 1 else len(batch)
    return 1
