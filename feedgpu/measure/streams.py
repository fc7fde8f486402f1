"""The GPU of chapter 10: this machine's own or, where there is none, a stand-in with the same methods.

    gpu = the_gpu()
    X = gpu.send(gpu.pin(local_batch), non_blocking=True)   # local_batch.pin_memory().to("cuda", ...)
    gpu.compute(X, 0.012)                                   # a step of 12 ms that reads X
    gpu.synchronize()

`Stream`, with its `record_event`, `wait_event`, `wait_stream` and `synchronize`, `stream`, `current_stream`
and `synchronize` are those of torch.cuda. What was done when, by the
host, the bus and the device, is a feedgpu.measure.timeline.Timeline: `gpu.recorded(work)`.

The stand-in keeps the books of a GPU: when each stream, its bus and its processors would be done. Who waits
for them sleeps until then. What the host does, such as copying into other memory, it does in earnest. And it
notices what a GPU does not tell: an operation that reads what another one may still be writing.
"""

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from math import prod

import numpy
import torch

from .stand_in import sleep_until
from .timeline import Span, Timeline

# Bytes/s of the stand-in's bus, declared and not measured. By its specification PCIe 4.0 with 16 lanes
# carries 31.5 GB/s: 16 GT/s × 16 lanes × 128/130 / 8 bits.
BUS = 25e9
MEMORY = 1e12  # bytes/s of its own memory, declared as well
NO_WAIT = (
    "an operation reads a batch without having waited for its copy, which is on another stream: "
    "wait_event is missing"
)
NOT_KEPT = (
    "the memory of a batch went back to the stream that made it while another stream may still read it: "
    "record_stream is missing"
)


def the_gpu() -> "Cuda | StandIn":
    "This machine's CUDA device, or a stand-in"
    return Cuda() if torch.cuda.is_available() else StandIn()


class Stream:
    """A queue of the stand-in: its operations follow one another.

    `clock` holds, for each stream, how many of its operations are sure to be over before the next one of
    this stream begins: a vector clock (Fidge 1988, Mattern 1989).
    """

    def __init__(self, gpu: "StandIn"):
        self.gpu, self.end, self.clock = gpu, 0.0, {}

    def record_event(self) -> "Event":
        return Event(self.gpu, self.end, dict(self.clock))

    def wait_event(self, event: "Event"):
        self.end = max(self.end, event.end)
        join(self.clock, event.clock)

    def wait_stream(self, other: "Stream"):
        self.wait_event(other.record_event())

    def synchronize(self):
        self.record_event().synchronize()


class Event:
    "A place in a stream of the stand-in: what came before it"

    def __init__(self, gpu: "StandIn", end: float, clock: dict):
        self.gpu, self.end, self.clock = gpu, end, clock

    def synchronize(self):
        self.gpu.waited += 1
        join(self.gpu.host, self.clock)
        sleep_until(self.end)
        self.gpu.land(self.end)


def join(clock: dict, other: dict):
    for stream, count in other.items():
        clock[stream] = max(clock.get(stream, 0), count)


class OnDevice:
    """A tensor on the stand-in.

    `values` are its numbers, for whoever checks them. As PyTorch's allocator does it, its memory goes back to
    the stream on which it was made as soon as nobody holds it, and the next operation there may write to it.
    """

    def __init__(self, gpu: "StandIn", values: Callable[[], torch.Tensor], shape, dtype, stream: Stream):
        self.gpu, self._values, self.stream = gpu, values, stream
        self.shape, self.dtype, self.nbytes = torch.Size(shape), dtype, prod(shape) * dtype.itemsize
        self.written = stream.clock.get(stream, 0)
        self.reads = {}  # {stream: the number of its last operation that reads this}
        self.recorded = set()

    @property
    def values(self) -> torch.Tensor:
        return self._values()

    def record_stream(self, stream: Stream):
        "As torch.Tensor.record_stream: the memory waits for that stream as well"
        self.recorded.add(stream)

    def __del__(self):
        for stream, count in self.reads.items():
            if stream not in self.recorded and count > self.gpu.sure(self.stream, stream):
                self.gpu.races.append(NOT_KEPT)


_Stream = Stream  # in StandIn, as in torch.cuda, `Stream` makes one


