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

KEPT = 32 << 20  # bytes of free blocks that are kept, and one block at least


Block = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]


class BatchMemory:
    """Where batches are written to: in the memory of one that nobody holds any more, if there is one. Fresh
    memory is first cleared by the system, which takes as long as the gathering."""

    def __init__(self) -> None:
        self.free: deque[Block] = deque()  # each of one batch

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, shared: bool = False) -> torch.Tensor:
        """A tensor that is not filled yet. `shared`: if this is a worker, in shared memory, from which it is
        handed over without another copy."""
        values, block = prod(shape), None
        if shared and values and get_worker_info():
            return shared_memory(shape, dtype)
        size: int = values * dtype.itemsize
        with suppress(IndexError):
            block = self.free.pop()
        if block is None or len(block) != size:
            block = numpy.empty(size, numpy.uint8)
        out = block.view(torch.empty(0, dtype=dtype).numpy().dtype).reshape(shape)
        # A tensor made of `out`, and all its views, hold it: it goes when the last of them does.
        weakref.finalize(out, self._keep, block).atexit = False
        return torch.from_numpy(out)

    def _keep(self, block: Block) -> None:
        """Unless there is enough: whoever held many batches at once would else keep their memory for good.
        Those that are kept are of one size, the largest."""
        with suppress(IndexError):  # there is none, or another thread takes the last one
            kept = len(self.free[-1])
            if len(block) < kept:
                return
            if len(block) > kept:
                self.free.clear()
        if len(self.free) < max(1, KEPT // max(1, len(block))):
            self.free.append(block)


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
            "say dataset.__getitems__ = None, and it gets samples"
        )


def as_they_are(batches: list[Gathered], *, collate_fn_map: object = None) -> list[torch.Tensor]:
    "What default_collate makes of them"
    if len(batches) == 1:
        return [batches[0].X, batches[0].y]
    return [torch.cat([one.X for one in batches]), torch.cat([one.y for one in batches])]


# The documented way to make default_collate know a type; a worker does it by importing this file.
default_collate_fn_map[Gathered] = as_they_are
