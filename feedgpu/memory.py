"""Whole batches: the memory they are written to, and how one travels through a DataLoader as one thing."""

import functools
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, chain
from math import prod
from typing import Any

import numpy
import torch
from torch.utils.data import default_collate, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from .notation import DatasetError, refuse_unlike
from .sample import fields, form, has_numpy, stored_as, with_fields

KEPT, LEAST = 32 << 20, 5  # bytes that are kept for batches, and blocks at least: one loop needs as many
AGAIN = 5  # smaller batches in a row, after which their size is the one that is kept

Block = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]


class Lease(weakref.ref[Any]):
    """What tells that a batch is gone, and in which block of memory it was.

    What it calls then is a function written in C: in one of Python's own, a Ctrl-C would be lost.
    """

    __slots__ = ("block",)
    block: Block


class BatchMemory:
    """Where batches are written to: in the memory of one that nobody holds any more, if there is one. Fresh
    memory is first cleared by the system, which takes as long as the gathering. All blocks are of one size;
    those in use and those that are free together have KEPT bytes at most, or are LEAST blocks. Whoever holds
    more batches at once gets fresh memory, which goes with them."""

    def __init__(self) -> None:
        self.size, self.smaller = 0, 0
        self.free: deque[Block] = deque()
        self.returned: deque[Lease] = deque()
        self.lent: dict[int, Lease] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, shared: bool = False) -> torch.Tensor:
        """A tensor that is not filled yet. `shared`: if this is a worker, in shared memory, from which it is
        handed over without another copy."""
        values = prod(shape)
        if shared and values and get_worker_info():
            return shared_memory(shape, dtype)
        size: int = values * dtype.itemsize
        self._resize(size)
        self._take_back()
        block = None
        if size and self.free:
            with suppress(IndexError):  # another thread was faster
                block = self.free.pop()
        if block is None or len(block) < size:
            block = numpy.empty(size, numpy.uint8)
        out = block[:size].view(numpy_dtype(dtype)).reshape(shape)
        kept = len(block) == self.size and size > 0
        if kept and (len(self.lent) + len(self.free) + 1) * self.size <= max(KEPT, LEAST * self.size):
            # A tensor made of `out`, and all its views, hold it: it goes when the last of them does.
            lease = Lease(out, self.returned.append)
            lease.block = block
            self.lent[id(lease)] = lease
        return torch.from_numpy(out)

    def _resize(self, size: int) -> None:
        "Blocks of the largest size are kept, also for smaller ones, until only such are asked for"
        self.smaller = self.smaller + 1 if 0 < size < self.size else 0
        if size > self.size or self.smaller >= AGAIN:
            self.size, self.smaller = size, 0
            self.free.clear()
            self.lent.clear()

    def _take_back(self) -> None:
        with suppress(IndexError):
            while self.returned:
                lease = self.returned.popleft()
                if self.lent.pop(id(lease), None) is not None and len(lease.block) == self.size:
                    self.free.append(lease.block)


