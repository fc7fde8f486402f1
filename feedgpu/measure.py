"""The measurements of the course: what this machine is, how an epoch's time is spent, and why."""

import os
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import get_start_method
from pathlib import Path
from statistics import median

import psutil
import torch
from torch.utils.data import DataLoader

from feedgpu.page_cache import NotCold, evict, warm
from feedgpu.pictures import number, percent
from feedgpu.predict import calibrate
from feedgpu.timeline import as_arguments, delivered, first_batches, patient, recording, samples_in, similar
from my_classes import Meter, available_cpus
from my_prefetch import tensors


@dataclass
class Spread:
    "The median of repeated measurements, and the least and the greatest of them"

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        values = list(values)
        return cls(median(values), min(values), max(values))

    def __format__(self, unit: str) -> str:
        "f'{spread:samples/s}': the median, and from where to where; '%' and 'ms' scale it"
        scale = {"%": 100, "ms": 1e3, "µs": 1e6}.get(unit, 1)
        middle, low, high = (number(scale * x, 2 if unit == "%" else 3) for x in vars(self).values())
        if unit == "%":
            return f"≈ {middle} % (≈ {low} to ≈ {high} %)"
        return f"{middle} {unit} ({low}–{high} {unit})"


def alternate(runs: dict[str, Callable[[], float]], rounds: int = 5) -> dict[str, Spread]:
    """Measures several things in turn, `rounds` times over, so that a disturbance meets all of them.

    `runs`: {name: function that measures once and returns the number}. Returns {name: Spread}.
    """
    values = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            values[name].append(run())
    return {name: Spread.of(found) for name, found in values.items()}


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

    One epoch over `batches` as they come, then one over the same batches held in memory:
    1 - replayed / real. After DS-Analyzer (Mohan et al., VLDB 2021), which replays a cached batch. Unlike the
    waiting it also counts what the loading takes from the step, such as the CPUs that workers use. Raises
    ValueError for what can be gone through only once, or yields nothing.
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


@dataclass
class Stalls:
    """What `stalls` measured. Rates in samples/s, shares 0 to 1, `first_batch` in seconds.

    `cold` and `fetch_stall` are None where nothing could be made cold; `not_cold` says why.
    """

    ingestion: Spread  # with batches from memory: what the step could take
    warm: Spread  # from files in the page cache
    cold: Spread | None
    waiting: Spread
    first_batch: Spread
    prep_stall: Spread  # the data stall of the warm epoch: making and handing over samples
    fetch_stall: Spread | None  # and of the cold epoch against the warm one: reading them from the disk
    not_cold: str = ""

    def __str__(self) -> str:
        lines = [
            f"ingestion rate   {self.ingestion:samples/s}   batches from memory",
            f"warm rate        {self.warm:samples/s}   prep stall {self.prep_stall:%}",
        ]
        if self.cold:
            lines += [f"cold rate        {self.cold:samples/s}   fetch stall {self.fetch_stall:%}"]
        else:
            lines += [f"cold rate        not measured: {self.not_cold}"]
        lines += [f"waiting          {self.waiting:%}", f"first batch      {self.first_batch:ms}"]
        return "\n".join(lines)


def stalls(loader: DataLoader, step: Callable, rounds: int = 3, device="cpu", timeout: float = 60) -> Stalls:
    """Where an epoch's time goes, by leaving out one cause after another: the differential measurement of
    DS-Analyzer (Mohan et al., VLDB 2021, section 4).

    The two stalls are shares of different epochs, so they do not add up; and the warm one holds all that
    workers cost, their start and end included. Cold are the files' bytes: what the system knows of folders,
    and what a disk outside this machine keeps in its own memory, stays.

    In each of `rounds` rounds one epoch over batches held in memory, one over the loader with its files in
    the page cache, and one with its files taken out of it. prep stall = 1 - warm / ingestion, fetch stall =
    1 - cold / warm. All epochs have the same batches.

    The files are those that Python is seen to open while the samples are read once. Raises ValueError for a
    loader that yields nothing, TimeoutError if a worker delivers nothing for `timeout` seconds.
    """
    fixed = patient(first_batches(loader), timeout)
    with opened() as files:
        batches = sum(1 for _ in similar(fixed, num_workers=0))
    held = hold(fixed)
    samples = sum(samples_in(batch) for batch in replay(held, batches))
    not_cold = "" if files else "no file was seen to be opened when samples were read"
    names = "ingestion", "warm", "cold", "waiting", "first_batch", "prep_stall", "fetch_stall"
    found = {name: [] for name in names}
    for _ in range(rounds):
        replayed = run_epoch(replay(held, batches), step, device).seconds
        warm(files)
        meter = run_epoch(fixed, step, device)
        found["ingestion"].append(samples / replayed)
        found["warm"].append(samples / meter.seconds)
        found["waiting"].append(meter.waiting_share)
        found["first_batch"].append(meter.waiting[0])
        found["prep_stall"].append(max(0.0, 1 - replayed / meter.seconds))
        if not not_cold:
            try:
                evict(files)
            except NotCold as error:
                not_cold = str(error)
                found["cold"] = found["fetch_stall"] = []
                continue
            cold = run_epoch(fixed, step, device).seconds
            found["cold"].append(samples / cold)
            found["fetch_stall"].append(max(0.0, 1 - meter.seconds / cold))
    return Stalls(**{name: Spread.of(of) if of else None for name, of in found.items()}, not_cold=not_cold)


