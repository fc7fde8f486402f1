"""In which order an epoch visits the samples, and what is drawn at random for each: repeatable, whoever asks.

Everything here is a function of (seed, epoch) or of (seed, epoch, ID), and of nothing else. Workers are
copies: those that stay never see what is changed in the dataset after they were born. So the epoch travels
with the index, which every worker is sent.
"""

import hashlib
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from random import Random
from types import FrameType
from typing import Any

import numpy
import torch

from .ids import decoded
from .ranks import refuse_ranks

PART = 1024  # visits that are made at once


class Visit(int):
    """A sample's index that knows in which epoch it is visited, and how often it was before in that epoch.

    For every dataset it is the plain number. One that draws at random asks `draws` for what belongs to it.
    """

    __slots__ = ()
    epoch: int
    before: int

    def __new__(cls, index: int, epoch: int, before: int = 0) -> "Visit":
        return kind_of_visit(epoch, before)(index)

    def __reduce__(self) -> tuple[Any, ...]:
        return Visit, (int(self), self.epoch, self.before)


@lru_cache
def kind_of_visit(epoch: int, before: int = 0) -> Callable[[int], Visit]:
    "The class of an epoch's visits. Its attributes are theirs: so a visit costs little more than its number"
    return type(
        "Visit",
        (Visit,),
        {"epoch": epoch, "before": before, "__new__": int.__new__, "__slots__": ()},
    )


def draws(seed: int, ID: str, index: int) -> Random:
    """Random numbers for one visit of the sample `ID`: a function of (seed, epoch, ID).

    `index`: a Visit, as EpochSampler yields it. A further visit in the same epoch draws anew. A plain number
    knows no epoch: it gets numbers that differ each time, so nothing is repeated, and cannot be. If that
    happens in a loop, although there is an EpochSampler, a RuntimeWarning says so, once.
    """
    if not isinstance(index, Visit):
        if kind_of_visit.cache_info().currsize and in_a_loop():
            warnings.warn(LOST, RuntimeWarning, stacklevel=2)
        return Random()
    return Random(hashed_seed(int(seed), index.epoch, str(ID), *[index.before] * (index.before > 0)))


LOST = (
    "an index came without its epoch, so what is drawn at random for this sample is not repeatable: torch's "
    "ConcatDataset, its Subset in a DataLoader, or another sampler than EpochSampler does that"
)


LOOPS = "torch.utils.data.", "feedgpu.asked", "feedgpu.threads"  # modules that ask for samples


def in_a_loop() -> bool:
    "Whether a loader has asked, or a dataset of torch's own, and not somebody who looks at a sample"
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(LOOPS):
            return True
        frame = frame.f_back
    return False


class EpochSampler(torch.utils.data.Sampler[int]):
    """Visits `size` samples in a random order that is a function of `seed` and epoch, and of nothing else.

    `weights`: one number of at least 0 for each sample; then `size` visits are drawn with replacement, each
    sample as often as its weight says. Raises ValueError for weights that are negative, not finite or all 0,
    and for more or fewer than `size`.

    `rank`, `ranks`: of several processes that train together, this one makes every ranks-th of the visits,
    beginning with the rank-th. All make as many: the first visits come once more where that is needed, as in
    torch's DistributedSampler. For PrefetchLoader and plain loops: Lightning and accelerate share out what a
    DataLoader has by themselves.

    Call `set_epoch(epoch)` before each epoch. The number of workers, their persistence, a resume: none of
    them changes the order, as they do with `shuffle=True`, whose generator remembers its past. `set_epoch`
    is that of torch.utils.data.DistributedSampler. Yields `Visit`s: what a dataset draws follows the epoch.
    """

    def __init__(
        self,
        size: int,
        seed: int = 0,
        weights: Sequence[float] | torch.Tensor | None = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        refuse_ranks(rank, ranks)
        self.size, self.seed, self.epoch = size, int(seed), 0
        self.rank, self.ranks = rank, ranks
        self.ends = None
        if weights is not None:
            weights = torch.as_tensor(weights, dtype=torch.float64)
            if weights.dim() != 1 or not (weights.isfinite() & (weights >= 0)).all() or not weights.any():
                raise ValueError("weights must be numbers of at least 0, one a sample, and not all of them 0")
            if len(weights) != size:
                raise ValueError(f"there are {size:,} samples and {len(weights):,} weights")
            self.ends = weights.cumsum(0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = int(epoch)  # of any kind: a hash tells NumPy's numbers from Python's

    def __len__(self) -> int:
        return -(-self.size // (self.ranks or 1))

    def order(self) -> torch.Tensor:
        "The indices of this epoch's visits, int64"
        return self._order()[self._places() % max(1, self.size)] if self.ranks else self._order()

    def _order(self) -> torch.Tensor:
        "Of all processes together"
        generator = torch.Generator().manual_seed(self.epoch_seed)
        if self.ends is None:
            return torch.randperm(self.size, generator=generator)
        points = torch.rand(self.size, dtype=torch.float64, generator=generator) * self.ends[-1]
        # torch.multinomial, which WeightedRandomSampler uses, takes at most 2**24 samples
        return torch.searchsorted(self.ends, points, right=True).clamp_(max=self.size - 1)

    def _places(self) -> torch.Tensor:
        "In that order, which begins again at its end, those of this process"
        return torch.arange(len(self)) * (self.ranks or 1) + (self.rank or 0)

    def __iter__(self) -> Iterator[Visit]:
        if self.ends is not None:
            again = in_lists(self._order().repeat(self.ranks or 1))
            visits = numbered(chain.from_iterable(again), self.epoch)
            return islice(visits, self.rank or 0, (self.ranks or 1) * len(self), self.ranks)
        order, before = self.order(), self._places() // max(1, self.size)
        rounds = range(int(before.max()) + 1 if self.size else 0)
        return chain.from_iterable(
            map(kind_of_visit(self.epoch, number), part)
            for number in rounds
            for part in in_lists(order[before == number] if len(rounds) > 1 else order)
        )

    @property
    def epoch_seed(self) -> int:
        "A function of (seed, epoch), also for whatever else an epoch draws (dropout)"
        return hashed_seed(self.seed, self.epoch)


def in_lists(indices: torch.Tensor) -> Iterator[list[int]]:
    "A few at a time: as Python's numbers they take more memory"
    return (indices[begin : begin + PART].tolist() for begin in range(0, len(indices), PART))


def numbered(indices: Iterable[int], epoch: int) -> Iterator[Visit]:
    "Visits in one epoch, in which an index may occur more than once; those that are visits already stay so"
    visited: Counter[int] = Counter()
    for index in indices:
        yield index if isinstance(index, Visit) else Visit(index, epoch, visited[index])
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