class StandIn:
    """A GPU without a GPU: a bus of `bus` bytes/s, streams, and steps of a known length.

    Copies to the device, copies back and steps are done at the same time, those of a kind one after the other
    in the order in which the host asked for them.

    `races`: what it noticed, in sentences; that a pinned tensor is written to while it is being sent is not
    noticed. `sent`: how many tensors were sent so far, and `pageable`, how many of them were not pinned.
    `waited`: how often the host waited for a stream.
    """

    name = f"a stand-in, with a bus of {BUS / 1e9:.0f} GB/s"

    def __init__(self, bus: float = BUS):
        self.bus = bus
        self.free = {
            "bus": 0.0,
            "bus back": 0.0,
            "device": 0.0,
        }  # when each is done with what it has been given
        self.streams, self.here = weakref.WeakSet(), threading.local()
        self.default = self.Stream()
        self.host = {}  # the clock of what the host has waited for
        self.races: list[str] = []
        self.spans: list[tuple] | None = None
        self.sent, self.pageable, self.waited = 0, 0, 0
        self.blocks = {}  # {bytes: memory that nobody holds}
        self.landing = []  # (when, the thread that fills what was fetched)

    def Stream(self) -> _Stream:
        stream = Stream(self)
        self.streams.add(stream)
        return stream

    def current_stream(self) -> _Stream:
        return getattr(self.here, "stream", self.default)

    @contextmanager
    def stream(self, stream: _Stream):
        "A block whose operations go to `stream`"
        before, self.here.stream = self.current_stream(), stream
        try:
            yield
        finally:
            self.here.stream = before

    def pin(self, X: torch.Tensor) -> torch.Tensor:
        "A copy of `X` in memory that counts as pinned; what nobody holds any more is used again"
        return self._host("copying", lambda: self._pinned(X))

    def send(self, X: torch.Tensor, non_blocking: bool = False) -> OnDevice:
        "Sends `X` to the device, on the current stream"
        stream = self.current_stream()
        pinned = getattr(X, "pinned_by", None) is self
        if not pinned:  # NVIDIA, CUDA Runtime API, "API synchronization behavior"
            self._host("waiting", stream.synchronize)
            X = self.pin(X)
        self._enqueue("bus", "copying", X.nbytes / self.bus)
        if not non_blocking:
            self._host("waiting", stream.synchronize)
        self.sent += 1
        self.pageable += not pinned
        return OnDevice(self, lambda: X, X.shape, X.dtype, stream)

    def take(self, X: OnDevice, indices: OnDevice) -> OnDevice:
        "X.index_select(0, indices), on the device"
        self._read(X, indices)
        shape = indices.shape + X.shape[1:]
        self._enqueue("device", "making", 2 * prod(shape) * X.dtype.itemsize / MEMORY)

        def values() -> torch.Tensor:  # which the CPU need not make unless somebody looks
            return X.values.index_select(0, indices.values)

        return OnDevice(self, values, shape, X.dtype, self.current_stream())

    def fetch(self, X: OnDevice, non_blocking: bool = False) -> torch.Tensor:
        "Sends `X` back, into pinned memory, which a `non_blocking` copy fills later"
        self._read(X)
        end = self._enqueue("bus back", "copying", X.nbytes / self.bus)
        back = torch.zeros_like(X.values)
        lands = threading.Timer(max(0.0, end - time.perf_counter()), back.copy_, (X.values,))
        lands.start()
        self.landing.append((end, lands))
        if not non_blocking:
            self.current_stream().synchronize()
        return back

    def land(self, until: float):
        "Waits for what has been fetched by then"
        for end, lands in self.landing:
            if end <= until:
                lands.join()
        self.landing = [(end, lands) for end, lands in self.landing if lands.is_alive()]

    def sure(self, stream: _Stream, other: _Stream) -> int:
        "How many operations of `other` are over before what `stream` is given next"
        return max(stream.clock.get(other, 0), self.host.get(other, 0))

    def compute(self, X: OnDevice, seconds: float):
        "Enqueues a step that reads `X`, and returns at once"
        self._read(X)
        self._enqueue("device", "computing", seconds)

    def synchronize(self):
        "Returns when all that was enqueued is done"
        for stream in list(self.streams):
            stream.synchronize()

    def recorded(self, work: Callable[[], None]) -> Timeline:
        "Calls `work()` and waits for the device: who did what when"
        self.synchronize()
        self.spans = []
        began = time.perf_counter()
        work()
        self.synchronize()
        spans, self.spans = self.spans, None
        return timeline(spans or [], began, time.perf_counter())

    def _pinned(self, X: torch.Tensor) -> torch.Tensor:
        if not X.nbytes:
            return X.clone()
        free = self.blocks.setdefault(X.nbytes, [])
        block = free.pop() if free else numpy.empty(X.nbytes, numpy.uint8)
        view = block[:]
        weakref.finalize(view, free.append, block).atexit = False
        pinned = torch.from_numpy(view).view(X.dtype).view(X.shape)
        pinned.pinned_by = self  # type: ignore[attr-defined]
        return pinned.copy_(X)

    def _read(self, *tensors: OnDevice):
        "Notices what the current stream's next operation reads"
        stream = self.current_stream()
        for X in tensors:
            if X.written > self.sure(stream, X.stream):
                self.races.append(NO_WAIT)
            if stream is not X.stream:
                X.reads[stream] = stream.clock.get(stream, 0) + 1

    def _enqueue(self, who: str, what: str, seconds: float) -> float:
        stream = self.current_stream()
        start = max(time.perf_counter(), stream.end, self.free[who])
        stream.end = self.free[who] = start + seconds
        join(stream.clock, self.host)
        stream.clock[stream] = stream.clock.get(stream, 0) + 1
        self._note(who, what, start, stream.end)
        return stream.end

    def _host(self, what: str, work: Callable):
        began = time.perf_counter()
        done = work()
        self._note("host", what, began, time.perf_counter())
        return done

    def _note(self, who: str, what: str, start: float, end: float):
        if self.spans is not None:
            self.spans.append((who, what, start, end))


