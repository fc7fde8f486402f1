"""A loader that makes batches in advance, in a thread: for datasets that gather a batch at once.

Copy this file with my_packed.py. Needs torch and the standard library.
"""

import atexit
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader

PIECE = 1 << 20  # bytes that are handed over at once, if a batch is smaller: handing over has its price
AHEAD = 2  # pieces that the thread is asked for before the first is there
BEHIND = 4  # batches on a CUDA device whose steps have not run yet
OF_WORKERS = {
    *("num_workers", "persistent_workers", "prefetch_factor", "worker_init_fn", "timeout"),
    *("multiprocessing_context", "pin_memory_device", "in_order"),
}  # arguments of DataLoader that say nothing here


class PrefetchLoader:
    """A DataLoader whose batches are made in advance, by a thread of this process, in the same order.

        for local_batch, local_labels in PrefetchLoader(training_set, batch_size=64, shuffle=True):

    For datasets that fetch a batch at once, as PackedDataset does, mostly without Python's lock: nothing is
    copied from process to process, and no process has to start. A dataset with a method `foresee` gets the
    lists of indices one batch ahead, as ImageDataset wants them. Arguments are those of DataLoader; the ones
    about workers are taken, and have no effect. So are `len(loader)`, `loader.sampler` and the like.

    `device`: a CUDA device to which the batches are copied on a stream of their own, through pinned memory,
    while the model computes on the one before; tensors in tuples, lists and dicts are. The stream that is
    current when a batch is asked for may use it; another one has to wait for that, and to record it. The host
    may run ahead of the device by four steps. Other devices get batches that are on the CPU.

    `pin_memory`: hands over batches in pinned memory, where there is a CUDA device.

    An error in the dataset is raised where the batch was due. Whoever leaves the loop early leaves no
    thread behind.
    """

    def __init__(
        self,
        dataset,
        batch_size: int = 1,
        shuffle: bool | None = None,
        sampler=None,
        batch_sampler=None,
        collate_fn: Callable | None = None,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
        pin_memory: bool = False,
        device: torch.device | str = "cpu",
        **of_workers,
    ):
        if unknown := set(of_workers) - OF_WORKERS:
            raise TypeError(f"PrefetchLoader has no argument {', '.join(sorted(unknown))}")
        if isinstance(dataset, torch.utils.data.IterableDataset):
            raise TypeError("PrefetchLoader needs a dataset with a length and indices, no IterableDataset")
        if batch_size is None:
            raise ValueError("PrefetchLoader makes batches: batch_size is a number")
        self._loader = DataLoader(  # checks the arguments, and makes a batch sampler of them
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            collate_fn=collate_fn,
            drop_last=drop_last,
            generator=generator,
            pin_memory=pin_memory,
        )
        self.device = torch.device(device)
        self._stream = None

    def __len__(self) -> int:
        "Batches of an epoch"
        return len(self._loader)

    def __getattr__(self, name: str):
        if name == "_loader":  # while it is being copied or unpickled
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __getstate__(self):
        return self.__dict__ | {"_stream": None}

    def __iter__(self) -> Iterator:
        indices = iter(self._loader.batch_sampler)
        if foresee := getattr(type(self._loader.dataset), "foresee", None):
            indices = foresee(self._loader.dataset, indices)
        torch.empty((), dtype=torch.int64).random_(generator=self._loader.generator)  # as DataLoader draws
        running = deque()  # events at the ends of steps, on a CUDA device
        with self._thread() as (asked, made):
            pending, many = 0, None  # pieces that were asked for; batches in a piece, once one is known
            while True:
                while pending < AHEAD and (piece := list(islice(indices, many or 1))):
                    asked.put(piece)
                    pending += 1
                if not pending:
                    return
                batches = made.get()
                pending -= 1
                many = many or pieced(batches[0][0])
                for batch, copied in batches:
                    if isinstance(batch, BaseException):
                        raise batch
                    if copied is not None:
                        self._receive(batch, copied)
                    yield batch
                    if copied is not None:
                        self._hold_back(running)

    @contextmanager
    def _thread(self):
        "A thread that is there during the block, and two queues: what it is asked for, and what it has made"
        if self.device.type == "cuda" and self._stream is None:
            self._stream = torch.cuda.Stream(self.device)  # one for good: memory is kept by stream
            self.device = self._stream.device
        asked, made = queue.SimpleQueue(), queue.SimpleQueue()
        thread = threading.Thread(target=self._make, args=(asked, made), name="PrefetchLoader", daemon=True)
        waits = threading.current_thread(), threading.main_thread()  # others may be what it waits for

        def stop():
            with suppress(queue.Empty):
                while True:
                    asked.get_nowait()
            asked.put(None)
            if thread.ident and threading.current_thread() in waits:
                thread.join()

        atexit.register(stop)  # of an iterator that is still alive then
        thread.start()
        try:
            yield asked, made
        finally:
            stop()
            if not thread.is_alive():
                atexit.unregister(stop)

    def _make(self, asked: queue.SimpleQueue, made: queue.SimpleQueue):
        "What the thread does, until it is asked for None"
        if self._stream is not None:
            torch.cuda.set_device(self.device)  # a new thread begins on device 0
        while (piece := asked.get()) is not None:
            made.put([self._batch(indices) for indices in piece])

    def _batch(self, indices: list) -> tuple:
        "The batch, or the error in its place; and the event of its having been copied to the device"
        dataset = self._loader.dataset
        try:
            if getattr(dataset, "__getitems__", None):
                samples = dataset.__getitems__(indices)
            else:
                samples = [dataset[index] for index in indices]
            batch = self._loader.collate_fn(samples)
            if self._stream is None:
                if self._loader.pin_memory and torch.cuda.is_available():
                    batch = tree_map(pinned, batch)
                return batch, None
            if not tensors(batch):
                raise TypeError(f"there is no tensor in this {type(batch).__name__} to be sent to the device")
            with torch.cuda.stream(self._stream):
                batch = tree_map(self._copied, batch)
                return batch, self._stream.record_event()
        except BaseException as error:
            return error, None

    def _copied(self, X):
        return pinned(X).to(self.device, non_blocking=True) if isinstance(X, torch.Tensor) else X

    def _receive(self, batch, copied):
        "Makes the loop's stream wait for the copy, and the copy's memory wait for the loop's stream"
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copied)
        for X in tensors(batch):
            X.record_stream(stream)

    def _hold_back(self, running: deque):
        "Lets the host run ahead no further: the memory of a batch is free only when its step has run"
        running.append(torch.cuda.current_stream(self.device).record_event())
        if len(running) > BEHIND:
            running.popleft().synchronize()


def pinned(X):
    return X.pin_memory() if isinstance(X, torch.Tensor) and X.device.type == "cpu" else X


def tensors(batch) -> list[torch.Tensor]:
    return [X for X in tree_leaves(batch) if isinstance(X, torch.Tensor)]


def pieced(batch) -> int:
    "How many batches like this one are handed over at once"
    return min(16, max(1, PIECE // max(1, sum(X.nbytes for X in tensors(batch)))))