# Python's own files, and those that are none.
NO_SAMPLES = [*{*sysconfig.get_paths().values(), f"{sys.prefix}/lib", f"{sys.base_prefix}/lib"}]
NO_SAMPLES += ["/proc", "/sys", "/dev"]
listening = None  # a set, while the files that are opened are noted


def note_opened(event: str, args: tuple):
    if listening is not None and event == "open" and isinstance(args[0], (str, Path)):
        listening.add(str(args[0]))


@contextmanager
def opened():
    """The files that this process opens in the block, as a list that is filled at its end.

    Python tells its audit hooks of every file that it opens itself; a library in C may open others.
    """
    global listening
    if not hasattr(opened, "hooked"):
        sys.addaudithook(note_opened)  # for good: a hook cannot be taken away
        opened.hooked = True
    files, listening = [], set()
    try:
        yield files
    finally:
        names, listening = listening, None
        paths = [Path(name).resolve() for name in sorted(names)]
        files += [path for path in paths if path.is_file() and not any(map(path.is_relative_to, NO_SAMPLES))]


def sample_parts(loader: DataLoader, rounds: int = 3) -> dict[str, Spread]:
    """Where the time of one sample goes, in seconds a sample, files in the page cache and nobody in the way.

    "open and read": the bytes of its own files. "deserialise": the rest of the dataset's method `load`, or of
    the whole sample if there is none. "transform": its `transform`. "the rest" of `__getitem__`. And its
    part of the batch's "collate" and, if the loader has workers, of the hand-over between processes: "copy"
    in the worker, "receive" in the main process.

    Raises ValueError for an IterableDataset and for a loader that yields nothing.
    """
    one = recording(first_batches(loader, 1), num_workers=0)
    with opened() as files:
        batches = [recorded.batch for recorded in hold(one)]
    samples = sum(map(samples_in, batches))
    if max((file.stat().st_size for file in files), default=0) > 4 * sum(X.nbytes for X in tensors(batches)):
        files = []  # a pack, say: reading its rows cannot be told from copying them
    found = {}
    for _ in range(rounds):
        warm(files)
        begin = time.perf_counter()
        for file in files:
            file.read_bytes()
        read = time.perf_counter() - begin
        took = {"transforming": 0.0}
        for recorded in one:
            for what, start, end in recorded.spans:
                took[what] = took.get(what, 0.0) + end - start
        loading = took.get("reading", took["making"] - took["transforming"])
        now = {
            "open and read": read,
            "deserialise": max(0.0, loading - read),
            "transform": took["transforming"],
            "the rest": max(0.0, took["making"] - loading - took["transforming"]),
            "collate": took["collating"],
        }
        if loader.num_workers:
            parts = calibrate(loader)
            now |= {"copy": parts.copying, "receive": parts.receiving}
        for name, value in now.items():
            found.setdefault(name, []).append(value / samples)
    return {name: Spread.of(values) for name, values in found.items()}


def because(found: Stalls, parts: dict[str, Spread]) -> str:
    "Why the model waits, in a sentence, from what `stalls` and `sample_parts` measured"
    stall = found.prep_stall.median
    largest = max(parts, key=lambda name: parts[name].median)
    share = parts[largest].median / sum(part.median for part in parts.values())
    if stall < 0.05:
        said = f"Batches from memory would save {percent(stall)} of the time, so data is not what takes it"
    else:
        said = f"Your model waits: {percent(stall)} of the time would vanish if batches were free; "
        said += f"{percent(share)} of a sample's time is to {largest.replace('the rest', 'do the rest')}"
    if found.fetch_stall and found.fetch_stall.median >= 0.05:
        said += f"; from the disk an epoch takes {1 / (1 - found.fetch_stall.median):.1f} times as long"
    return said + "."


def memory() -> int:
    """Bytes of memory that this process could have: the machine's, or its container's limit if less."""
    total = psutil.virtual_memory().total
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if Path(file).exists() and (limit := Path(file).read_text().strip()).isdecimal():
            total = min(total, int(limit))
    return total


def machine(folder=".") -> dict[str, str]:
    """What this machine can show: {what: in words}. `folder`: whose disk is looked at."""
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda, {torch.cuda.get_device_name()}"
    elif torch.backends.mps.is_available():
        device = "mps"
    return {
        "CPUs in the machine": str(os.cpu_count()),
        "CPUs that this process may use": str(available_cpus()),
        "threads of one torch operation": str(torch.get_num_threads()),
        "memory": f"{memory() / 1e9:.1f} GB",
        "free on this disk": f"{shutil.disk_usage(folder).free / 1e9:.0f} GB",
        "start method of workers": get_start_method(allow_none=False),
        "device": device,
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}",
    }