@functools.cache
def numpy_dtype(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype


def shared_memory(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    "As default_collate makes its tensors in a worker"
    one = torch.empty(0, dtype=dtype)
    shared: torch.Tensor = one.new(one._typed_storage()._new_shared(prod(shape)))  # type: ignore[no-untyped-call]
    return shared.resize_(shape)


class Gathered(list[Any]):
    """A whole batch in the place of the list of its samples.

    `X`: N×…, or a tuple or dict of such tensors. `y`: N or N×…, or None for samples without targets.
    default_collate returns the batch as it is. Any other function gets the samples, whose tensors are views
    of the batch's. `each`: the samples' own targets, where y is not of numbers.

    It is a list, for there are functions that ask for one (Hugging Face's collators do). Its samples are made
    only when somebody wants more than its length and the first one. A function in C that looks into the list
    itself, such as torch.stack, has to be given list(samples).
    """

    def __init__(self, X: Any, y: Any = None, each: list[Any] | None = None) -> None:
        self.X, self._y, self.each = X, y, each
        self.whole = True  # it stands for X and y; once the samples are made it is nothing but their list
        self.parts = list(fields(X).values())
        super().__init__([None] * len(self.parts[0]))

    @property
    def y(self) -> Any:
        if self._y is None and self.each is not None:
            self._y = default_collate(self.each)
        return self._y

    def batches(self, sizes: Sequence[int]) -> Iterator[Any]:
        "Cut into collated batches of these sizes, which share the memory of this one"
        Xs: Iterator[Any] = cut(self.parts[0], sizes)
        if not isinstance(self.X, torch.Tensor):
            cuts = [Xs, *[cut(part, sizes) for part in self.parts[1:]]]
            Xs = (collated_fields(self.X, list(parts)) for parts in zip(*cuts, strict=True))
        return Xs if self.y is None else map(list, zip(Xs, cut(self.y, sizes), strict=True))

    def __getitem__(self, place: Any) -> Any:
        if self.whole and len(self) and place == 0:
            return marked(self.first(), self)  # all that default_collate asks for
        self._make_samples()
        return super().__getitem__(place)

    def __radd__(self, other: list[Any]) -> list[Any]:
        return other + list(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Gathered, (self.X, self.y, self.each)) if self.whole else (list, (list(self),))

    def _make_samples(self) -> None:
        if self.whole:
            self.whole = False
            super().__setitem__(slice(None), self.samples())

    def samples(self) -> list[Any]:
        "Made anew each time"
        parts = [part.unbind() for part in self.parts]
        if isinstance(self.X, torch.Tensor):
            Xs = list(parts[0])
        else:
            Xs = [with_fields(self.X, list(one)) for one in zip(*parts, strict=True)]
        y = self.each
        if y is None:
            if self.y is None:
                return Xs
            y = self.y.unbind() if self.y.is_floating_point() or self.y.dim() > 1 else self.y.tolist()
        return list(zip(Xs, y, strict=True))

    def first(self) -> Any:
        "The first of `samples`, without the others"
        X = (
            self.X[0]
            if isinstance(self.X, torch.Tensor)
            else with_fields(self.X, [one[0] for one in self.parts])
        )
        if self.each is not None:
            return X, self.each[0]
        y = self.y
        if y is None:
            return X
        return X, y[0] if y.is_floating_point() or y.dim() > 1 else y[0].item()

    def collated(self) -> Any:
        "As default_collate would have it"
        X = collated_fields(self.X, self.parts)
        return X if self.y is None else [X, self.y]


def of_samples(name: str) -> Any:
    "The method of a list, for one whose samples may not be made yet"
    method = getattr(list, name)

    @functools.wraps(method)
    def call(self: Gathered, *args: Any, **kwargs: Any) -> Any:
        self._make_samples()
        return method(self, *args, **kwargs)

    return call


for name in (
    *("__iter__", "__reversed__", "__contains__", "__repr__", "__add__", "__mul__", "__rmul__"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "copy", "count", "index"),
    *("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend", "insert"),
    *("pop", "remove", "reverse", "sort"),
):
    setattr(Gathered, name, of_samples(name))


def is_batch(index: Any) -> bool:
    "Whether what stands in dataset[...] is several indices"
    return isinstance(index, (list, slice)) or bool(getattr(index, "ndim", 0))


def whole_batch(dataset: Any, indices: Any) -> Any:
    "The samples of these indices, a list, slice, array or tensor, stacked: (X, y), or X without targets"
    if isinstance(indices, slice):
        indices = range(*indices.indices(len(dataset)))
    else:
        indices = [*map(int, indices)]
    batch = default_collate(dataset.__getitems__(indices))
    return tuple(batch) if isinstance(batch, list) else batch


def cut(X: torch.Tensor, sizes: Sequence[int]) -> Iterator[torch.Tensor]:
    """Parts of its rows, in its memory, each with a storage of its own: torch.save writes storages whole, and
    another process gets them whole."""
    values, size = X.view(stored_as(X.dtype)).numpy(), sizes[0]
    rows: Iterable[Any]
    if [size] * (len(sizes) - 1) == [*sizes[:-1]] and sizes[-1] <= size:  # without Python for each
        whole = len(values) // size * size
        rows = chain(
            values[:whole].reshape(-1, size, *values.shape[1:]), [values[whole:]] * (whole < len(values))
        )
    else:
        rows = (values[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True))
    parts = map(torch.from_numpy, rows)
    return parts if has_numpy(X) else (part.view(X.dtype) for part in parts)


def collated_fields(X: Any, parts: list[torch.Tensor]) -> Any:
    "As default_collate would have them: lists in place of tuples"
    return parts if isinstance(X, tuple) else with_fields(X, parts)


def to_stack(samples: list[Any], IDs: Sequence[str], like: tuple[str, Any] | None = None) -> list[Any]:
    """The samples, of which default_collate raises DatasetError if they are not alike (`refuse_unlike`).

    A collate_fn of your own gets them as they are, and may pad them. `like`: (ID, sample) that all of them
    must resemble, whoever collates them.
    """
    try:
        refuse_unlike(samples, IDs, like)
    except DatasetError as error:
        if like:
            raise
        samples[0] = marked(samples[0], error)
    return samples


# default_collate goes by the type of a batch's first sample. So the first one gets a type of its own, which
# is its old one for everybody else, and a mark: a Gathered, or the error to be raised.


def marked(sample: Any, mark: Gathered | DatasetError) -> Any:
    "The sample, of a type that default_collate passes to `collated`"
    kind = type(sample)
    if kind is torch.Tensor:
        one = sample.as_subclass(marked_type(kind))
    elif issubclass(kind, tuple):
        one = tuple.__new__(marked_type(kind), sample)
    elif kind is dict:
        one = marked_type(kind)(sample)
    else:  # such as None, for which nobody's own type can stand
        return sample
    one.mark = mark
    return one


@functools.cache
def marked_type(kind: type) -> Any:
    members: dict[str, Any] = {"mark": None, "__reduce_ex__": lambda self, _: (itself, (plain(self),))}
    if kind is torch.Tensor:  # what is computed of it is a plain tensor
        members["__torch_function__"] = torch._C._disabled_torch_function_impl
    made = type(kind.__name__, (kind,), members)
    default_collate_fn_map[made] = collated  # the documented way to make default_collate know a type
    return made


def plain(sample: Any) -> Any:
    "The sample as it was before it was marked"
    kind = type(sample).__mro__[1]
    if kind is torch.Tensor:
        return sample.as_subclass(kind)
    return tuple.__new__(kind, sample) if issubclass(kind, tuple) else dict(sample)


def itself(sample: Any) -> Any:
    return sample


def collated(batch: Any, *, collate_fn_map: object = None) -> Any:
    "What default_collate makes of samples whose first one is marked"
    if isinstance(batch, Gathered) and batch.whole:
        return batch.collated()
    mark = batch[0].mark
    samples = [plain(batch[0]), *list(batch)[1:]]  # perhaps not all that were there
    if isinstance(mark, DatasetError) and any(form(one) != form(samples[0]) for one in samples):
        raise mark
    return default_collate(samples)
