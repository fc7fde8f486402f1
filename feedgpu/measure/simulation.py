"""What a loader should deliver, from the measured times of its parts, before it is tried.

    parts = measure_parts(training_generator)
    rate(parts, workers=2, step=0.008)                # by hand: a minimum of three numbers
    simulate(parts, workers=2, step=0.008).rate       # and by a small simulation of who waits for whom

Of a PrefetchLoader measure_parts gives parts that go with workers=1, which is its thread.

All times are in seconds.
"""

import heapq
import random
from collections import deque
from math import inf

from .parts import Parts
from .timeline import Span, Timeline


def rate(parts: Parts, workers: int, step: float = 0.0, step_cpus: float = 0.0, run_ahead: int = 0) -> float:
    """Samples a second, by a formula: the least that workers, main process and CPUs can deliver.

    `step`: the seconds of a training step on one batch. `step_cpus`: how many CPUs the step uses.
    `run_ahead`: as in `simulate`; a device with a queue computes while the main process receives. The formula
    leaves out the start of the workers and what other programs use; `simulate` counts both. Raises ValueError
    for several workers with the parts of a PrefetchLoader.
    """
    refuse_several(parts, workers)
    each = step / parts.batch_size
    if workers == 0:
        here = parts.alone
        return 1 / max(here.making + here.collating / here.batch_size + each, 1e-12)
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
    """Simulates one epoch of a loader with `workers` and returns its Timeline: each process's work.

    The simulation follows the loader's rules. Each worker has a queue of indices, and batches go to the
    workers in turn. Batches are delivered in order. Each worker is asked for at most `prefetch` batches that
    are not yet delivered. Sample times are drawn from `parts.samples`. Processes that compute share the CPUs
    with each other and with the other programs of `parts.others`. `run_ahead`: steps that the device's queue
    holds before the main process must wait. `persistent`: the workers have started already. Raises ValueError
    for impossible settings.

    The thread of a PrefetchLoader is one worker, whose parts have no start and no hand-over. Two things are
    not simulated: a step that holds Python's lock and so holds up the thread; and that small batches are
    handed over several at once, which an epoch of few batches feels.
    """
    refuse_several(parts, workers)
    counts = workers, batches, prefetch, run_ahead
    if any(int(count) != count for count in counts) or not (
        0 <= min(step, step_cpus) and max(step, step_cpus) < inf
    ):
        raise ValueError("a run needs whole numbers of workers, batches and steps, and a finite step")
    if min(workers, run_ahead) < 0 or min(batches, prefetch) < 1:
        raise ValueError("a run needs at least one batch and a prefetch of 1, and no negative number")
    return Epoch(parts, workers, batches, step, step_cpus, prefetch, run_ahead, persistent, seed).run()


def refuse_several(parts: Parts, workers: int) -> None:
    if parts.within and workers > 1:
        raise ValueError(
            "these are the parts of a PrefetchLoader, which has one thread: give workers=1, or measure the "
            "parts of a DataLoader"
        )


class Epoch:
    "One epoch of a DataLoader, played in a World: its processes, and the queues between them"

    def __init__(
        self,
        parts: Parts,
        workers: int,
        batches: int,
        step: float,
        step_cpus: float,
        prefetch: int,
        run_ahead: int,
        persistent: bool,
        seed: int,
    ):
        self.parts, self.workers, self.batches, self.prefetch = parts, workers, batches, prefetch
        self.step, self.step_cpus, self.run_ahead, self.persistent = step, step_cpus, run_ahead, persistent
        self.world, self.draw, self.timeline = (
            World(parts.cpus, parts.others),
            random.Random(seed),
            Timeline(),
        )
        self.asked = [deque() for _ in range(workers)]  # numbers of batches, for each worker
        self.ready = deque()  # numbers of batches that have arrived
        self.ends = deque()  # of steps, on the device

    def run(self) -> Timeline:
        self.world.run(self.main())
        self.timeline.seconds = self.world.now
        self.timeline.samples = self.batches * self.parts.batch_size
        return self.timeline

    def note(self, who, what, batch, start):
        who = "PrefetchLoader" if self.parts.within and who != "main" else who
        if self.world.now > start:
            self.timeline.spans.append(Span(who, what, batch, start, self.world.now))

    def worker(self, number):
        if not self.persistent:
            yield "compute", self.parts.arriving, 1
        while True:
            batch = yield "get", self.asked[number]
            yield from self.make(number, batch, self.parts)
            start = self.world.now
            yield "compute", self.parts.copying, 1
            self.note(number, "copying", batch, start)
            delay = self.draw.choice(self.parts.delays) if self.asked[number] else 0.0
            self.world.start(self.post(batch, delay))

    def make(self, who, batch, parts):
        start = self.world.now
        for took in self.draw.choices(parts.samples, k=parts.batch_size):
            yield "sleep", took * (1 - parts.cpu_share) / parts.threads
            yield "compute", took * parts.cpu_share / parts.threads, parts.threads
        self.note(who, "making", batch, start)
        start = self.world.now
        yield "compute", parts.collating, 1
        self.note(who, "collating", batch, start)

    def post(self, batch, delay):
        yield "sleep", delay  # its worker's next batch is in the way
        self.ready.append(batch)

    def main(self):
        yield from self.start_workers()
        first = min(self.batches, self.workers * self.prefetch)
        for batch in range(first):
            self.asked[batch % self.workers].append(batch)
        following, here = iter(range(first, self.batches)), set()
        for batch in range(self.batches):
            start = self.world.now
            if self.workers:
                yield from self.receive(batch, here)
                if (more := next(following, None)) is not None:
                    self.asked[more % self.workers].append(more)
            else:
                yield from self.make("main", batch, self.parts.alone)
            self.note("main", "waiting", batch, start)
            yield from self.compute(batch)
        yield from self.end()

    def start_workers(self):
        for number in range(self.workers):
            if not self.persistent:
                yield "compute", self.parts.starting, 1
            self.world.start(self.worker(number))
        self.note("main", "starting", 0, 0.0)

    def receive(self, batch, here):
        "Takes what has arrived, until `batch` is here"
        while batch not in here:
            here.add((yield "get", self.ready))
            yield "compute", self.parts.receiving, 1

    def compute(self, batch):
        "A step: on CPUs, or on a device that has a queue"
        start = self.world.now
        if self.step_cpus:
            yield "compute", self.step, self.step_cpus
        else:
            self.ends.append(max(start, self.ends[-1] if self.ends else 0.0) + self.step)
            if len(self.ends) > self.run_ahead:
                yield "sleep", max(0.0, self.ends[-1 - self.run_ahead] - start)
        self.note("main", "computing", batch, start)

    def end(self):
        if self.workers and not self.persistent:
            start = self.world.now
            # 1 to 4 workers: measured 9, 14, 21 and 25 ms
            yield "sleep", self.parts.ending * (1 + self.workers) / 2
            self.note("main", "waiting", self.batches, start)
        if self.ends:
            yield "sleep", max(0.0, self.ends[-1] - self.world.now)


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
