"""The parts of a loader, measured: what one worker and an idle main process need for each of them; or the
thread of a PrefetchLoader."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from multiprocessing import get_start_method
from statistics import fmean, median

import psutil

from ..prefetch import PrefetchLoader
from ..system import available_cpus
from .loaders import Loader, delivered, first_batches, patient, samples_in
from .recorder import recording


@dataclass
class Parts:
    "The seconds that each part of a loader takes, for one worker that has a CPU to itself"

    samples: list[float]  # to make one sample, each as often as it came up
    cpu_share: float  # of that time: 1 for a sample that computes, near 0 for one that waits
    collating: float = 0.0  # of one batch
    copying: float = 0.0  # of one batch into shared memory: the worker's side of the hand-over
    receiving: float = 0.0  # of one batch that is ready: the main process's side
    starting: float = 0.0  # of one worker, in the main process
    arriving: float = 0.0  # of one worker, until it asks for its first batch
    ending: float = 0.0  # of the epoch: the workers go
    batch_size: int = 1
    cpus: float = 0.0  # that workers and step share; 0: all that this process may use
    others: float = 0.0  # CPUs' worth of work that other programs wanted meanwhile
    delays: tuple = (0.0,)  # of a batch on its way: the worker posts it while it makes the next one
    in_main: "Parts | None" = None  # samples, cpu_share and collating without workers, if they differ
    threads: int = 1  # that make the samples of a batch, each on its own CPU if there is one
    within: bool = False  # whether the worker is a thread of this process, as that of a PrefetchLoader

    def __post_init__(self):
        times = [*self.samples, self.collating, self.copying, self.receiving]
        times += [self.starting, self.arriving, self.ending, self.cpus, self.others, *self.delays]
        finite = all(0 <= one < inf for one in times)  # false for NaN, too
        least = min(self.batch_size, self.threads)
        if not (self.samples and finite and least >= 1 and 0 <= self.cpu_share <= 1):
            raise ValueError(
                "parts need at least one sample time, times that are finite and not negative, a batch size "
                "and threads of at least 1 and a CPU share from 0 to 1"
            )
        self.cpus = self.cpus or available_cpus()

    @property
    def alone(self) -> "Parts":
        "The parts without workers"
        return self.in_main or self

    @property
    def sample(self) -> float:
        "Seconds that a worker spends on one sample, with its part of the batch's collating and copying"
        return self.making + (self.collating + self.copying) / self.batch_size

    @property
    def making(self) -> float:
        "Seconds after which there is one more sample: a sample's share of its threads' time"
        return fmean(self.samples) / self.threads

    @property
    def cpu(self) -> float:
        "Seconds of a CPU in that"
        return (
            fmean(self.samples) * self.cpu_share
            + (self.collating + self.copying + self.receiving) / self.batch_size
        )

    def with_batch_size(self, batch_size: int) -> "Parts":
        "Collating and copying grow with the batch; receiving does not."
        scale = batch_size / self.batch_size
        return replace(
            self,
            batch_size=batch_size,
            collating=self.collating * scale,
            copying=self.copying * scale,
            in_main=self.in_main and self.in_main.with_batch_size(batch_size),
        )


def measure_parts(loader: Loader, batches: int = 8) -> Parts:
    """Measures the parts of `loader` on its first batches, with one worker and an idle main process.

    This takes about as long as loading three times that many batches. Of a PrefetchLoader the thread takes
    the place of the worker: nothing starts, and nothing is handed over from process to process. Raises
    ValueError if the loader yields no batch.
    """
    if isinstance(loader, PrefetchLoader):
        return of_thread(first_batches(loader, batches))
    before = busy_elsewhere()
    fast, arrived, starting, ending = one_worker(first_batches(loader, batches))
    calm, _, ready = one_worker(first_batches(loader, batches), pausing=True)
    with delivered(recording(first_batches(loader, 3), num_workers=0)) as here:
        alone = made_of(list(counted(here)))
    (worked, until), (work, since) = busy_elsewhere(), before
    if "forkserver" in str(loader.multiprocessing_context or get_start_method(allow_none=False)).lower():
        worked -= fast[-1].notes.process_seconds + calm[-1].notes.process_seconds  # no children of this one
    spans = [span for one in fast for span in one.notes.spans]
    posted = [now - one.notes.ended for one, now in zip(fast, arrived, strict=True)]
    receiving = median(ready[1:] or ready)
    return Parts(
        **made_of(fast),
        copying=median(seconds(spans, "copying")) + between(fast),
        receiving=receiving,
        starting=starting,
        arriving=max(0.0, fast[0].notes.begun - starting),
        ending=ending,
        others=max(0.0, (worked - work) / (until - since)),
        delays=tuple(max(0.0, one - receiving) for one in posted[1:-1] or posted),
        in_main=Parts(**alone),
    )


def of_thread(loader: Loader) -> Parts:
    "The parts of a PrefetchLoader"
    work, since = busy_elsewhere()
    with delivered(recording(loader)) as batches:
        made = list(counted(batches))
    worked, until = busy_elsewhere()
    if not made:
        raise ValueError(NOTHING)
    others = max(0.0, (worked - work) / (until - since))
    return Parts(**made_of(made), copying=max(0.0, between(made)), others=others, within=True)


NOTHING = "the loader yields no batch, so there is nothing to measure"


def counted(batches: Iterable) -> Iterator:
    """Recorded batches with the number of their samples in the place of the samples themselves.

    A batch that is kept makes the next one take fresh memory from the system, up to 1.3 times as slow, where
    a loop that lets go of it uses the same memory again.
    """
    for one in batches:
        yield one._replace(batch=samples_in(one.batch))


def made_of(recorded: list) -> dict:
    "Of the parts, those that tell how batches were made"
    samples = []
    for one in recorded:
        took = seconds(one.notes.spans, "making")
        number = one.batch  # where a dataset makes a batch at once, a sample is its part of that
        samples += took if len(took) == number else [sum(took) / number] * number
    spans = [span for one in recorded for span in one.notes.spans]
    collating = seconds(spans, "collating")
    moving = sum(collating) + sum(seconds(spans, "copying"))
    # The simulation lets CPUs be shared; what other programs took from this run is left out here.
    waited = sum(one.notes.queued_seconds for one in recorded)
    running = 1 - min(0.95, waited / max(sum(samples) + moving, 1e-12))
    samples = [took * running for took in samples]
    used = sum(one.notes.cpu_seconds for one in recorded) - moving * running
    return {
        "samples": samples,
        "cpu_share": min(1.0, max(0.0, used / max(sum(samples), 1e-12))),
        "collating": median(collating),
        "batch_size": max(one.batch for one in recorded),
        "threads": len({who for who, what, *_ in spans if what == "making"}),
    }


def busy_elsewhere() -> tuple[float, float]:
    """Seconds of CPU that other programs, on this machine or beside it (steal), have used, and the moment.

    Always 0 where this process may not use all CPUs: nobody tells who uses the others.
    """
    if available_cpus() < (os.cpu_count() or 1):
        return 0.0, time.perf_counter()
    machine = psutil.cpu_times()
    resting = machine.idle + getattr(machine, "iowait", 0.0)
    twice = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)  # in user and nice already
    return sum(machine) - twice - resting - sum(os.times()[:4]), time.perf_counter()


def one_worker(loader: Loader, pausing: bool = False) -> tuple:
    """What one worker delivers: `(recorded, arrived, started, ending)`, the batches, when each came, when the
    worker had been started and how long the end took. `pausing`: its batches are ready before they are asked
    for, while it works on; `ending` is then a list of how long each had to be waited for.
    """
    begin = time.perf_counter()
    recorded, arrived, waited = [], [], []
    ahead = len(loader) if pausing else 2
    with delivered(patient(recording(loader, num_workers=1, prefetch_factor=ahead), 60)) as batches:
        iterator = iter(batches)
        started = asked = time.perf_counter()
        for one in counted(iterator):
            now = time.perf_counter()
            arrived.append(now - begin)
            waited.append(now - asked)
            recorded.append(one)
            if pausing:
                time.sleep(1.1 * (one.notes.ended - one.notes.begun))
            asked = time.perf_counter()
        ending = time.perf_counter() - asked
    if not recorded:
        raise ValueError(NOTHING)
    for one in recorded:
        one.notes.spans = [(*of, start - begin, end - begin) for *of, start, end in one.notes.spans]
    if pausing:
        return recorded, arrived, waited
    return recorded, arrived, started - begin, ending


def seconds(spans: list, what: str) -> list[float]:
    return [end - start for _, kind, start, end in spans if kind == what]


def between(recorded: list) -> float:
    "Seconds from the end of a batch to the beginning of the next; less than 0 where that is begun before"
    return median([b.notes.begun - a.notes.ended for a, b in pairwise(recorded)] or [0.0])
