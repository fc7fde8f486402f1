"""A stand-in for the device, for machines without one: steps of a known length.

Wherever a chapter or a benchmark uses it, it says so. A real GPU computes while its host goes on: `Device`
does that, and uses no CPU. But a step may also hold Python's lock or keep all cores busy, and the same
loader behaves differently behind each of the three.
"""

import time

import torch


class Device:
    """An asynchronous queue whose steps take `seconds` each, without using a CPU.

    `device(*batch)` enqueues one step and returns at once, as a call of a CUDA kernel does; it blocks only
    while `run_ahead` steps are already queued (0: it returns when the step is done, as after `.item()`).
    `synchronize()` returns when all steps are done. `starts` and `ends` are the steps' times on the clock of
    time.perf_counter.
    """

    cpus = 0

    def __init__(self, seconds: float, run_ahead: int = 0):
        if seconds < 0 or run_ahead < 0:
            raise ValueError(f"a step of {seconds} s and a queue of {run_ahead} steps cannot be")
        self.seconds, self.run_ahead = seconds, run_ahead
        self.starts, self.ends = [], []

    def __call__(self, *batch):
        now = time.perf_counter()
        start = max(now, self.ends[-1]) if self.ends else now
        self.starts.append(start)
        self.ends.append(start + self.seconds)
        if len(self.ends) > self.run_ahead:
            sleep_until(self.ends[-1 - self.run_ahead])

    def synchronize(self):
        if self.ends:
            sleep_until(self.ends[-1])

    def idle_share(self) -> float:
        "Share of the time without a step, from the start of the first one, not before, to the last one's end"
        busy = self.seconds * len(self.ends)
        return max(0.0, 1 - busy / max(self.ends[-1] - self.starts[0], 1e-9)) if self.ends else 0.0


def sleep_until(moment: float):
    if (left := moment - time.perf_counter()) > 0:
        time.sleep(left)


class HoldsTheLock:
    "A step that computes in Python for `seconds` and holds the interpreter's lock (the GIL) meanwhile."

    cpus = 1

    def __init__(self, seconds: float):
        self.seconds = seconds

    def __call__(self, *batch):
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass


class KeepsCoresBusy:
    """A step that multiplies matrices on all of torch's threads until `seconds` have passed, as a model on
    the CPU does. It releases the lock, and competes with the workers for the cores."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.cpus = torch.get_num_threads()
        self.matrix = torch.zeros(192, 192)
        self.product = torch.empty_like(self.matrix)

    def __call__(self, *batch):
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            torch.mm(self.matrix, self.matrix, out=self.product)
