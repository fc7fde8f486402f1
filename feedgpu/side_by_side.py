"""Files that are mapped into memory one behind the other, so that the rows of all are those of one array."""

import ctypes
import mmap
from math import gcd
from typing import Any, NamedTuple

import numpy

Array = numpy.ndarray[Any, Any]
FIXED = 0x10  # MAP_FIXED of Linux and macOS, which the module mmap does not name


class Rows(NamedTuple):
    "In a file: the rows of an array, one behind the other"

    file: int  # its handle
    start: int  # of the first row, in bytes
    values: Array  # the same, mapped by itself


def joined(parts: list[Rows]) -> tuple[Array, list[int]]:
    """One array that has the rows of all parts in it, and at which row each part begins there.

    The system keeps addresses free for all, and each file is mapped into them, so that its rows come to lie a
    whole number of rows behind those of the first. What lies between two files are no rows of anybody.
    Raises OSError where the system cannot do that.
    """
    stride, page = parts[0].values.strides[0], mmap.ALLOCATIONGRANULARITY
    begins, end = [], 0
    for part in parts:
        begins.append(next_place(end, part.start - parts[0].start, stride, page))
        end = begins[-1] + part.start + part.values.nbytes
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        raise OSError("this system maps no file to a given address")
    space = mmap.mmap(-1, end, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    address = numpy.frombuffer(space, numpy.uint8).ctypes.data
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype, system.mmap.argtypes = ctypes.c_void_p, MMAP
    for part, begin in zip(parts, begins, strict=True):
        how = mmap.PROT_READ, mmap.MAP_SHARED | FIXED, part.file, 0
        place = system.mmap(address + begin, part.start + part.values.nbytes, *how)
        if place != address + begin:
            raise OSError(ctypes.get_errno(), "a file could not be mapped to its place")
    if hasattr(space, "madvise"):
        space.madvise(mmap.MADV_RANDOM)  # a row is wanted, and not what lies behind it
    rows = (end - parts[0].start) // stride
    like = parts[0].values
    values = numpy.frombuffer(space, like.dtype, rows * (stride // like.itemsize), parts[0].start)
    firsts = [
        (begin + part.start - parts[0].start) // stride for part, begin in zip(parts, begins, strict=True)
    ]
    return values.reshape(rows, *like.shape[1:]), firsts


MMAP: Any = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong]


def next_place(end: int, shift: int, stride: int, page: int) -> int:
    """The first multiple of `page` from `end` on that, with `shift` added, is a multiple of `stride`.

    Raises OSError if there is none.
    """
    common = gcd(page, stride)
    if shift % common:
        raise OSError("the rows of these files cannot lie in one array")
    first = -(-end // page) * page
    pages, each = -(first + shift) // common, page // common
    return first + page * (pages * pow(each, -1, stride // common) % (stride // common))
