"""Batches that bring along what was done for them: a dataset and a collate_fn that note what they take.

Nothing is printed where batches are made, and the times are those of time.perf_counter, which all processes
of a machine share. Each thread notes for itself what it does, and the notes travel with the samples: several
threads, and batches made ahead, do not get into one another's notes.
"""

import copy
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset, Subset, get_worker_info

from ..packed import PackedDataset
from .loaders import Loader, similar


@dataclass
class Notes:
    "What was done for a batch, or for some of its samples, by the threads that did it"

    spans: list = field(default_factory=list)  # (who: a worker's number or a thread's name, what, start, end)
    cpu_seconds: float = 0.0
    queued_seconds: float = 0.0  # in which a thread could have run, and had no CPU
    process_seconds: float = 0.0  # of CPU, of the process since its start

    @property
    def begun(self) -> float:
        return min((start for *_, start, _ in self.spans), default=0.0)

    @property
    def ended(self) -> float:
        return max((end for *_, end in self.spans), default=0.0)

    def add(self, what: str, start: float) -> None:
        worker = get_worker_info()
        who = threading.current_thread().name if worker is None else worker.id
        self.spans.append((who, what, start, time.perf_counter()))

    def take(self, others: Iterable["Notes"]) -> None:
        for other in others:
            self.spans += other.spans
            self.cpu_seconds += other.cpu_seconds
            self.queued_seconds += other.queued_seconds


class Noted(NamedTuple):
    "One sample or several, on the way to the collating"

    samples: Any
    notes: Notes


class Recorded(NamedTuple):
    "A batch and what was done for it. Whoever pins batches, or copies them to a device, finds its tensors."

    batch: Any
    notes: Notes


class Here(threading.local):
    "Of this thread: what it notes for the samples that it is making; None while it makes none"

    notes: Notes | None = None


here = Here()


@contextmanager
def noting() -> Iterator[Notes]:
    "What this thread does in the block"
    here.notes = notes = Notes()
    waited, cpu = queued(), time.thread_time()
    try:
        yield notes
    finally:
        here.notes = None
        notes.cpu_seconds = time.thread_time() - cpu
        # It may have waited before the first span and behind the last, too: asking how long is a call itself.
        idle = max(0.0, notes.ended - notes.begun - notes.cpu_seconds)
        notes.queued_seconds = min(idle, queued() - waited)


class RecordedDataset(torch.utils.data.Dataset):
    "A dataset that notes what its samples take. It is taken apart in the worker, so that it can be pickled."

    ahead = False  # whether its own threads may be at work on the next batch already

    def __init__(self, dataset):
        self.dataset = dataset
        self.inner: Any = None
        self.elsewhere = deque()  # (index, notes) of samples made by threads of the dataset's own

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        inner = self._opened()
        return self._noted(lambda: inner[index], [index])

    def __getitems__(self, indices):
        inner = self._opened()
        if getattr(inner, "__getitems__", None):
            return self._noted(lambda: inner.__getitems__(indices), indices)
        return self._noted(lambda: [inner[index] for index in indices], indices)

    def _opened(self):
        if self.inner is None:
            self.inner = noted(self.dataset, self.elsewhere)
        return self.inner

    def _noted(self, make: Callable, indices) -> Noted:
        with noting() as notes:
            start = time.perf_counter()
            samples = make()
            others = self._from_elsewhere(indices)
            made = [what for one in (notes, *others) for _, what, *_ in one.spans]
            if "making" not in made:  # it makes the batch at once
                notes.add("making", start)
        notes.take(others)
        return Noted(samples, notes)

    def _from_elsewhere(self, indices) -> list[Notes]:
        "Those of these samples; what belongs to the next batch stays"
        noted = [self.elsewhere.popleft() for _ in range(len(self.elsewhere))]
        if not self.ahead:
            return [notes for _, notes in noted]
        wanted, found = Counter(indices), []
        for index, notes in noted:
            if wanted[index]:
                wanted[index] -= 1
                found.append(notes)
            else:
                self.elsewhere.append((index, notes))
        return found


class RecordedAhead(RecordedDataset):
    "One whose own threads begin with a batch when its indices are known"

    ahead = True

    def foresee(self, batches):
        return self._opened().foresee(batches)


def noted(dataset, elsewhere: deque):
    """A copy of `dataset` that notes each of its samples and, where it has the methods `load` and
    `transform`, as my_classes.Dataset has, what they take. A pack notes no sample, for it gathers whole
    batches."""
    copied = copy.copy(dataset)
    if isinstance(dataset, Subset):
        copied.dataset = noted(dataset.dataset, elsewhere)
        return copied
    if type(dataset).__getitem__ is not PackedDataset.__getitem__:
        methods = {"__getitem__": timed("making", type(dataset).__getitem__, elsewhere)}
        try:
            copied.__class__ = type(type(dataset).__name__, (type(dataset),), methods)
        except TypeError:  # of a built-in type, such as a list of samples
            methods = {"__getitem__": timed("making", lambda _, i: dataset[i], elsewhere)}
            return type("Samples", (), methods)()
    for name, what in (("load", "reading"), ("transform", "transforming")):
        if callable(method := getattr(dataset, name, None)):
            setattr(copied, name, timed(what, method, elsewhere))
    return copied


def timed(what: str, function: Callable, elsewhere: deque) -> Callable:
    "Notes each call; and in a thread of the dataset's own, `elsewhere`, with the last argument: an index"

    def call(*args, **kwargs):
        if here.notes is None:
            with noting() as notes:
                result = call(*args, **kwargs)
            elsewhere.append((args[-1], notes))
            return result
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            here.notes.add(what, start)

    return call


class RecordedCollate:
    """Collates with `collate_fn`, then moves the batch into shared memory.

    A worker's queue would do that a moment later in a thread of its own; done here, it can be timed.
    """

    def __init__(self, collate_fn):
        self.collate_fn = collate_fn

    def __call__(self, made: Noted | list[Noted]) -> Recorded:
        samples = made.samples if isinstance(made, Noted) else [one.samples for one in made]
        with noting() as notes:
            start = time.perf_counter()
            batch = self.collate_fn(samples)
            notes.add("collating", start)
            if get_worker_info() is not None:
                start = time.perf_counter()
                share(batch)
                notes.add("copying", start)
        notes.take([made.notes] if isinstance(made, Noted) else [one.notes for one in made])
        notes.spans.sort(key=lambda span: span[2])
        notes.process_seconds = time.process_time()
        return Recorded(batch, notes)


def queued() -> float:
    "Seconds in which this thread has waited for a CPU so far, as Linux counts them; 0 elsewhere"
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def share(batch):
    "Moves the tensors of a batch into shared memory."
    if isinstance(batch, torch.Tensor):
        batch.share_memory_()
    elif isinstance(batch, dict):
        share(list(batch.values()))
    elif isinstance(batch, (list, tuple)):
        for part in batch:
            share(part)


def recording(loader: Loader, **changes) -> Loader:
    "A copy of `loader` whose batches are `Recorded`. Raises ValueError for an IterableDataset."
    if not isinstance(loader, Loader) or isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            "only a DataLoader or PrefetchLoader over a dataset with __getitem__ can be recorded"
        )
    kind = RecordedAhead if callable(getattr(loader.dataset, "foresee", None)) else RecordedDataset
    return similar(
        loader,
        dataset=kind(loader.dataset),
        collate_fn=RecordedCollate(loader.collate_fn),
        persistent_workers=False,
        **changes,
    )
