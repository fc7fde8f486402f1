"""Samples of a known cost: what the chapters and benchmarks vary when a real dataset would not stand still.

Classes of a module, so that workers under every start method find them. And sounds, of unequal length.
"""

import math
import time
from random import Random

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
    """Wraps a map-style `dataset` and counts the samples that are made of it, by whatever process: the counts
    lie in shared memory, one place for each worker and one for the process itself."""

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
        """Samples made when the workers rest: once there are `least`, and `rest` seconds bring no more.

        A worker may import torch for seconds before its first sample, and looks at rest meanwhile: `least`
        waits for it, but not beyond `deadline` seconds.
        """
        end = time.monotonic() + deadline
        while self.made < least and time.monotonic() < end:
            time.sleep(0.01)
        before = -1
        while before < (made := self.made):
            before = made
            time.sleep(rest)
        return made


def sounds(samples: int, seed: int = 0):
    """A feedgpu.layout.Source of whistles, float32 of shape T with 8,000 values a second, from -1 to 1.

    Label 0 rises, 1 falls and 2 trills: one in 33 does. Half of them last longer than half a second; the
    lengths are log-normal, between 800 and 32,000 values. A sound is a function of its ID and the seed.
    """
    from feedgpu.layout import Source  # here, not above: a worker that needs Costly has no use for them
    from feedgpu.sources import split
    from my_classes import hashed_seed

    labels = {f"sound-{i + 1}": 2 if i % 33 == 32 else i % 2 for i in range(samples)}

    def read(ID: str) -> torch.Tensor:
        random = Random(hashed_seed(seed, ID))
        length = min(32_000, max(800, int(4_000 * random.lognormvariate(0, 0.7))))
        low, loud = 300 + 500 * random.random(), 0.3 + 0.7 * random.random()
        seconds = torch.arange(length) / 8_000
        kinds = (
            seconds / seconds[-1],
            1 - seconds / seconds[-1],
            (2 * math.pi * 12 * seconds).sin() / 2 + 0.5,
        )
        pitch = low * (1 + kinds[labels[ID]])  # in Hz, up to one octave above the lowest
        return loud * (2 * math.pi / 8_000 * pitch.cumsum(0)).sin()

    return Source(split(labels, seed), labels, ["rises", "falls", "trills"], read)
