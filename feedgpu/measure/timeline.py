"""Who did what when: a real run of a DataLoader, recorded in all its processes and drawn as a Gantt chart.

    timeline = record(training_generator, step)
    pictures.gantt({"measured": timeline})
    timeline.write_trace("trace.json")       # for ui.perfetto.dev or chrome://tracing

Nothing is printed in workers: each batch brings along what its worker did, with the times of
time.perf_counter, which all processes of a machine share.
"""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, get_worker_info

from .loaders import as_arguments, delivered, patient, samples_in, similar

WORK = ("reading", "transforming", "making", "collating", "copying")  # what a worker does
spans = []  # of the batch that this process is making: (what, start, end)


@dataclass
class Span:
    """Something that was done for one batch, from `start` to `end`, in seconds since the run's start.

    `who`: "main" or the worker's number; or another name, as in feedgpu.measure.streams. `what`: starting
    (of workers), waiting or computing in the main process; where batches are made reading, transforming,
    collating or copying (into shared memory), and making, which is a sample as a whole, around its reading
    and transforming.
    """

    who: str | int
    what: str
    batch: int
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass
class Timeline:
    "The spans of one run, and its length in seconds"

    spans: list[Span] = field(default_factory=list)
    seconds: float = 0.0
    samples: int = 0

    def total(self, *what: str, who=None) -> float:
        "Seconds spent on `what` in all, or by one process"
        return sum(s.seconds for s in self.spans if s.what in what and (who is None or s.who == who))

    @property
    def waiting_share(self) -> float:
        "Share of the run in which the main process waited for a batch, 0 to 1"
        return self.total("starting", "waiting") / max(self.seconds, 1e-9)

    @property
    def rate(self) -> float:
        "Samples a second, over the whole run"
        return self.samples / max(self.seconds, 1e-9)

    def write_trace(self, file):
        "Writes the run in Chrome's trace format (Google, Trace Event Format, 2016), which Perfetto opens."
        events = [
            {"name": s.what, "ph": "X", "ts": 1e6 * s.start, "dur": 1e6 * s.seconds}
            | {"pid": 1, "tid": tid(s.who), "args": {"batch": s.batch}}
            for s in self.spans
        ]
        names = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": tid(who), "args": {"name": name_of(who)}}
            for who in {s.who for s in self.spans}
        ]
        Path(file).write_text(json.dumps({"traceEvents": names + events, "displayTimeUnit": "ms"}))


def tid(who) -> int:
    return 0 if who == "main" else who + 1


def name_of(who) -> str:
    if who == "main":
        return "main process"
    return who if isinstance(who, str) else f"worker {who}"


def gathered(timeline: Timeline) -> dict:
    """{(who, what): [(start, seconds), ...]}, to be drawn.

    What the samples of a batch took is put together by kind, for those of one sample are too short to see.
    """
    batches = {}
    for span in timeline.spans:
        batches.setdefault((span.who, span.batch), []).append(span)
    drawn = {}
    for (who, _), spans in batches.items():
        work = [span for span in spans if span.what in WORK]
        at = min((span.start for span in work), default=0.0)
        took = {what: sum(span.seconds for span in work if span.what == what) for what in WORK}
        took["making"] -= took["reading"] + took["transforming"]
        for what, seconds in took.items():
            if seconds > 0:
                drawn.setdefault((who, what), []).append((at, seconds))
                at += seconds
        for span in spans:
            if span.what not in WORK:
                drawn.setdefault((who, span.what), []).append((span.start, span.seconds))
    return drawn


# Inside the process that makes batches.


@dataclass
class Recorded:
    "A batch and what its process did for it. No container that pin_memory would take apart."

    batch: object
    who: str | int
    spans: list
    cpu_seconds: float  # of the process's main thread, from the batch's first sample to its hand-over
    queued_seconds: float  # in which that thread could have run, and had no CPU
    process_seconds: float  # of CPU, of the process since its start


