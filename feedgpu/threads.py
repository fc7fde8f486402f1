"""The samples of a batch, made by several threads: for what waits, or lets go of Python's lock to decode.

A batch can be begun before it is asked for: then the threads need not wait for each other at its end.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import get_worker_info

from .memory import BatchMemory, Gathered, to_stack
from .notation import refuse_unlike
from .sample import has_numpy
from .system import ctrl_c_deferred

WITHOUT = object()  # in the place of a target


class Threads:
    "`count` threads, begun when they are first needed. In a DataLoader's worker there are none: it is one"

    def __init__(self, count: int, name: str) -> None:
        self.count, self.name = count, name
        self.memory = BatchMemory()
        self._pool: tuple[int, int, ThreadPoolExecutor] | None = None

    @property
    def pool(self) -> ThreadPoolExecutor | None:
        "Of this process: a fork has none of its parent's threads"
        if self.count == 1 or get_worker_info():
            return None
        if self._pool is None or self._pool[:2] != (os.getpid(), self.count):
            self._pool = os.getpid(), self.count, ThreadPoolExecutor(self.count, self.name)
        return self._pool[2]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"memory": BatchMemory(), "_pool": None}


class Batch:
    """The samples `make(index)` of these indices, which the threads have begun with.

    `ID_of(index)`: what errors call a sample. `like`: (ID, sample) that all must resemble. Each thread writes
    what it has made into the memory of the batch: X of samples (X, y), or of samples that are X alone, if all
    X are of one shape and dtype.
    """

    def __init__(
        self,
        threads: Threads,
        make: Callable[[int], Any],
        indices: Sequence[int],
        ID_of: Callable[[int], Any],
        like: tuple[str, Any] | None = None,
    ) -> None:
        self.make, self.indices, self.ID_of, self.like = make, indices, ID_of, like
        self.memory, self.threads = threads.memory, threads.count
        self.over, self.taken = False, False
        self.block: Block | None = None
        self.allocating = threading.Lock()
        self.samples: list[Any] = [None] * len(indices)  # (target,) of those whose X is in the block
        self.places = deque(range(len(indices)))  # those that no thread has taken yet
        self.errors: dict[int, Exception] = {}
        pool = threads.pool
        at_once = min(threads.count, len(indices)) if pool else 0
        with ctrl_c_deferred():
            self.running = [pool.submit(self.work) for _ in range(at_once)] if pool else []

    def work(self) -> None:
        "What each thread does"
        while True:
            try:
                place = self.places.popleft()
            except IndexError:
                return
            try:
                self.samples[place] = self.put(place, self.make(self.indices[place]))
            except Exception as error:
                self.errors[place] = error
                return

    def put(self, place: int, sample: Any) -> Any:
        "Writes the sample's X into the block; what is left of it then"
        X, y = sample if type(sample) is tuple and len(sample) == 2 else (sample, WITHOUT)
        if type(X) is not torch.Tensor or not has_numpy(X):
            return sample
        with self.allocating:
            if self.block is None:
                self.block = Block(X, len(self.indices), self.memory)
        return InBlock(y) if self.block.put(place, X) else sample

    def wait(self) -> Sequence[Any]:
        "The samples, once they are made; or the error of the first that has one. For one call only"
        self.taken = True
        try:
            if not self.running:
                self.work()
            for thread in self.running:
                thread.result()
        finally:
            self.stop()  # after Ctrl-C the threads are to begin no more of this batch
        block, self.block = self.block, None
        if self.errors:
            error = self.errors[min(self.errors)]
            self.errors.clear()  # their tracebacks hold this batch
            try:
                raise error
            finally:
                del error
        samples, self.samples = self.samples, []
        IDs = [self.ID_of(index) for index in self.indices]
        targets = [one.y for one in samples if type(one) is InBlock]
        without = sum(y is WITHOUT for y in targets)
        if block and len(targets) == len(samples) and without in (0, len(samples)):
            batch = Gathered(block.X, each=None if without else targets)
            if self.like:
                refuse_unlike([batch.first()], IDs[:1], self.like)
            return batch
        if block:
            for place, one in enumerate(samples):
                if type(one) is InBlock:
                    samples[place] = block.X[place] if one.y is WITHOUT else (block.X[place], one.y)
        return to_stack(samples, IDs, self.like)

    def stop(self) -> None:
        "Lets the threads begin with no further sample"
        self.over = True
        self.places.clear()


class InBlock:
    "What is left of a sample whose X was written into the block: its target"

    __slots__ = ("y",)

    def __init__(self, y: Any) -> None:
        self.y = y


class Block:
    "The X of a batch's samples, side by side in memory, each with its values in the order of the first one's"

    def __init__(self, first: torch.Tensor, rows: int, memory: BatchMemory) -> None:
        self.dtype, self.shape = first.dtype, first.shape
        self.channels_last = first.dim() == 3 and not first.is_contiguous() and is_channels_last(first)
        shape = first.permute(1, 2, 0).shape if self.channels_last else first.shape
        whole = memory.empty((rows, *shape), first.dtype, shared=True)
        self.values = whole.numpy()
        self.X = whole.permute(0, 3, 1, 2) if self.channels_last else whole

    def put(self, place: int, X: torch.Tensor) -> bool:
        "Whether X is of the block's shape and dtype; then it is copied"
        if X.dtype != self.dtype or X.shape != self.shape:
            return False
        values = X.numpy()  # NumPy copies in this thread, torch in as many as it likes
        self.values[place] = values.transpose(1, 2, 0) if self.channels_last else values
        return True


def is_channels_last(X: torch.Tensor) -> bool:
    return X.permute(1, 2, 0).is_contiguous()


class Foresight(Iterator[list[int]]):
    """Lists of indices. A list's batch is begun, by `begin(indices)` if there is one, when the list is taken.

    No generator: at its end, one cannot be closed any more."""

    def __init__(self, begin: Callable[[list[int]], Batch] | None, batches: Iterable[list[int]]) -> None:
        self.begin, self.batches = begin, iter(batches)
        self.begun: list[Batch] = []

    def __next__(self) -> list[int]:
        indices = next(self.batches)
        if self.begin is None:
            return indices
        self.begun = [batch for batch in self.begun if not batch.over]
        with ctrl_c_deferred():  # in `submit` it would leave the pool waiting for a lock
            self.begun.append(self.begin(list(indices)))
        return Foreseen(indices, self.begun[-1])

    def close(self) -> None:
        "Lets the threads begin with no further sample"
        for batch in self.begun:
            batch.stop()

    __del__ = close


class Foreseen(list[int]):
    "Indices of a batch with which the threads have begun"

    def __init__(self, indices: list[int], batch: Batch) -> None:
        super().__init__(indices)
        self.batch = batch

    def wait(self) -> Sequence[Any] | None:
        "The batch; None if it was asked for before"
        return None if self.batch.taken else self.batch.wait()
