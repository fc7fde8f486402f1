"""The memory that a process and its workers really take, with shared pages counted once.

The resident size that tools show (RSS) counts a shared page in full for every process, so the sizes of a
loader's processes add up to more than they take. PSS divides a shared page among the processes that share it.
Private memory is what the system would get back if the process ended.
"""

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class Footprint:
    """Bytes of memory. `private`: of this process alone. `pss`: its share of all its pages. In `pss` are
    `mapped_files`, which the system can take back, and `shared_memory`, where workers put batches.

    On systems other than Linux only `private` is known, and the others are 0. Batches that wait in a loader's
    queue belong to no process: `in_dev_shm` counts them.
    """

    private: int = 0
    pss: int = 0
    mapped_files: int = 0
    shared_memory: int = 0

    @property
    def without_files(self) -> int:
        "The bytes of `pss` that the system cannot take back: all but mapped files"
        return self.pss - self.mapped_files

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def footprint(pid: int | None = None) -> Footprint:
    "The memory of a process, by default this one. Raises psutil.NoSuchProcess for one that has ended."
    pid = os.getpid() if pid is None else pid
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return Footprint(private=psutil.Process(pid).memory_full_info().uss)
    fields = (line.split() for line in text.splitlines()[1:])
    size = {name.rstrip(":"): 1024 * int(number) for name, number, *_ in fields}
    private = size["Private_Clean"] + size["Private_Dirty"]
    return Footprint(private, size["Pss"], size.get("Pss_File", 0), size.get("Pss_Shmem", 0))  # Linux 5.9


def in_dev_shm() -> int:
    "Bytes in Linux's /dev/shm, where batches wait for the loop: those of all programs. 0 on other systems."
    return shutil.disk_usage("/dev/shm").used if os.path.exists("/dev/shm") else 0


def family() -> dict[int, Footprint]:
    "{process id: Footprint} of this process, first, and of all that it started, such as workers"
    found = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            found[process.pid] = footprint(process.pid)
        except psutil.Error:  # it has just ended
            continue
    return found


def growth(batches: Iterable, every: int = 1) -> list[Footprint]:
    """The memory of this process and its workers together, before the first batch and after every `every`
    batches. `pss` grows if something is kept from batch to batch, or if workers copy pages that they share.
    """
    iterator = iter(batches)
    taken = [sum(family().values(), Footprint())]
    for number, _ in enumerate(iterator, 1):
        if number % every == 0:
            time.sleep(0.01)  # the workers go on with what they were asked for
            taken.append(sum(family().values(), Footprint()))
    return taken
