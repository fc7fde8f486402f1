"""One peer and one workload in a process of its own: commands come as lines of JSON, and so do the answers.

    PYTHONPATH=. python3 benchmarks/peer_process.py NAME FOLDER

is started by benchmarks/peers.py, and ends when that does. A command is {"do": one of COMMANDS, and its
arguments}; the answer {"value": ...} or {"error": "..."}. Commands that want a process that has not opened
anything, because it is to be thrown away or to be cold, run in a fork of this one.
"""

import ctypes
import inspect
import json
import os
import signal
import sys
import time
import warnings
from ast import get_docstring, parse
from importlib.metadata import distribution
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from textwrap import dedent
from types import FunctionType

import torch
from peer_loaders import PEERS, listed, samples

from feedgpu.measure.footprint import family
from feedgpu.measure.page_cache import NotCold, evict, files_below, resident, warm
from feedgpu.measure.stand_in import Device, HoldsTheLock, KeepsCoresBusy

STEPS = {"sleeping": Device, "holding the lock": HoldsTheLock, "all cores busy": KeepsCoresBusy}
HELD = 1e8  # bytes of batches that are replayed


class Served:
    "A peer, opened when it is first needed"

    def __init__(self, peer: type, folder: Path):
        self.peer, self.root, self.target = peer, folder / "article", folder / peer.kept
        self.opened, self.held = None, []
        self.notation = listed(self.root)
        self.idle = memory()

    def open(self):
        if self.opened is None:
            self.opened = self.peer(self.root, self.target)
        return self.opened

    def source(self) -> list[Path]:
        "The samples' own files"
        return sorted(self.root.glob("*.pt"))

    def files(self) -> list[Path]:
        "What it reads"
        return self.source() if self.peer.kept == "article" else files_below(self.target)

    def convert(self) -> dict:
        "Seconds to convert the article's folder, bytes of what came of it"
        warm(self.source())
        self.target.mkdir(exist_ok=True) if not self.peer.kept.startswith("article") else None
        began = time.perf_counter()
        if hasattr(self.peer, "convert"):
            self.peer.convert(self.root, self.target)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "bytes": sum(file.stat().st_size for file in self.files())}

    def check(self, workers: int) -> dict:
        "One epoch: what it delivers, as `signature` tells samples apart"
        found, kinds = [], set()
        for X, y in self.open().batches(workers):
            kinds.add(str((X.dtype, list(X.shape[1:]), y.dtype)))
            found += map(list, zip(signature(X), y.tolist(), strict=True))
        return {"kinds": sorted(kinds), "samples": sorted(found)}

    def tune(self, rounds: int, most: float) -> dict:
        "Samples/s for each number of workers, in turn, once the first batch is there"
        warm(self.files())
        found = {workers: [] for workers in self.peer.workers}
        for _ in range(rounds if len(found) > 1 else 0):
            for workers, rates in found.items():
                taken, began = 0, 0.0
                for _, y in self.open().batches(workers):
                    if not began:
                        began = time.perf_counter()
                        continue
                    taken += len(y)
                    if (seconds := time.perf_counter() - began) > most:
                        break
                rates.append(taken / seconds)
        return found

    def rate(self, workers: int, least: float, most: float) -> float:
        """Samples/s of whole epochs, one after the other, with an empty loop body: as many as begin within
        `least` seconds; one that takes `most` seconds is cut. Starting the workers counts."""
        warm(self.files())
        peer = self.open()
        taken, seconds, began = 0, 0.0, time.perf_counter()
        while seconds < least:
            for _, y in peer.batches(workers):
                taken += len(y)
                if (seconds := time.perf_counter() - began) > most:
                    return taken / seconds
            seconds = time.perf_counter() - began
        return taken / seconds

    def first(self, workers: int, rounds: int) -> list[float]:
        "Seconds from the beginning of an epoch to its first batch"
        warm(self.files())
        found = []
        for _ in range(rounds):
            began = time.perf_counter()
            iterator = iter(self.open().batches(workers))
            next(iterator)
            found.append(time.perf_counter() - began)
            del iterator
        return found

    def memory(self, workers: int, most: float) -> int:
        "Bytes by which its memory, that of its workers included, at most exceeds that of an idle process"
        greatest, began, looked = 0, time.perf_counter(), 0.0
        for number, _ in enumerate(self.open().batches(workers)):
            now = time.perf_counter()
            if number < 5 or now - looked > 0.05:
                greatest, looked = max(greatest, memory()), now
            if now - began > most:
                break
        return max(0, greatest - self.idle)

    def stall(self, workers: int, kind: str, seconds: float, batches: int, most: float, rounds: int) -> float:
        """Share of the time that would vanish if batches came from memory, behind steps that read every byte
        and then take `seconds`: of at most so many batches, or `most` seconds, and the median of rounds. From
        when the first batch is there; `first` has measured until then."""
        if not self.held:
            size = 0
            for X, _ in self.open().batches(workers):
                self.held.append(X.clone())
                size += X.nbytes
                if size > HELD or len(self.held) >= batches:
                    break
            warm(self.files())
        found = []
        for _ in range(rounds):
            iterator = iter(self.open().batches(workers))
            X, _ = next(iterator)
            step, done, began = STEPS[kind](seconds), 0, time.perf_counter()
            while done < batches and time.perf_counter() - began < most and X is not None:
                read(X)
                step()
                done += 1
                X, _ = next(iterator, (None, None))
            real = time.perf_counter() - began
            del iterator, X
            step, began = STEPS[kind](seconds), time.perf_counter()
            for number in range(done):
                read(self.held[number % len(self.held)])
                step()
            found.append(1 - (time.perf_counter() - began) / real)
        return max(0.0, median(found))

    def cold(self, workers: int, batches: int) -> dict:
        """Samples/s of the first batches of an epoch, its start included, while the files are not in memory.
        `resident`: the share of them that opening had read."""
        evict(self.files())
        peer = self.open()
        there = resident(self.files())
        taken, began = 0, time.perf_counter()
        for number, (X, y) in enumerate(peer.batches(workers), 1):
            read(X)
            taken += len(y)
            if number == batches:
                break
        return {"rate": taken / (time.perf_counter() - began), "resident": there}

    def describe(self) -> dict:
        "What does not need to be measured"
        installed = None
        if self.peer.distribution:
            files = distribution(self.peer.distribution).files or []
            installed = sum(Path(file.locate()).stat().st_size for file in files if file.locate().exists())
        about = {name: getattr(self.peer, name) for name in ("shuffle", "recipe", "distribution")}
        return about | {"lines": lines(self.peer), "installed": installed}


