"""What a DataLoader should deliver, from the measured times of its parts, before it is tried.

    parts = calibrate(training_generator)
    rate(parts, workers=2, step=0.008)                # by hand: a minimum of three numbers
    simulate(parts, workers=2, step=0.008).rate       # and by a small simulation of who waits for whom

All times are in seconds.
"""

import heapq
import os
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from multiprocessing import get_start_method
from statistics import fmean, median

import psutil
from torch.utils.data import DataLoader

from feedgpu.timeline import Span, Timeline, delivered, first_batches, patient, recording, samples_in
from my_classes import available_cpus


@dataclass
class Parts:
    "The times of the parts of a loader, in seconds, as one worker needs them that has a CPU for itself"

    samples: list[float]  # to make one sample, each as often as it came up
    cpu_share: float  # of that time: 1 for a sample that computes, near 0 for one that waits
    collating: float  # of one batch
    copying: float  # of one batch into shared memory: the worker's side of the hand-over
    receiving: float  # of one batch that is ready: the main process's side
    starting: float  # of one worker, in the main process
    arriving: float  # of one worker, until it asks for its first batch
    ending: float  # of the epoch: the workers go
    batch_size: int
    cpus: float = 0.0  # that workers and step share; 0: all that this process may use
    others: float = 0.0  # CPUs' worth of work that other programs wanted meanwhile
    delays: tuple = (0.0,)  # of a batch on its way: the worker posts it while it makes the next one
    in_main: "Parts | None" = None  # samples, cpu_share and collating without workers, if they differ

    def __post_init__(self):
        times = [*self.samples, self.collating, self.copying, self.receiving]
        times += [self.starting, self.arriving, self.ending, self.cpus, self.others, *self.delays]
        finite = all(0 <= one < inf for one in times)  # false for NaN, too
        if not (self.samples and finite and self.batch_size >= 1 and 0 <= self.cpu_share <= 1):
            raise ValueError(
                "parts need at least one sample time, times that are finite and not negative, a batch size "
                "of at least 1 and a CPU share from 0 to 1"
            )
        self.cpus = self.cpus or available_cpus()

    @property
    def alone(self) -> "Parts":
        "The parts without workers"
        return self.in_main or self

    @property
    def sample(self) -> float:
        "Seconds that a worker spends on one sample, with its part of the batch's collating and copying"
        return fmean(self.samples) + (self.collating + self.copying) / self.batch_size

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


def calibrate(loader: DataLoader, batches: int = 8) -> Parts:
    """Measures the parts of `loader` on its first batches, with one worker and an idle main process.

    Takes the time of about three times `batches`. Raises ValueError if the loader yields nothing.
    """
    before = busy_elsewhere()
    fast, arrived, starting, ending = one_worker(first_batches(loader, batches))
    calm, _, ready = one_worker(first_batches(loader, batches), pausing=True)
    with delivered(recording(first_batches(loader, 3), num_workers=0)) as here:
        alone = made_of(list(counted(here)))
    (worked, until), (work, since) = busy_elsewhere(), before
    if "forkserver" in str(loader.multiprocessing_context or get_start_method(allow_none=False)).lower():
        worked -= fast[-1].process_seconds + calm[-1].process_seconds  # no children of this process
    spans = [span for one in fast for span in one.spans]
    idle = [b.spans[0][1] - a.spans[-1][2] for a, b in pairwise(fast)]
    posted = [now - one.spans[-1][2] for one, now in zip(fast, arrived, strict=True)]
    receiving = median(ready[1:] or ready)
    return Parts(
        **made_of(fast),
        copying=median(seconds(spans, "copying")) + median(idle or [0.0]),
        receiving=receiving,
        starting=starting,
        arriving=max(0.0, spans[0][1] - starting),
        ending=ending,
        others=max(0.0, (worked - work) / (until - since)),
        delays=tuple(max(0.0, one - receiving) for one in posted[1:-1] or posted),
        in_main=Parts(**alone, copying=0, receiving=0, starting=0, arriving=0, ending=0),
    )


def counted(batches: Iterable) -> Iterator:
    """Recorded batches with the number of their samples in the place of the samples themselves.

    A batch that is kept makes the next one take fresh memory from the system, up to 1.3 times as slow, where
    a loop that lets go of it uses the same memory again.
    """
    for one in batches:
        one.batch = samples_in(one.batch)
        yield one


