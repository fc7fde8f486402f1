"""The classes that feed a model from a folder of files. Copy this file and those beside it named my_*.py.

The notation is that of Afshine and Shervine Amidi's article: an ID is a string, the sample with that ID is
the file `data/<ID>.pt`, `partition` maps "train" and "validation" to lists of IDs, `labels` maps every ID
to its class.

    partition, labels = load_notation("data")
    training_set = Dataset(partition["train"], labels)
    training_generator = torch.utils.data.DataLoader(training_set, batch_size=64, num_workers=2)

and, once `python3 -m feedgpu.prepare pack` has packed the folder,

    training_set = PackedDataset(partition["train"], labels)
    training_generator = PrefetchLoader(training_set, batch_size=64)

Needs torch, numpy and the standard library, nothing else. my_notation.py reads and checks the notation,
my_order.py has the order of an epoch and its random numbers, my_packed.py and my_prefetch.py have the two
classes for packed data; import them all from here. For image files see my_images.py, for samples of unequal
length my_unequal.py.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy.random  # noqa: F401  every worker seeds it: imported here once, not in each of them
import torch

from my_notation import (
    LEADS_OUT,
    DatasetError,
    describe,
    file_of,
    find_faults,
    is_class,
    load_notation,
    read_notation,
    read_tensor,
    reason,
    sentence,
    without_file,
)
from my_order import EpochSampler, Visit, draws, hashed_seed
from my_packed import PackedDataset
from my_prefetch import PrefetchLoader

__all__ = [
    "LEADS_OUT",
    "Augmented",
    "Dataset",
    "DatasetError",
    "EpochSampler",
    "Meter",
    "PackedDataset",
    "PrefetchLoader",
    "Visit",
    "available_cpus",
    "cgroup_quota",
    "ctrl_c_deferred",
    "describe",
    "draws",
    "file_of",
    "find_faults",
    "hashed_seed",
    "is_class",
    "load_notation",
    "read_notation",
    "read_tensor",
    "reason",
    "save_whole",
    "sentence",
    "without_file",
]


class Dataset(torch.utils.data.Dataset):
    """The samples of a list of IDs, each read from its own file when it is asked for.

    `list_IDs`: sequence of strings. `labels`: {ID: integer}. `root`: the folder of the files.
    `transform`: applied to each tensor that was read; with workers under spawn or forkserver it must be a
    function of a module, not of a notebook cell.

    `dataset[index]` is `(X, y)`: the tensor of the file `root/<ID>.pt`, on the CPU with the shape and dtype
    in which it was saved, and its label. Raises DatasetError, naming ID and file, for a file that is
    missing, damaged or not a tensor, and for an ID without a label or leading out of the folder.

    Another file format is three lines, a subclass with its own `suffix` and `load`:

        class Arrays(Dataset):
            suffix = ".npy"
            def load(self, file): return torch.from_numpy(numpy.load(file))
    """

    suffix = ".pt"
    like = None  # (ID, tensor) that all samples must resemble; None: the first sample of their batch

    def __init__(self, list_IDs, labels, root="data", transform: Callable | None = None):
        "Initialization"
        self.list_IDs = list_IDs
        self.labels = labels
        self.root = root
        self.transform = transform

    def __len__(self):
        "Denotes the total number of samples"
        return len(self.list_IDs)

    def __getitem__(self, index):
        "Generates one sample of data"
        # Select sample
        ID = self.list_IDs[index]

        # Load data and get label
        file = file_of(ID, self.root, self.suffix)
        try:
            X = self.load(file)
        except Exception as error:
            raise DatasetError(f"sample {ID!r}: {file} cannot be read: {reason(error)}") from error
        if ID not in self.labels:
            raise DatasetError(f"sample {ID!r}, read from {file}, has no label: add it to labels")
        y = self.labels[ID]

        if self.transform is not None:
            X = self.transform(X)
        return X, y

    def load(self, file: Path):
        "Reads one file: the method to override for another format"
        return read_tensor(file)

    def __getitems__(self, indices):
        """Generates the samples of one batch, which must have one shape and dtype to be stacked.

        DataLoader calls this in place of `__getitem__` where it exists. A subclass for samples of unequal
        shapes (with a collate_fn that pads them) says `__getitems__ = None`.
        """
        samples = [self[index] for index in indices]
        like_ID, like = self.like or (self.list_IDs[indices[0]], samples[0][0])
        for index, (X, _) in zip(indices, samples, strict=True):
            if isinstance(X, torch.Tensor) and (X.shape != like.shape or X.dtype != like.dtype):
                raise DatasetError(
                    f"samples of one batch must be alike: {like_ID!r} is {describe(like)}, "
                    f"but {self.list_IDs[index]!r} is {describe(X)}"
                )
        return samples


class Augmented(Dataset):
    """The samples of another dataset, each changed at random, and repeatably.

        training_set = Augmented(Dataset(partition["train"], labels), partition["train"], mirror, seed=0)

    `dataset`: any that has the samples of `list_IDs`, in their order. `augment(X, random)` returns the
    changed tensor; with workers under spawn or forkserver it is a function of a module. `random` is a
    random.Random whose numbers are a function of (seed, epoch, ID), if an EpochSampler gives the index; else
    they differ each time. One Augmented in another needs a seed of its own, or both draw the same.
    """

    def __init__(self, dataset, list_IDs, augment: Callable, seed: int = 0):
        "Initialization"
        self.dataset = dataset
        self.list_IDs = list_IDs
        self.augment = augment
        self.seed = seed

    def __getitem__(self, index):
        "Generates one sample of data"
        X, y = self.dataset[index]
        return self.augment(X, draws(self.seed, self.list_IDs[index], index)), y


class Meter:
    """Splits the time of a loop over batches, in seconds, into waiting for a batch and computing on it.

        meter = Meter(device)
        for local_batch, local_labels in meter(training_generator):
            ...
        print(meter.waiting_share)

    `waiting` has one entry more than `computing`: the last is the end of the epoch, when the loader says
    that there is no more. Together they are the wall time of the loop. On a CUDA device the marks are
    events on the current stream, because the host runs ahead of the device and its own waiting misleads:
    waiting is then the time in which the device had nothing to do. A call starts anew.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.use_cuda = self.device.type == "cuda"
        self.marks = []

    def __call__(self, batches: Iterable) -> Iterator:
        self.marks = []
        self._mark()
        with ctrl_c_deferred():  # a loader torn while its workers start up cannot end them
            iterator = iter(batches)
        for batch in iterator:
            self._mark()
            yield batch
            self._mark()
        self._mark()

    def _mark(self):
        if self.use_cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record(torch.cuda.current_stream(self.device))
        else:
            self.marks.append(time.perf_counter())

    def _spans(self) -> list[float]:
        if self.use_cuda and self.marks:
            self.marks[-1].synchronize()
            return [a.elapsed_time(b) / 1000 for a, b in pairwise(self.marks)]
        return [b - a for a, b in pairwise(self.marks)]

    @property
    def waiting(self) -> list[float]:
        "Seconds before each batch, and those at the end of the epoch"
        return self._spans()[0::2]

    @property
    def computing(self) -> list[float]:
        "Seconds spent on each batch"
        return self._spans()[1::2]

    @property
    def seconds(self) -> float:
        "Seconds of the whole loop"
        return sum(self._spans())

    @property
    def waiting_share(self) -> float:
        "Share of the loop's time that was spent waiting, 0 to 1"
        return sum(self.waiting) / max(self.seconds, 1e-9)


