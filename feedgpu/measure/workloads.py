"""Samples of a known cost: what the chapters and benchmarks vary when a real dataset would not stand still.

Classes of a module, so that workers under every start method find them.
"""

import time

import numpy
import torch


class Costly(torch.utils.data.Dataset):
    """`size` samples that each wait for `waiting` seconds, as for a remote disk, and compute for `computing`
    seconds, as for a decoder. A sample is `(X, y)`: uint8 zeros of `shape`, and its index."""

    def __init__(self, size: int, waiting: float = 0.0, computing: float = 0.0, shape=(3, 32, 32)):
        self.size, self.waiting, self.computing, self.shape = size, waiting, computing, shape

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(f"there is no sample {index} among {self.size}")
        if self.waiting:
            time.sleep(self.waiting)
        if self.computing:
            compute(self.computing)
        return torch.zeros(self.shape, dtype=torch.uint8), index


def compute(seconds: float):
    "Uses the CPU for so many seconds of its time, however long that takes where others use it too."
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Multiplied(torch.utils.data.Dataset):
    """`size` samples that each multiply matrices with NumPy, on as many threads as NumPy uses. A sample is
    the number of torch's threads in the process that makes the sample."""

    def __init__(self, size: int):
        self.size, self.matrix = size, numpy.eye(384)

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(f"there is no sample {index} among {self.size}")
        self.matrix @ self.matrix @ self.matrix
        return torch.get_num_threads()


class Ready(torch.utils.data.Dataset):
    """Batches that cost nothing to make: what is left is the hand-over. Use it with batch_size=None.

    Each of the `batches` is the same uint8 zeros of `shape`, batch dimension first.
    """

    def __init__(self, batches: int, shape):
        self.batches, self.batch = batches, torch.zeros(tuple(shape), dtype=torch.uint8)

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        if not 0 <= index < self.batches:
            raise IndexError(f"there is no batch {index} among {self.batches}")
        return self.batch.clone()


class Counted(torch.utils.data.Dataset):
    """Wraps a map-style `dataset` and counts its samples, whichever process makes them. The counts lie in
    shared memory: one number for each worker and one for the main process."""

    def __init__(self, dataset, most_workers: int = 64):
        self.dataset = dataset
        self.counts = torch.zeros(1 + most_workers, dtype=torch.int64).share_memory_()

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        worker = torch.utils.data.get_worker_info()
        sample = self.dataset[index]
        self.counts[0 if worker is None else 1 + worker.id] += 1
        return sample

    @property
    def made(self) -> int:
        "Samples made so far"
        return self.counts.sum().item()

    def made_at_rest(self, least: int = 0, rest: float = 0.5, deadline: float = 60) -> int:
        """Samples made once the workers rest: at least `least` exist, and `rest` seconds add none.

        A worker may spend seconds on importing torch before its first sample. `least` waits for these
        samples, for at most `deadline` seconds.
        """
        end = time.monotonic() + deadline
        while self.made < least and time.monotonic() < end:
            time.sleep(0.01)
        before = -1
        while before < (made := self.made):
            before = made
            time.sleep(rest)
        return made