class Cuda:
    "The same methods on this machine's CUDA device"

    def __init__(self):
        self.name = torch.cuda.get_device_name()
        self.Stream, self.stream = torch.cuda.Stream, torch.cuda.stream
        self.current_stream, self.synchronize = torch.cuda.current_stream, torch.cuda.synchronize
        self.spans: list[tuple] | None = None
        self.cycles = 1e9  # that torch.cuda._sleep waits in a second, of a clock that rises under load
        before = 0.0
        for _ in range(30):
            start = stamp()
            torch.cuda._sleep(int(0.05 * self.cycles))
            end = stamp()
            end.synchronize()
            self.cycles *= 0.05 / (start.elapsed_time(end) / 1e3)
            if abs(self.cycles - before) < 0.02 * self.cycles:
                break
            before = self.cycles

    def pin(self, X: torch.Tensor) -> torch.Tensor:
        with self._busy("copying"):
            return X.pin_memory()

    def send(self, X: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        done = "copying" if non_blocking else "waiting"  # the driver's own copy is part of either
        with self._busy(done), self._noted("bus", "copying"):
            return X.to("cuda", non_blocking=non_blocking)

    def take(self, X: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        with self._noted("device", "making"):
            return X.index_select(0, indices)

    def fetch(self, X: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        "X.to('cpu'), into zeros, where PyTorch would take whatever memory there is"
        back = torch.zeros(X.shape, dtype=X.dtype, pin_memory=True)
        with self._noted("bus back", "copying"):
            return back.copy_(X, non_blocking=non_blocking)

    def compute(self, X: torch.Tensor, seconds: float):
        "A step that waits so long, and does not really read `X`"
        with self._noted("device", "computing"):
            torch.cuda._sleep(int(seconds * self.cycles))

    def recorded(self, work: Callable[[], None]) -> Timeline:
        self.synchronize()
        zero = stamp()
        zero.synchronize()
        self.spans = []
        began = time.perf_counter()
        work()
        self.synchronize()
        spans, self.spans = self.spans, None

        def seconds(at: "float | torch.cuda.Event") -> float:
            return at if isinstance(at, float) else began + zero.elapsed_time(at) / 1e3

        spans = [(who, what, seconds(start), seconds(end)) for who, what, start, end in spans or []]
        return timeline(spans or [], began, time.perf_counter())

    @contextmanager
    def _busy(self, what: str):
        began = time.perf_counter()
        yield
        if self.spans is not None:
            self.spans.append(("host", what, began, time.perf_counter()))

    @contextmanager
    def _noted(self, who: str, what: str):
        spans = self.spans
        start = stamp() if spans is not None else None
        yield
        if spans is not None:
            spans.append((who, what, start, stamp()))


def stamp() -> torch.cuda.Event:
    "An event in the current stream that tells when it was reached"
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def timeline(spans: list[tuple], began: float, ended: float) -> Timeline:
    "Of (who, what, start, end), on the clock of time.perf_counter"
    found = [
        Span(who, what, i, start - began, end - began) for i, (who, what, start, end) in enumerate(spans)
    ]
    return Timeline(found, ended - began)