@contextmanager
def ctrl_c_deferred() -> Iterator[None]:
    """A Ctrl-C in this block takes effect at its end. Processes forked in it never hear one: whoever started
    them ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # it never strikes here
        return
    struck = []
    handler = signal.signal(signal.SIGINT, lambda *_: struck.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if struck:
        raise KeyboardInterrupt


def save_whole(content, file: Path):
    """torch.save, whole or not at all: whoever is killed while writing leaves the file that was there."""
    unfinished = file.with_name(file.name + ".unfinished")
    try:
        with open(unfinished, "wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def available_cpus() -> int:
    """CPUs that this process may use, at least 1: its affinity and, in a container, its cgroup's quota.

    `os.cpu_count()` knows neither. PYTHON_CPU_COUNT, if set, wins, as it does in Python 3.13.
    """
    told = os.environ.get("PYTHON_CPU_COUNT", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cpus, cgroup_quota())))


def cgroup_quota(groups="/proc/self/cgroup", mount="/sys/fs/cgroup") -> float:
    """CPUs' worth of time that this process's cgroups, versions 1 and 2, allow; infinity without a limit.

    A limit of any folder above the process's own holds for it too.
    """
    quota = float("inf")
    for line in read_text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        top = Path(mount) / ("cpu" if "cpu" in controllers.split(",") else "")
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(top):
                break
            limit = read_text(folder / "cpu.max") or " ".join(
                read_text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
            match limit.split():
                case [allowed, period] if allowed.isdecimal() and float(period) > 0:
                    quota = min(quota, float(allowed) / float(period))
    return quota


def read_text(file) -> str:
    try:
        return Path(file).read_text()
    except OSError:
        return ""
