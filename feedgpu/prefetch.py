"""A loader that makes batches in advance, in a thread: for datasets that gather a batch at once."""

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from queue import SimpleQueue
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, default_collate

from .asked import Piece, Source
from .memory import Gathered
from .ranks import reach_epochs, refuse_whole, set_epoch
from .system import ctrl_c_deferred
from .threads import Threads

Event = torch.cuda.Event
Asked = SimpleQueue[Piece | None]
Made = SimpleQueue["list[tuple[Any, Event | None]] | Together"]
BEHIND = 4  # batches on a CUDA device whose steps have not run yet
IDLE = {
    *("num_workers", "persistent_workers", "prefetch_factor", "pin_memory_device", "in_order"),
}  # arguments of DataLoader that change when a batch comes, and not what it is: nothing to do for them here
OF_THE_ORDER = {"shuffle", "generator"}  # of which the sampler was made: set later, they change nothing
OF_WORKERS = {"worker_init_fn", "timeout", "multiprocessing_context"}  # these would change something
SEEDS_WORKERS = "pl_worker_init_function"  # what Lightning's seed_everything(workers=True) sets, unasked


class PrefetchLoader:
    """A DataLoader whose batches are made in advance, by a thread of this process, in the same order.

        for local_batch, local_labels in PrefetchLoader(training_set, batch_size=64, shuffle=True):

    For datasets that fetch a batch at once, as PackedDataset does, mostly without Python's lock: nothing is
    copied from process to process, and no process has to start. Small batches of a pack are gathered several
    at a time, up to four megabytes. A dataset with a method `foresee` gets the lists of indices one batch
    ahead, as ImageDataset wants them. Arguments and attributes are those of DataLoader. Of those about
    workers, num_workers, persistent_workers, prefetch_factor and in_order are taken and have no effect;
    worker_init_fn, timeout and multiprocessing_context raise ValueError.

    `threads`: so many threads make the samples, each by `dataset[index]`, for a dataset that waits for a disk
    or a network, or whose code lets go of Python's lock. They stay as long as the loader. None: the dataset's
    own way.

    In a group of processes (torch.distributed), a loop in which each would get all samples raises
    RuntimeError: `sampler` has to share them out, as EpochSampler does with `rank` and `ranks`.

    What a sample draws at random (see Augmented) follows the epoch of an EpochSampler or DistributedSampler,
    also through torch's Subset and random_split.

    `generator`: of the order that `shuffle` draws. Without one the loader has its own, seeded as torch was
    when the loader was made (torch.initial_seed()). The random numbers of the model are left alone.

    `device`: a CUDA device to which the batches are copied on a stream of their own, through pinned memory,
    while the model computes on the one before; tensors in tuples, lists and dicts are. The stream that is
    current when a batch is asked for may use it; another one has to wait for that, and to record it. The host
    may run ahead of the device by four steps. Raises ValueError for a device that is neither CUDA nor the
    CPU.

    `pin_memory`: hands over batches in pinned memory, where there is a CUDA device.

    An error in the dataset is raised where the batch was due. Whoever leaves the loop early leaves no
    thread behind.
    """

    _loader: DataLoader[Any]
    _threads: Threads | None
    _device: torch.device
    _stream: torch.cuda.Stream | None

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
        pin_memory: bool = False,
        device: torch.device | str = "cpu",
        threads: int | None = None,
        **of_workers: Any,
    ) -> None:
        if unknown := set(of_workers) - IDLE - OF_WORKERS:
            raise TypeError(f"PrefetchLoader has no argument {', '.join(sorted(unknown))}")
        for name, value in of_workers.items():
            refuse_for_workers(name, value)
        if isinstance(dataset, torch.utils.data.IterableDataset):
            raise TypeError("PrefetchLoader needs a dataset with a length and indices, no IterableDataset")
        if batch_size is None:
            raise ValueError("PrefetchLoader hands over whole batches: give batch_size a number")
        if shuffle and generator is None:
            generator = torch.Generator().manual_seed(torch.initial_seed())
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
        reach_epochs(self._loader.batch_sampler)
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, or None, but it is {threads}")
        self._threads = None if threads is None else Threads(threads, "PrefetchLoader's")
        self.device = device

    def __len__(self) -> int:
        "Batches of an epoch"
        return len(self._loader)

    def set_epoch(self, epoch: int) -> None:
        "Calls `set_epoch` of the batch sampler, or of the sampler, if it has one"
        set_epoch(self._loader, epoch)

    @property
    def threads(self) -> int | None:
        "That make the samples; None: the dataset's own way"
        return None if self._threads is None else self._threads.count

    @property
    def device(self) -> torch.device:
        "To which the batches are copied"
        return self._device

    @device.setter
    def device(self, device: torch.device | str) -> None:
        wanted = torch.device(device)
        if wanted.type not in ("cpu", "cuda"):
            raise ValueError(
                f"PrefetchLoader copies to CUDA devices alone: leave device={str(wanted)!r} out, and "
                "copy each batch in the loop"
            )
        self._device, self._stream = wanted, None

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # while it is being copied or unpickled
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_loader", "_device", "_stream", "_threads", "device"):
            super().__setattr__(name, value)
        else:
            if name in OF_THE_ORDER:
                raise ValueError(f"{name} is fixed once the loader is made: make a new PrefetchLoader")
            refuse_for_workers(name, value)
            setattr(self._loader, name, value)  # which refuses what it would not heed

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stream": None}

    def __iter__(self) -> Iterator[Any]:
        refuse_whole(self._loader)
        as_it_is = (
            self._loader.collate_fn is default_collate and self._device.type == "cpu" and not self._pins
        )
        source = Source(self._loader.dataset, self._loader.batch_sampler, self._threads, as_it_is)
        if self._loader.generator is not None:
            torch.empty((), dtype=torch.int64).random_(generator=self._loader.generator)  # as DataLoader does
        if self._device.type == "cuda" and self._stream is None:
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # one for good: memory is kept by stream
            self._device = self._stream.device
        running: deque[torch.cuda.Event] = deque()  # the ends of steps, on a CUDA device
        with self._thread(source) as (asked, made), closing(source):  # at first what the thread may wait for
            pending, first = 0, True  # pieces that were asked for and have not come
            while True:
                while pending < source.ahead and (piece := source.piece(first)):
                    asked.put(piece)
                    pending, first = pending + 1, False
                if not pending:
                    return
                batches = made.get()
                pending -= 1
                if isinstance(batches, Together):
                    yield from batches.them
                    continue
                for batch, copied in batches:
                    if isinstance(batch, BaseException):
                        raise batch
                    if copied is not None:
                        self._receive(batch, copied)
                    yield batch
                    if copied is not None:
                        self._hold_back(running)

    @contextmanager
    def _thread(self, source: Source) -> Iterator[tuple[Asked, Made]]:
        """A thread that runs during the block, and two queues: what it is asked for, and what it has made.

        A ThreadPoolExecutor needs ten lines less. But it makes a Future of each piece, and small batches then
        come a seventh more slowly.
        """
        asked: Asked = SimpleQueue()
        made: Made = SimpleQueue()
        ended = threading.Event()
        thread = threading.Thread(target=self._make, args=(source, asked, made, ended), daemon=True)
        thread.name = "PrefetchLoader"
        waits = threading.current_thread(), threading.main_thread()  # others may be what it waits for

        def stop() -> None:
            ended.set()
            asked.put(None)
            if thread.ident and threading.current_thread() in waits:
                thread.join()

        try:
            with ctrl_c_deferred():  # a thread that is torn while it starts would stay for good
                atexit.register(stop)  # of an iterator that is still alive then
                thread.start()
            yield asked, made
        finally:
            if not ended.is_set():  # else Python is ending, and has stopped it: modules may be gone
                with ctrl_c_deferred():
                    stop()
                    if not thread.is_alive():
                        atexit.unregister(stop)

    def _make(self, source: Source, asked: Asked, made: Made, ended: threading.Event) -> None:
        "What the thread does, until it is asked for None; once it is to end, it makes no further batch"
        if self._stream is not None:
            torch.cuda.set_device(self._device)  # a new thread begins on device 0
        while (piece := asked.get()) is not None:
            if ended.is_set():
                continue
            if batches := source.together(piece):
                made.put(Together(batches))
            else:
                lists = piece.lists()
                made.put([self._finished(source.samples(one)) for one in lists if not ended.is_set()])

    def _finished(self, samples: Any) -> tuple[Any, torch.cuda.Event | None]:
        "The batch, or the error in its place; and the event of its having been copied to the device"
        if isinstance(samples, BaseException):
            return samples, None
        try:
            gathered = isinstance(samples, Gathered)
            if gathered and samples.whole and self._loader.collate_fn is default_collate:
                batch = samples.collated()  # what default_collate would come to, by a detour
            else:  # a function in C, such as torch.stack, looks into the list itself
                batch = self._loader.collate_fn(list(samples) if gathered else samples)
            if self._stream is None:
                if self._pins:
                    batch = tree_map(pinned, batch)
                return batch, None
            if not tensors(batch):
                raise TypeError(f"there is no tensor in this {type(batch).__name__} to be sent to the device")
            with torch.cuda.stream(self._stream):
                batch = tree_map(self._copied, batch)
                return batch, self._stream.record_event()
        except BaseException as error:
            return error, None

    @property
    def _pins(self) -> bool:
        return self._loader.pin_memory and torch.cuda.is_available()

    def _copied(self, X: Any) -> Any:
        return pinned(X).to(self._device, non_blocking=True) if isinstance(X, torch.Tensor) else X

    def _receive(self, batch: Any, copied: torch.cuda.Event) -> None:
        "Makes the loop's stream wait for the copy, and the copy's memory wait for the loop's stream"
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(copied)
        for X in tensors(batch):
            X.record_stream(stream)

    def _hold_back(self, running: deque[torch.cuda.Event]) -> None:
        "Lets the host run ahead no further: the memory of a batch is free only when its step has run"
        running.append(torch.cuda.current_stream(self._device).record_event())
        if len(running) > BEHIND:
            running.popleft().synchronize()


class Together(NamedTuple):
    "Batches that were gathered together: neither errors nor copies on a device"

    them: list[Any]


def refuse_for_workers(name: str, value: object) -> None:
    seeds = getattr(getattr(value, "func", None), "__name__", None) == SEEDS_WORKERS
    if name in OF_WORKERS and value and not seeds:
        raise ValueError(f"PrefetchLoader has no workers, so {name} would have no effect: leave it out")


def pinned(X: Any) -> Any:
    return X.pin_memory() if isinstance(X, torch.Tensor) and X.device.type == "cpu" else X


def tensors(batch: Any) -> list[torch.Tensor]:
    "Those in a batch, in tuples, lists and dicts"
    return [X for X in tree_leaves(batch) if isinstance(X, torch.Tensor)]
