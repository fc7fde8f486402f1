"""Files in and out of the page cache, without being root: how warm and cold readings are told apart.

`posix_fadvise(DONTNEED)` is a request. It does nothing for pages that are mapped or not yet on the disk, and
nothing at all on some file systems, so what it did is looked up afterwards with mincore.
"""

import ctypes
import gc
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy


class NotCold(Exception):
    """Why files cannot be taken out of the page cache here: one sentence."""


def warm(files: Iterable[Path]):
    "Reads all files once, so that the next reader finds them in memory."
    buffer = bytearray(1 << 20)
    for file in files:
        with open(file, "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def evict(files: Iterable[Path]):
    """Takes files out of the page cache, and looks that they have gone.

    Arrays that NumPy maps in this process, such as those of an open pack, stay usable: their pages come back
    from the disk when they are needed. Raises NotCold if the system has no such call or more than a hundredth
    of the bytes stayed, as they do while another process maps the files or where files lie in memory.
    """
    files = list(files)
    if not hasattr(os, "posix_fadvise"):
        raise NotCold("this system has no call that takes a file out of the page cache (Linux has)")
    let_go(files)
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a page that is not on the disk yet stays
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    if (share := resident(files)) > 0.01:
        raise NotCold(
            f"{100 * share:.0f} % of the bytes stayed in the page cache: another process maps the files, or "
            "they lie on a file system that keeps them in memory"
        )


def let_go(files: Iterable[Path]):
    "Takes the pages of the files out of the arrays that NumPy maps in this process, but for private copies."
    names = {Path(file).resolve() for file in files}
    for one in gc.get_objects():
        if issubclass(type(one), numpy.memmap) and isinstance(one.base, mmap.mmap) and one.mode != "c":
            if one.filename is not None and Path(one.filename).resolve() in names:
                one.base.madvise(mmap.MADV_DONTNEED)


def resident(files: Iterable[Path]) -> float:
    "Share of the files' bytes that the page cache holds, 0 to 1, by mincore(2). Raises NotCold without it."
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (AttributeError, OSError, TypeError):
        raise NotCold("this system has no mincore, so nobody can tell whether a file is cold") from None
    held = pages = 0
    for file in files:
        with open(file, "rb") as stream:
            if not (size := os.fstat(stream.fileno()).st_size):
                continue
            with mmap.mmap(stream.fileno(), size, prot=mmap.PROT_READ) as mapped:
                there = numpy.zeros(-(-size // mmap.PAGESIZE), numpy.uint8)
                view = numpy.frombuffer(mapped, numpy.uint8)  # touches no page: it only knows the address
                address = ctypes.c_void_p(view.ctypes.data)
                failed = mincore(address, ctypes.c_size_t(size), ctypes.c_void_p(there.ctypes.data))
                del view  # or the map could not be closed
        if failed:
            raise NotCold(f"mincore cannot look at {file}: {os.strerror(ctypes.get_errno())}")
        held, pages = held + int((there & 1).sum()), pages + len(there)
    return held / max(pages, 1)


def files_below(root) -> list[Path]:
    "The files in a folder and in those below it, sorted"
    return sorted(file for file in Path(root).rglob("*") if file.is_file())