class RecordedDataset(torch.utils.data.Dataset):
    "A dataset that notes what its samples take. It is taken apart in the worker, so that it can be pickled."

    def __init__(self, dataset):
        self.dataset = dataset
        self.inner: Any = None

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        self._open()
        return self.inner[index]

    def __getitems__(self, indices):
        self._open()
        if not getattr(self.inner, "__getitems__", None):
            return [self.inner[index] for index in indices]
        start = time.perf_counter()
        samples = self.inner.__getitems__(indices)
        if not any(what == "making" for what, *_ in spans):  # it makes the batch at once
            spans.append(("making", start, time.perf_counter()))
        return samples

    def _open(self):
        if self.inner is None:
            self.inner = noting(self.dataset)
        spans[:] = [("cpu", time.thread_time(), queued())]


def noting(dataset):
    """A copy of `dataset` that notes each of its samples and, where it has the methods `load` and
    `transform`, as my_classes.Dataset has, what they take."""
    noted = copy.copy(dataset)
    if isinstance(dataset, Subset):
        noted.dataset = noting(dataset.dataset)
        return noted
    methods = {"__getitem__": timed("making", type(dataset).__getitem__)}
    try:
        noted.__class__ = type(type(dataset).__name__, (type(dataset),), methods)
    except TypeError:  # of a built-in type, such as a list of samples
        return type("Samples", (), methods | {"__getitem__": timed("making", lambda _, i: dataset[i])})()
    for name, what in (("load", "reading"), ("transform", "transforming")):
        if callable(method := getattr(dataset, name, None)):
            setattr(noted, name, timed(what, method))
    return noted


def timed(what: str, function: Callable) -> Callable:
    def call(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spans.append((what, start, time.perf_counter()))

    return call


class RecordedCollate:
    """Collates with `collate_fn`, then moves the batch into shared memory.

    A worker's queue would do that a moment later in a thread of its own; done here, it can be timed.
    """

    def __init__(self, collate_fn):
        self.collate_fn = collate_fn

    def __call__(self, samples):
        start = time.perf_counter()
        batch = self.collate_fn(samples)
        made = time.perf_counter()
        spans.append(("collating", start, made))
        worker = get_worker_info()
        if worker is not None:
            share(batch)
            spans.append(("copying", made, time.perf_counter()))
        (_, cpu, waited), *noted = spans
        return Recorded(
            batch,
            "main" if worker is None else worker.id,
            noted,
            time.thread_time() - cpu,
            queued() - waited,
            time.process_time(),
        )


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


# In the main process.


def record(loader: DataLoader, step: Any = None, timeout: float = 60) -> Timeline:
    """One epoch of `loader`, with `step(*batch)` called on each batch, and what each process did meanwhile.

    The loader is left alone: a copy of it runs, with the same sampler and settings. Raises ValueError for an
    IterableDataset, whose samples nobody else can time, TimeoutError if workers deliver nothing for `timeout`
    seconds, and whatever dataset or step raise.
    """
    timeline = Timeline()
    begin = time.perf_counter()

    def note(who, what, batch, start, end):
        timeline.spans.append(Span(who, what, batch, start - begin, end - begin))

    with delivered(patient(recording(loader), timeout)) as batches:
        iterator = iter(batches)
        now = time.perf_counter()
        note("main", "starting", 0, begin, now)
        batch = 0
        while True:
            asked = now
            recorded = next(iterator, None)
            now = time.perf_counter()
            note("main", "waiting", batch, asked, now)
            if recorded is None:
                break
            for what, start, end in recorded.spans:
                note(recorded.who, what, batch, start, end)
            if step is not None:
                step(*as_arguments(recorded.batch))
            timeline.samples += samples_in(recorded.batch)
            computed, now = now, time.perf_counter()
            note("main", "computing", batch, computed, now)
            batch += 1
    if hasattr(step, "synchronize"):
        step.synchronize()
        note("main", "computing", batch, now, time.perf_counter())
    timeline.seconds = time.perf_counter() - begin
    return timeline


def recording(loader: DataLoader, **changes) -> DataLoader:
    "A copy of `loader` whose batches are `Recorded`. Raises ValueError for an IterableDataset."
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        raise ValueError("only a DataLoader over a dataset with __getitem__ can be recorded")
    return similar(
        loader,
        dataset=RecordedDataset(loader.dataset),
        collate_fn=RecordedCollate(loader.collate_fn),
        persistent_workers=False,
        **changes,
    )
