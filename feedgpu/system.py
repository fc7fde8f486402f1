"""What a process needs of its system: CPUs, files written whole, a Ctrl-C that waits, a progress bar."""

import _thread
import errno
import glob
import itertools
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

T = TypeVar("T")
SOON = 0.01  # seconds


@contextmanager
def ctrl_c_deferred() -> Iterator[None]:
    """A Ctrl-C in this block takes effect at its end: then it raises KeyboardInterrupt, or calls the handler
    that the program has. Where it is ignored it stays ignored. Processes forked in the block never hear one:
    whoever started them ends them."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield  # it never strikes here
        return
    struck: list[Any] = []
    signal.signal(signal.SIGINT, lambda *how: struck.append(how))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if struck:
            handler(*struck[0])


@contextmanager
def ctrl_c_heard() -> Iterator[None]:
    """In this block every Ctrl-C raises KeyboardInterrupt, also where it would have ended the process.

    Python prints and drops what a finalizer raises: a Ctrl-C that struck in one strikes again a moment later.
    Libraries written in C at times raise an error of their own in its place, which somebody may catch: once
    it struck, the block ends in KeyboardInterrupt. The program's own handler is left as it is, and so is a
    SIGINT that is ignored. What was set is put back at the end.
    """
    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    ours = handler in (signal.SIG_DFL, signal.default_int_handler)
    ours = ours and threading.current_thread() is threading.main_thread()
    struck = False

    def strike(*_: Any) -> NoReturn:
        nonlocal struck
        struck = True
        raise KeyboardInterrupt

    def dropped(what: Any) -> None:
        if not isinstance(what.exc_value, KeyboardInterrupt):
            hook(what)
            return
        again = threading.Timer(SOON, interrupt_main)
        again.daemon = True
        again.start()

    sys.unraisablehook = dropped
    try:
        if ours:
            signal.signal(signal.SIGINT, strike)
        yield
        if struck:
            raise KeyboardInterrupt
    except Exception as error:
        if struck:
            raise KeyboardInterrupt from error
        raise
    finally:
        sys.unraisablehook = hook
        if ours:
            signal.signal(signal.SIGINT, handler)


def interrupt_main() -> None:
    "A Ctrl-C for the main thread, which a sleep or a read there hears, where the system can send one"
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def save_whole(content: object, file: Path, keep: bool = False) -> Path | None:
    """torch.save, whole or not at all: whoever is killed while writing leaves the file that was there.

    `keep`: a file that was there stays, as `<name>-1.pt`, or with the next number that is free; that name is
    returned. A Ctrl-C takes effect when all is done. Raises OSError, and leaves everything as it was, where
    the disk is full or refuses, and where `file` is a link.
    """
    import torch  # here, so that the command line can import this module in no time

    aside = None
    if file.is_symlink():
        raise OSError(errno.ELOOP, f"it is a link to {os.path.realpath(file)}: name that file", str(file))
    for left in file.parent.glob(f"{glob.escape(file.name)}.*.unfinished"):  # by a process that was killed
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > DAY:
                left.unlink()
    # A new name, which nobody can have made a link of, and which no other process writes to
    unfinished = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.unfinished")
    with ctrl_c_deferred():
        try:
            with open(unfinished, "xb") as stream:
                told = Told(stream)
                try:
                    torch.save(content, told)  # type: ignore[arg-type]
                except RuntimeError:
                    if told.error:
                        raise told.error from None
                    raise
                stream.flush()
                os.fsync(stream.fileno())
            if keep and file.exists():
                aside = second_name(file)
            os.replace(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)
    return aside


DAY = 86_400  # seconds


class Told:
    "A stream that keeps the OSError of a write; torch.save raises another error in its place"

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.error: OSError | None = None
        self.flush = stream.flush

    def write(self, data: Any) -> int:
        try:
            return self.stream.write(data)
        except OSError as error:
            self.error = error
            raise


def second_name(file: Path) -> Path:
    "Gives the file another name, numbered, beside its own; or, where the system knows none, a copy"
    numbered = (file.with_stem(f"{file.stem}-{n}") for n in itertools.count(1))
    other = next(itertools.filterfalse(os.path.lexists, numbered))
    try:
        os.link(file, other)
    except OSError:
        shutil.copyfile(file, other)
    return other


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


@contextmanager
def progress_of(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    "A progress bar as that of `progress`, for things that go in groups: call it with the size of each"
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda number: None
        return
    with tqdm(None, label, total, unit=unit, disable=None) as bar:
        yield bar.update
