"""In which order an epoch visits the samples, and what is drawn at random for each: repeatable, whoever asks.

Everything here is a function of (seed, epoch) or of (seed, epoch, ID), and of nothing else. Workers are
copies: those that stay never see what is changed in the dataset after they were born. So the epoch travels
with the index, which every worker is sent.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import numpy
import torch

from .ids import decoded
from .memory import to_stack


class Visit(int):
    """A sample's index that knows in which epoch it is visited, and how often it was before in that epoch.

    For every dataset it is the plain number. One that draws at random asks `draws` for what belongs to it.
    Subset and ConcatDataset make plain numbers of visits: leave IDs out of `list_IDs` instead.
    """

    epoch: int
    before: int

    def __new__(cls, index: int, epoch: int, before: int = 0) -> "Visit":
        visit = int.__new__(cls, index)
        visit.epoch, visit.before = epoch, before
        return visit

    def __reduce__(self) -> tuple[Any, ...]:
        return Visit, (int(self), self.epoch, self.before)


def draws(seed: int, ID: str, index: int) -> Random:
    """Random numbers for one visit of the sample `ID`: a function of (seed, epoch, ID).

    `index`: a Visit, as EpochSampler yields it. A further visit in the same epoch draws anew. A plain number
    knows no epoch: it gets numbers that differ each time, so nothing is repeated, and cannot be.
    """
    if not isinstance(index, Visit):
        return Random()
    return Random(hashed_seed(int(seed), index.epoch, str(ID), *[index.before] * (index.before > 0)))


class EpochSampler(torch.utils.data.Sampler[int]):
    """Visits `size` samples in a random order that is a function of `seed` and epoch, and of nothing else.

    `weights`: one number of at least 0 for each sample; then `size` visits are drawn with replacement, each
    sample as often as its weight says. Raises ValueError for weights that are negative, not finite or all 0.

    Call `set_epoch(epoch)` before each epoch. The number of workers, their persistence, a resume: none of
    them changes the order, as they do with `shuffle=True`, whose generator remembers its past. `set_epoch`
    is that of torch.utils.data.DistributedSampler. Yields `Visit`s: what a dataset draws follows the epoch.
    """

    def __init__(
        self, size: int, seed: int = 0, weights: Sequence[float] | torch.Tensor | None = None
    ) -> None:
        self.size, self.seed, self.epoch = size, int(seed), 0
        self.ends = None
        if weights is not None:
            weights = torch.as_tensor(weights, dtype=torch.float64)
            if weights.dim() != 1 or not (weights.isfinite() & (weights >= 0)).all() or not weights.any():
                raise ValueError("weights must be numbers of at least 0, one a sample, and not all of them 0")
            self.ends = weights.cumsum(0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = int(epoch)  # of any kind: a hash tells NumPy's numbers from Python's

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Visit]:
        epoch, generator = self.epoch, torch.Generator().manual_seed(self.epoch_seed)
        if self.ends is None:
            return (Visit(index, epoch) for index in torch.randperm(self.size, generator=generator).tolist())
        points = torch.rand(self.size, dtype=torch.float64, generator=generator) * self.ends[-1]
        # torch.multinomial, which WeightedRandomSampler uses, takes at most 2**24 samples
        indices = torch.searchsorted(self.ends, points, right=True).clamp_(max=len(self.ends) - 1)
        return numbered(indices.tolist(), epoch)

    @property
    def epoch_seed(self) -> int:
        "A function of (seed, epoch), also for whatever else an epoch draws (dropout)"
        return hashed_seed(self.seed, self.epoch)


def numbered(indices: list[int], epoch: int) -> Iterator[Visit]:
    "Visits in one epoch, in which an index may occur more than once"
    visited: Counter[int] = Counter()
    for index in indices:
        yield Visit(index, epoch, visited[index])
        visited[index] += 1


def hashed_seed(*parts: object) -> int:
    """A seed of 63 bits that is a function of `parts`, on every machine and in every process.

    blake2b, because seed + epoch would make epoch 1 of seed 0 equal to epoch 0 of seed 1, and because
    Python's hash() of a string differs from process to process.
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1


PLAIN = bytes(range(0x20, 0x7F)).translate(None, b"'\\")  # letters that repr leaves as they are


def hashed_seeds(seed: int, IDs: list[bytes]) -> Any:
    "`hashed_seed(seed, ID)` of many IDs in UTF-8, as an array of int64, in less time"
    if b"".join(IDs).translate(None, PLAIN):
        shown = [repr((seed, decoded(ID))).encode() for ID in IDs]
    else:
        begin, end = f"({seed!r}, '".encode(), b"')"
        shown = [begin + ID + end for ID in IDs]
    each = [hashlib.blake2b(one, digest_size=8).digest() for one in shown]
    return (numpy.frombuffer(b"".join(each), ">u8") >> numpy.uint64(1)).astype(numpy.int64)


def has_no_targets(dataset: Any) -> bool:
    "Whether a dataset of this package was made without labels: then its samples are X alone"
    return getattr(dataset, "labels", ...) is None or getattr(dataset, "y", ...) is None


class Augmented(torch.utils.data.Dataset[Any]):
    """The samples of another dataset, each changed at random, and repeatably.

        training_set = Augmented(Dataset(partition["train"], labels), partition["train"], mirror, seed=0)

    `dataset`: any that has the samples of `list_IDs`, in their order. `augment(X, random)` returns the
    changed X; with workers under spawn or forkserver it is a function of a module. `random` is a
    random.Random whose numbers are a function of (seed, epoch, ID), if an EpochSampler gives the index; else
    they differ each time. One Augmented in another needs a seed of its own, or both draw the same.
    """

    def __init__(
        self, dataset: Any, list_IDs: Sequence[str], augment: Callable[[Any, Random], Any], seed: int = 0
    ) -> None:
        "Initialization"
        self.dataset = dataset
        self.list_IDs = list_IDs
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        "Denotes the total number of samples"
        return len(self.list_IDs)

    def __getitem__(self, index: int) -> Any:
        "Generates one sample of data"
        sample, random = self.dataset[index], draws(self.seed, self.list_IDs[index], index)
        if has_no_targets(self.dataset):
            return self.augment(sample, random)
        X, y = sample
        return self.augment(X, random), y

    def __getitems__(self, indices: list[int]) -> list[Any]:
        "Generates the samples of one batch"
        samples = [self[index] for index in indices]
        return to_stack(samples, [self.list_IDs[index] for index in indices])