def made_of(recorded: list) -> dict:
    "Of the parts, those that tell how batches were made"
    samples = []
    for one in recorded:
        took = seconds(one.spans, "making")
        number = one.batch  # where a dataset makes a batch at once, a sample is its part of that
        samples += took if len(took) == number else [sum(took) / number] * number
    spans = [span for one in recorded for span in one.spans]
    collating = seconds(spans, "collating")
    moving = sum(collating) + sum(seconds(spans, "copying"))
    # The simulation lets CPUs be shared; what other programs took from this run is left out here.
    running = 1 - min(0.95, sum(one.queued_seconds for one in recorded) / max(sum(samples) + moving, 1e-12))
    samples = [took * running for took in samples]
    used = sum(one.cpu_seconds for one in recorded) - moving * running
    return {
        "samples": samples,
        "cpu_share": min(1.0, max(0.0, used / max(sum(samples), 1e-12))),
        "collating": median(collating),
        "batch_size": max(one.batch for one in recorded),
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


def one_worker(loader: DataLoader, pausing: bool = False) -> tuple:
    """What one worker delivers: `(recorded, arrived, started, ended)`, the batches, when each came, when the
    worker had been started and how long the end took. `pausing`: its batches are ready before they are asked
    for, while it works on; `ended` is then a list of how long each had to be waited for.
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
                time.sleep(1.1 * (one.spans[-1][2] - one.spans[0][1]))
            asked = time.perf_counter()
        ended = time.perf_counter() - asked
    if not recorded:
        raise ValueError("the loader yields no batch, so there is nothing to measure")
    for one in recorded:
        one.spans = [(what, start - begin, end - begin) for what, start, end in one.spans]
    if pausing:
        return recorded, arrived, waited
    return recorded, arrived, started - begin, ended


def seconds(spans: list, what: str) -> list[float]:
    return [end - start for kind, start, end in spans if kind == what]


def rate(parts: Parts, workers: int, step: float = 0.0, step_cpus: float = 0.0, run_ahead: int = 0) -> float:
    """Samples a second, by hand: the slowest of three, which are the workers, the main process and the CPUs.

    `step`: seconds of a training step, of one batch. `step_cpus`: how many CPUs it uses. `run_ahead`: as in
    `simulate`; a device with a queue computes while the main process receives.
    """
    each = step / parts.batch_size
    if workers == 0:
        here = parts.alone
        return 1 / max(fmean(here.samples) + here.collating / here.batch_size + each, 1e-12)
    receiving = parts.receiving / parts.batch_size
    main = max(receiving, each) if run_ahead else receiving + each
    return min(
        workers / max(parts.sample, 1e-12),
        1 / max(main, 1e-12),
        parts.cpus / max(parts.cpu + step_cpus * each, 1e-12),
    )


def simulate(
    parts: Parts,
    workers: int,
    batches: int = 32,
    step: float = 0.0,
    step_cpus: float = 0.0,
    prefetch: int = 2,
    run_ahead: int = 0,
    persistent: bool = False,
    seed: int = 0,
) -> Timeline:
    """One epoch of a DataLoader with `workers`, as a Timeline: who would do what when.

    It has the loader's own rules: a queue of indices for each worker, dealt in turn; batches delivered in
    order; at most `prefetch` batches a worker asked for and not yet delivered. Sample times are drawn from
    `parts.samples`; processes that compute share the CPUs. `run_ahead`: steps that the device's queue holds
    before the main process must wait. `persistent`: the workers are there already.
    """
    counts = workers, batches, prefetch, run_ahead
    if any(int(count) != count for count in counts) or not (
        0 <= min(step, step_cpus) and max(step, step_cpus) < inf
    ):
        raise ValueError("a run needs whole numbers of workers, batches and steps, and a finite step")
    if min(workers, run_ahead) < 0 or min(batches, prefetch) < 1:
        raise ValueError("a run needs at least one batch and a prefetch of 1, and no negative number")
    world, draw, timeline = World(parts.cpus, parts.others), random.Random(seed), Timeline()
    asked = [deque() for _ in range(workers)]  # numbers of batches, for each worker
    ready, ends = deque(), deque()

    def note(who, what, batch, start):
        if world.now > start:
            timeline.spans.append(Span(who, what, batch, start, world.now))

    def make(who, batch, parts=parts):
        start = world.now
        for took in draw.choices(parts.samples, k=parts.batch_size):
            yield "sleep", took * (1 - parts.cpu_share)
            yield "compute", took * parts.cpu_share, 1
        note(who, "making", batch, start)
        start = world.now
        yield "compute", parts.collating, 1
        note(who, "collating", batch, start)

    def worker(number):
        if not persistent:
            yield "compute", parts.arriving, 1
        while True:
            batch = yield "get", asked[number]
            yield from make(number, batch)
            start = world.now
            yield "compute", parts.copying, 1
            note(number, "copying", batch, start)
            world.start(post(batch, draw.choice(parts.delays) if asked[number] else 0.0))

    def post(batch, delay):
        yield "sleep", delay  # its worker's next batch is in the way
        ready.append(batch)

    def main():
        for number in range(workers):
            if not persistent:
                yield "compute", parts.starting, 1
            world.start(worker(number))
        note("main", "starting", 0, 0.0)
        sent = 0
        for sent in range(min(batches, workers * prefetch)):
            asked[sent % workers].append(sent)
        sent += 1
        here = set()
        for batch in range(batches):
            start = world.now
            if workers == 0:
                yield from make("main", batch, parts.alone)
            while workers and batch not in here:
                here.add((yield "get", ready))
                yield "compute", parts.receiving, 1
            if workers and sent < batches:
                asked[sent % workers].append(sent)
                sent += 1
            note("main", "waiting", batch, start)
            start = world.now
            if step_cpus:
                yield "compute", step, step_cpus
            else:
                ends.append(max(world.now, ends[-1] if ends else 0.0) + step)
                if len(ends) > run_ahead:
                    yield "sleep", max(0.0, ends[-1 - run_ahead] - world.now)
            note("main", "computing", batch, start)
        if workers and not persistent:
            start = world.now
            yield "sleep", parts.ending * (1 + workers) / 2  # 1 to 4 workers: measured 9, 14, 21 and 25 ms
            note("main", "waiting", batches, start)
        if ends:
            yield "sleep", max(0.0, ends[-1] - world.now)

    world.run(main())
    timeline.seconds, timeline.samples = world.now, batches * parts.batch_size
    return timeline


class World:
    """A clock for processes written as generators, which yield what they do next:
    ("sleep", seconds), ("compute", seconds, CPUs) or ("get", deque).

    Those that compute share the CPUs evenly: where they ask for more than there are, all go slower. So a
    second clock, of work, runs at the rate that each of them has.
    """

    def __init__(self, cpus: float, others: float = 0.0):
        "`others`: CPUs' worth of work that somebody else always wants"
        self.cpus, self.now, self.work, self.load, self.count = cpus, 0.0, 0.0, others, 0
        self.sleeping, self.computing, self.getting = [], [], []

    def start(self, process):
        self.proceed(process, None)

    def proceed(self, process, value):
        try:
            what, *how = process.send(value)
        except StopIteration:
            return
        self.count += 1  # of two that are due at once, the one that came first
        if what == "get":
            self.getting.append((process, how[0]))
        elif what == "sleep":
            heapq.heappush(self.sleeping, (self.now + how[0], self.count, process))
        else:
            self.load += how[1]
            heapq.heappush(self.computing, (self.work + how[0], self.count, process, how[1]))

    def run(self, main):
        "Until `main` has ended. Raises RuntimeError if nothing can happen any more."
        self.start(main)
        while self.deliver() or main.gi_frame is not None:
            speed = min(1.0, self.cpus / self.load) if self.load else 1.0
            wakes = self.sleeping[0][0] if self.sleeping else inf
            done = self.now + (self.computing[0][0] - self.work) / speed if self.computing else inf
            moment = min(wakes, done)
            if moment == inf:
                raise RuntimeError("nothing will happen any more: all processes wait for one another")
            self.work += (moment - self.now) * speed
            self.now = moment
            if wakes <= done:
                process = heapq.heappop(self.sleeping)[2]
            else:
                _, _, process, cpus = heapq.heappop(self.computing)
                self.load -= cpus
            self.proceed(process, None)

    def deliver(self):
        "Gives what is in the queues to those who wait for it, until nobody gets anything."
        while able := next((one for one in self.getting if one[1]), None):
            self.getting.remove(able)
            self.proceed(able[0], able[1].popleft())
