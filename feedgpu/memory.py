"""Whole batches: the memory they are written to, and how one travels through a DataLoader as one thing."""

import weakref
from collections import deque
from contextlib import suppress
from math import prod
from typing import Any, NoReturn

import numpy
import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

KEPT, LEAST = 32 << 20, 5  # bytes that are kept for batches, and blocks at least: one loop needs as many
AGAIN = 3  # smaller batches in a row, after which their size is the one that is kept

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
        fits = self._fits(size)
        self._take_back()
        block = None
        if fits:
            with suppress(IndexError):
                block = self.free.pop()
        if block is None or len(block) != size:
            block = numpy.empty(size, numpy.uint8)
        out = block.view(torch.empty(0, dtype=dtype).numpy().dtype).reshape(shape)
        if fits and (len(self.lent) + len(self.free) + 1) * size <= max(KEPT, LEAST * size):
            # A tensor made of `out`, and all its views, hold it: it goes when the last of them does.
            lease = Lease(out, self.returned.append)
            lease.block = block
            self.lent[id(lease)] = lease
        return torch.from_numpy(out)

    def _fits(self, size: int) -> bool:
        "Whether blocks of this size are those that are kept; a larger one becomes it, a smaller one in time"
        self.smaller = self.smaller + 1 if 0 < size < self.size else 0
        if size > self.size or self.smaller >= AGAIN:
            self.size, self.smaller = size, 0
            self.free.clear()
            self.lent.clear()
        return size == self.size and size > 0

    def _take_back(self) -> None:
        with suppress(IndexError):
            while True:
                lease = self.returned.popleft()
                if self.lent.pop(id(lease), None) is not None and len(lease.block) == self.size:
                    self.free.append(lease.block)


def shared_memory(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    "As default_collate makes its tensors in a worker"
    one = torch.empty(0, dtype=dtype)
    shared: torch.Tensor = one.new(one._typed_storage()._new_shared(prod(shape)))  # type: ignore[no-untyped-call]
    return shared.resize_(shape)


class Gathered:
    "A batch in the place of its samples; default_collate leaves it as it is."

    def __init__(self, X: torch.Tensor, y: torch.Tensor) -> None:
        self.X, self.y = X, y

    def __getitem__(self, _: object) -> NoReturn:
        raise TypeError(
            "This dataset gathers whole batches, which this collate_fn cannot take apart: "
            "set dataset.__getitems__ = None, and collate_fn gets single samples"
        )


def as_they_are(batches: list[Gathered], *, collate_fn_map: object = None) -> list[torch.Tensor]:
    "What default_collate makes of them"
    if len(batches) == 1:
        return [batches[0].X, batches[0].y]
    return [torch.cat([one.X for one in batches]), torch.cat([one.y for one in batches])]


# The documented way to make default_collate know a type; a worker does it by importing this file.
default_collate_fn_map[Gathered] = as_they_are
