"""Who did what when: a real run of a loader, recorded in all its processes and threads, and drawn.

timeline = record(training_generator, step)
pictures.gantt({"measured": timeline})
timeline.write_trace("trace.json")       # for ui.perfetto.dev or chrome://tracing
"""

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .loaders import Loader, as_arguments, delivered, patient, samples_in
from .recorder import recording

WORK = ("reading", "transforming", "making", "collating", "copying")  # what a worker does


@dataclass
class Span:
    """Something that was done for one batch, from `start` to `end`, in seconds since the run's start.

    `who`: "main", the worker's number or, where batches are made in the same process, the name of the thread,
    such as "PrefetchLoader"; or another name, as in feedgpu.measure.streams. `what`: starting (of workers),
    waiting or computing in the main process; where batches are made reading, transforming, collating or
    copying (into shared memory), and making, which is a sample as a whole, or a batch that is made at once,
    around its reading and transforming.
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
        tids = numbered({s.who for s in self.spans})
        events = [
            {"name": s.what, "ph": "X", "ts": 1e6 * s.start, "dur": 1e6 * s.seconds}
            | {"pid": 1, "tid": tids[s.who], "args": {"batch": s.batch}}
            for s in self.spans
        ]
        names = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": {"name": name_of(who)}}
            for who, tid in tids.items()
        ]
        Path(file).write_text(json.dumps({"traceEvents": names + events, "displayTimeUnit": "ms"}))


def numbered(names: set) -> dict[str | int, int]:
    "A number for each who: 0 for the main process, then the workers, then all others"
    workers = {who: who + 1 for who in names if isinstance(who, int)}
    others = sorted(who for who in names - {"main"} if isinstance(who, str))
    last = max(workers.values(), default=0)
    return {"main": 0} | workers | {who: last + i for i, who in enumerate(others, 1)}


def name_of(who) -> str:
    if who == "main":
        return "main process"
    return who.replace("_", " ") if isinstance(who, str) else f"worker {who}"  # a pool's threads: name_0


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


def record(loader: Loader, step: Any = None, timeout: float = 60) -> Timeline:
    """One epoch of `loader`, with `step(*batch)` called on each batch, and what each process did meanwhile.

    `loader`: a DataLoader or a PrefetchLoader, whose thread has a row of its own, as have the threads of a
    dataset that makes its samples in several. The loader is left alone: a copy of it runs, with the same
    sampler and settings. Raises ValueError for an IterableDataset, whose samples nobody else can time,
    TimeoutError if workers deliver nothing for `timeout` seconds, and whatever dataset or step raise.
    """
    timeline, here = Timeline(), threading.current_thread().name
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
            for who, what, start, end in recorded.notes.spans:
                note("main" if who == here else who, what, batch, start, end)
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
