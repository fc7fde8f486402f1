"""What PrefetchLoader asks a dataset for, batch by batch, or several batches at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate, islice
from typing import Any, NamedTuple

import numpy
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, Subset

from .memory import Gathered
from .order import EpochSampler, Visit, kind_of_visit, numbered
from .threads import Batch, Foreseen, Foresight, Threads

Array = numpy.ndarray[Any, Any]
AHEAD = 2  # pieces that are asked for before the first is there
PIECE, MOST = 1 << 22, 64  # bytes that are gathered at once, and batches: each time has its price


class Piece(NamedTuple):
    "What is asked for at once: one batch, or several that are gathered together"

    indices: Any
    sizes: list[int] | None = None  # of several batches

    def lists(self) -> list[Any]:
        if self.sizes is None:
            return [self.indices]
        return [
            self.indices[end - size : end]
            for size, end in zip(self.sizes, accumulate(self.sizes), strict=True)
        ]


class Source:
    """What one epoch asks a dataset for, piece by piece, and what the dataset makes of a piece.

    `threads`: that make the samples, in place of the dataset's own way. `several`: whether batches may be
    gathered together; not where each is still to be collated or copied. `ahead`: how many pieces are wanted
    before the first is there.
    """

    def __init__(
        self, dataset: Any, batch_sampler: Any, threads: Threads | None = None, several: bool = True
    ) -> None:
        self.dataset, self.which = below_subsets(dataset)
        self.threads, self.several = threads, several
        self.gathers: int = getattr(self.dataset, "gathers", 0) if threads is None else 0  # bytes of a sample
        self.order = Order.of(batch_sampler) if self.gathers else None
        self.ahead, self.close = AHEAD, nothing
        if self.gathers:
            self.lists = until_error(iter(batch_sampler)) if self.order is None else iter(())
            return
        lists = lists_of(batch_sampler)
        if self.which is not None:
            lists = (of_subset(indices, self.which) for indices in lists)
        foresight = None
        if threads is not None:
            foresight = Foresight(lambda indices: made_by(threads, self.dataset, indices), lists)
        elif hasattr(type(self.dataset), "foresee"):
            foresight = self.dataset.foresee(lists)
        if foresight is not None:
            self.close = foresight.close
        self.lists = until_error(foresight or lists)

    def piece(self, first: bool) -> Piece | None:
        """The next one, or None. The first is one batch, so that it comes soon; others have PIECE bytes where
        batches are gathered together."""
        if self.order is not None:
            return self.order.piece(1 if first else self.many(self.order.batch_size))
        indices = next(self.lists, None)
        if type(indices) is list:  # which its sampler may fill again
            indices = [*indices]
        if isinstance(indices, Foreseen):  # as many that all threads have something to do
            self.ahead = max(AHEAD, 1 - -indices.batch.threads // max(1, len(indices)))
        if indices is None or not self.gathers or first or isinstance(indices, Exception):
            return None if indices is None else Piece(indices)
        lists = [indices]
        for further in islice(self.lists, self.many(len(indices)) - 1):
            if isinstance(further, Exception):
                self.lists = iter([further])  # to be raised behind the batches that were good
                break
            lists.append([*further])
        return Piece(numpy.concatenate(lists), [*map(len, lists)]) if len(lists) > 1 else Piece(lists[0])

    def many(self, size: int) -> int:
        "How many batches are gathered together"
        return max(1, min(MOST, PIECE // (self.gathers * max(1, size)))) if self.several else 1

    def together(self, piece: Piece) -> list[Any] | None:
        "Several collated batches, of samples gathered together; None if each is to be asked for by itself"
        if piece.sizes:
            with suppress(Exception):  # it is that of one batch
                gathered: Gathered = self.dataset.__getitems__(self.places(piece.indices))
                return list(gathered.batches(piece.sizes))
        return None

    def samples(self, indices: Any) -> Any:
        "Those of one batch, or the error in their place"
        try:
            if isinstance(indices, Exception):
                return indices
            if self.threads is not None:
                return indices.wait()
            if getattr(self.dataset, "__getitems__", None):
                return self.dataset.__getitems__(self.places(indices) if self.gathers else indices)
            return [self.dataset[index] for index in indices]
        except BaseException as error:
            return error

    def places(self, indices: Any) -> Any:
        return indices if self.which is None else self.which[indices]


def made_by(threads: Threads, dataset: Any, indices: Sequence[int]) -> Batch:
    IDs = getattr(dataset, "list_IDs", None)
    name = int if IDs is None else IDs.__getitem__
    return Batch(threads, dataset.__getitem__, indices, name, getattr(dataset, "like", None))


def nothing() -> None:
    pass


def until_error(indices: Iterator[Any]) -> Iterator[Any]:
    "The lists of indices and, if the sampler ends in an error, that: the batches before it are good"
    try:
        yield from indices
    except Exception as error:
        yield error


def below_subsets(dataset: Any) -> tuple[Any, Array | None]:
    "The dataset that torch's Subsets are of, and which of its samples are theirs"
    which: Array | None = None
    while type(dataset) is Subset:
        indices = numpy.asarray(dataset.indices)
        if indices.ndim != 1 or (len(indices) and indices.dtype.kind not in "iu"):
            break
        indices = indices.astype(numpy.int64)
        which = indices if which is None else indices[which]
        dataset = dataset.dataset
    return dataset, which


def of_subset(indices: Sequence[int], which: Array) -> list[int]:
    "The same samples in the dataset that a Subset is of. Visits stay visits; in torch's Subset they do not"
    found: list[int] = which[numpy.asarray(indices)].tolist()
    return [
        kind_of_visit(index.epoch, index.before)(place) if isinstance(index, Visit) else place
        for index, place in zip(indices, found, strict=True)
    ]


def lists_of(batch_sampler: Any) -> Iterator[Any]:
    "The lists of a batch sampler. Numbers of a sampler that knows its epoch are made visits in it"
    sampler: Any = batch_sampler.sampler if type(batch_sampler) is BatchSampler else None
    epoch = getattr(sampler, "epoch", None)
    if not isinstance(sampler, EpochSampler) and hasattr(sampler, "set_epoch") and isinstance(epoch, int):
        visits = numbered(sampler, epoch)
        return iter(BatchSampler(visits, batch_sampler.batch_size, batch_sampler.drop_last))
    return iter(batch_sampler)


class Order:
    "Of a batch sampler that torch made, whose indices are known at once: no list of them is made"

    def __init__(
        self, indices: Callable[[], Any], at_end: Callable[[], Any], batch_sampler: BatchSampler
    ) -> None:
        self.make, self.at_end = indices, at_end
        self.batch_size, self.drop_last = batch_sampler.batch_size, batch_sampler.drop_last
        self.indices: Array | None = None
        self.begin = 0

    @classmethod
    def of(cls, batch_sampler: Any) -> "Order | None":
        if type(batch_sampler) is not BatchSampler:
            return None
        sampler: Any = batch_sampler.sampler
        if type(sampler) is EpochSampler:
            return cls(sampler.order, nothing, batch_sampler)
        if type(sampler) is SequentialSampler:
            return cls(lambda: torch.arange(len(sampler)), nothing, batch_sampler)
        if type(sampler) is RandomSampler and sampler.generator is not None and not sampler.replacement:
            if sampler.num_samples == (size := len(sampler.data_source)):
                drawn = partial(torch.randperm, size, generator=sampler.generator)
                return cls(drawn, drawn, batch_sampler)  # at its end it draws again, and takes nothing of it
        return None

    def piece(self, many: int) -> Piece | None:
        "The next batches"
        if self.indices is None:
            self.indices = self.make().numpy()
            if self.drop_last:
                self.indices = self.indices[: len(self.indices) // self.batch_size * self.batch_size]
        indices = self.indices[self.begin : self.begin + self.batch_size * many]
        self.begin += len(indices)
        if not len(indices):
            self.at_end()
            self.at_end = nothing
            return None
        whole, rest = divmod(len(indices), self.batch_size)
        sizes = [self.batch_size] * whole + [rest] * (rest > 0)
        return Piece(indices, sizes if len(sizes) > 1 else None)