# Those of an own process first.
APART = ("convert", "check", "tune", "cold")
COMMANDS = (*APART, "rate", "first", "memory", "stall", "describe")


def read(X: torch.Tensor) -> torch.Tensor:
    "Every byte of a batch"
    return X.reshape(-1).view(torch.int64).sum()


def signature(X: torch.Tensor) -> list[int]:
    "A number for each sample that changes when a byte does, or changes places with another"
    values = X.reshape(len(X), -1).view(torch.int64)
    return (values * (2 * torch.arange(values.shape[1]) + 1)).sum(1).tolist()


def source_of(root: Path) -> dict:
    "What `check` has to find"
    found, kinds = [], set()
    for X, y in samples(root):
        kinds.add(str((X.dtype, list(X.shape), torch.int64)))
        found.append([*signature(X[None]), y])
    return {"kinds": sorted(kinds), "samples": sorted(found)}


def memory() -> int:
    "Bytes of this process and its children, private or shared, that no file could bring back"
    return sum(one.pss - one.mapped_files for one in family().values())


def lines(peer: type) -> int:
    "Lines of code in its class, and in those that it is made from, without converting and describing it"
    taken = 0
    seen = set()
    for one in peer.__mro__[:-1]:
        for name, method in vars(one).items():
            if isinstance(method, FunctionType) and name not in seen:
                seen.add(name)
                text = dedent(inspect.getsource(method))
                said = (get_docstring(parse(text).body[0]) or "").splitlines()
                taken += sum(bool(line.strip()) for line in text.splitlines()) - len(said)
    return taken


def apart(served: Served, do: str, arguments: dict) -> dict:
    "The answer of a fork of this process, which ends with it"
    context = get_context("fork")
    here, there = context.Pipe(duplex=False)

    def work():
        there.send(answer(served, do, arguments))

    process = context.Process(target=work)
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        process.join()
        return {"error": f"the process that was to {do} ended with code {process.exitcode}"}
    finally:
        process.join(10)
        process.kill()


def answer(served: Served, do: str, arguments: dict) -> dict:
    try:
        return {"value": getattr(served, do)(**arguments)}
    except NotCold as error:
        return {"error": str(error)}
    except Exception as error:
        warnings.warn(repr(error), stacklevel=2)
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def end_with_parent():
    "Linux ends this process when the one that started it has ended, however that was"
    if hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def serve(peers: dict[str, type], kind: type = Served, commands: tuple[str, ...] = COMMANDS):
    "Does what the lines of standard input say, until there are no more"
    end_with_parent()
    os.register_at_fork(after_in_child=end_with_parent)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    _, name, folder = sys.argv
    warnings.filterwarnings("ignore", "This DataLoader will create")
    torch.manual_seed(0)
    served = kind(peers[name], Path(folder))
    print(json.dumps({"value": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        arguments = json.loads(line)
        do = arguments.pop("do")
        if do not in commands:
            raise SystemExit(f"there is no command {do!r}")
        found = apart(served, do, arguments) if do in APART else answer(served, do, arguments)
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    serve(PEERS)
