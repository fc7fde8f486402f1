"""Why a model waits: its stalls, the parts of one sample, and what follows from them."""

import copy
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset, DataLoader, Subset

from ..packed import PackedDataset
from ..prefetch import tensors
from .epoch import hold, replay, run_epoch
from .loaders import Loader, first_batches, patient, samples_in, similar
from .page_cache import NotCold, evict, files_below, warm
from .parts import measure_parts
from .recorder import recording
from .spread import Spread
from .words import percent


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


def stalls(loader: Loader, step: Callable, rounds: int = 3, device="cpu", timeout: float = 60) -> Stalls:
    """How much of an epoch's time goes to making samples, and how much to reading them from the disk.

    Each of `rounds` rounds runs three epochs over the same batches: with the batches held in memory, with the
    files in the page cache (warm), and with the files taken out of it (cold). Then

        prep stall = 1 - warm rate / ingestion rate      fetch stall = 1 - cold rate / warm rate

    This is the differential measurement of DS-Analyzer (Mohan et al., VLDB 2021, section 4). The two stalls
    are shares of different epochs, so they do not add up. The prep stall includes what workers cost, also
    their start and end. A cold epoch reads the files' bytes from the disk; the system's knowledge of folders
    stays in memory, and so does what a disk outside this machine keeps in a cache of its own.

    The files are those that Python is seen to open while the samples are read once, and those of packs, which
    are open already. `loader`: a DataLoader or a PrefetchLoader. Raises ValueError for a loader that yields
    nothing, TimeoutError if a worker delivers nothing for `timeout` seconds.
    """
    fixed = patient(first_batches(loader), timeout)
    with files_opened() as opened:
        batches = sum(1 for _ in similar(fixed, num_workers=0))
    files = sorted({*opened, *files_of_packs(loader.dataset)})
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
    spreads: dict[str, Any] = {name: Spread.of(of) if of else None for name, of in found.items()}
    return Stalls(**spreads, not_cold=not_cold)


def files_of_packs(dataset: Any) -> list[Path]:
    "Of all packs in a dataset, as a Subset of one"
    if isinstance(dataset, PackedDataset):
        return [file.resolve() for file in files_below(dataset.pack.folder)]
    inside = dataset.datasets if isinstance(dataset, ConcatDataset) else [getattr(dataset, "dataset", None)]
    return [file for one in inside if one is not None for file in files_of_packs(one)]


# Python's own files, and those that are none.
NO_SAMPLES = [*{*sysconfig.get_paths().values(), f"{sys.prefix}/lib", f"{sys.base_prefix}/lib"}]
NO_SAMPLES += ["/proc", "/sys", "/dev"]
listening: set[str] | None = None  # while the files that are opened are noted
hooked = False  # once: a hook cannot be taken away


def note_opened(event: str, args: tuple) -> None:
    if listening is not None and event == "open" and isinstance(args[0], (str, Path)):
        listening.add(str(args[0]))


@contextmanager
def files_opened() -> Iterator[list[Path]]:
    """The files that this process opens in the block, as a list that is filled at its end.

    Python tells its audit hooks of every file that it opens itself; a library in C may open others.
    """
    global listening, hooked
    if not hooked:
        sys.addaudithook(note_opened)
        hooked = True
    files: list[Path] = []
    listening = set()
    try:
        yield files
    finally:
        names, listening = listening, None
        paths = [Path(name).resolve() for name in sorted(names or ())]
        files += [path for path in paths if path.is_file() and not any(map(path.is_relative_to, NO_SAMPLES))]


def sample_parts(loader: Loader, rounds: int = 3) -> dict[str, Spread]:
    """Where the time of one sample goes, in seconds a sample, files in the page cache and nobody in the way.

    The samples are made by one thread, the one that calls this: also those of a PrefetchLoader, and those of
    a dataset that has threads of its own.

    "open and read": reading the bytes of its files. "make": the rest of the dataset's method `load`, or of
    the whole sample if there is no such method; it may deserialise, decode or compute. "transform": the
    dataset's `transform`. "the rest": what else `__getitem__` does. "collate": its share of making the batch.
    If the loader has workers, also its share of the hand-over between processes: "copy" in the worker,
    "receive" in the main process. A pack is open, and reading its rows is copying them: all of it is "make".

    Raises ValueError for an IterableDataset and for a loader that yields nothing.
    """
    dataset = in_one_thread(loader.dataset)
    one = recording(similar(first_batches(loader, 1), DataLoader, dataset=dataset, num_workers=0))
    hold(one)  # once, for what is opened once
    with files_opened() as files:
        batches = [recorded.batch for recorded in hold(one)]
    samples = sum(map(samples_in, batches))
    if max((file.stat().st_size for file in files), default=0) > 4 * sum(X.nbytes for X in tensors(batches)):
        files = []  # one of many samples: reading them cannot be told from copying them
    found = {}
    for _ in range(rounds):
        warm(files)
        begin = time.perf_counter()
        for file in files:
            file.read_bytes()
        read = time.perf_counter() - begin
        took = {"transforming": 0.0}
        for recorded in one:
            for _, what, start, end in recorded.notes.spans:
                took[what] = took.get(what, 0.0) + end - start
        loading = took.get("reading", took["making"] - took["transforming"])
        now = {
            "open and read": read,
            "make": max(0.0, loading - read),
            "transform": took["transforming"],
            "the rest": max(0.0, took["making"] - loading - took["transforming"]),
            "collate": took["collating"],
        }
        if loader.num_workers:
            parts = measure_parts(loader)
            now |= {"copy": parts.copying, "receive": parts.receiving}
        for name, value in now.items():
            found.setdefault(name, []).append(value / samples)
    return {name: Spread.of(values) for name, values in found.items()}


def in_one_thread(dataset: Any) -> Any:
    "A copy that makes its samples in the thread that asks for them, of a dataset with threads of its own"
    if isinstance(dataset, Subset):
        dataset = copy.copy(dataset)
        dataset.dataset = in_one_thread(dataset.dataset)
    elif hasattr(dataset, "foresee"):
        dataset = copy.copy(dataset)
        dataset.threads = 1
    return dataset


def because(found: Stalls, parts: dict[str, Spread]) -> str:
    "Why the model waits, in a sentence, from what `stalls` and `sample_parts` measured"
    stall = found.prep_stall.median
    largest = max(parts, key=lambda name: parts[name].median)
    share = parts[largest].median / sum(part.median for part in parts.values())
    if stall < 0.05:
        said = f"Data is not the limit: with free batches an epoch would take {percent(stall)} less"
    else:
        said = f"The model waits for data: with free batches an epoch would take {percent(stall)} less. "
        said += f"The largest part of a sample is '{largest}', {percent(share)}"
    if found.fetch_stall and found.fetch_stall.median >= 0.05 <= 5 * found.fetch_stall.low:  # no noise
        said += f". With cold files an epoch takes {1 / (1 - found.fetch_stall.median):.1f} times as long"
    return said + "."
