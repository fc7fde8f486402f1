"""What a process needs of its system: CPUs, files written whole, a Ctrl-C that waits, a progress bar."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def ctrl_c_deferred() -> Iterator[None]:
    """A Ctrl-C in this block takes effect at its end. Processes forked in it never hear one: whoever started
    them ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # it never strikes here
        return
    struck: list[bool] = []
    handler = signal.signal(signal.SIGINT, lambda *_: struck.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if struck:
        raise KeyboardInterrupt


def save_whole(content: object, file: Path) -> None:
    """torch.save, whole or not at all: whoever is killed while writing leaves the file that was there."""
    unfinished = file.with_name(file.name + ".unfinished")
    try:
        with open(unfinished, "wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def available_cpus() -> int:
    """CPUs that this process may use, at least 1: its affinity and, in a container, its cgroup's quota.

    `os.cpu_count()` knows neither. PYTHON_CPU_COUNT, if set, wins, as it does in Python 3.13.
    """
    told = os.environ.get("PYTHON_CPU_COUNT", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cpus, cgroup_quota())))


def cgroup_quota(groups: str | Path = "/proc/self/cgroup", mount: str | Path = "/sys/fs/cgroup") -> float:
    """CPUs' worth of time that this process's cgroups, versions 1 and 2, allow; infinity without a limit.

    A limit of any folder above the process's own holds for it too.
    """
    quota = float("inf")
    for line in read_text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        top = Path(mount) / ("cpu" if "cpu" in controllers.split(",") else "")
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(top):
                break
            limit = read_text(folder / "cpu.max") or " ".join(
                read_text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
            match limit.split():
                case [allowed, period] if allowed.isdecimal() and float(period) > 0:
                    quota = min(quota, float(allowed) / float(period))
    return quota


def read_text(file: str | Path) -> str:
    try:
        return Path(file).read_text()
    except OSError:
        return ""


def progress(
    things: Iterable[T], label: str, total: int | None = None, unit: str = "it", leave: bool = False
) -> Iterator[T]:
    """The things one after the other, under a progress bar where somebody watches and tqdm is installed;
    elsewhere in silence. `total`: how many, where they have no length. `leave`: the bar stays at the end."""
    try:
        from tqdm import tqdm
    except ImportError:
        return iter(things)
    return iter(tqdm(things, label, total, leave, unit=unit, disable=None))
