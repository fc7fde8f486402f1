"""Files that come from outside: the one way to open them, and what their errors mean in words.

Such a file may be anything: a pipe for which one would wait for ever, a device without an end, half of a
file, code. Nothing here runs what a file asks for.
"""

import errno
import functools
import io
import json
import math
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy

from .system import ctrl_c_deferred

FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
ARRAY = b"\x93NUMPY"  # how a .npy file begins


def handle_of(file: str | Path) -> int:
    "A regular file, opened to be read, as a number. Raises ValueError for a folder, a pipe and a device."
    handle = os.open(file, FLAGS)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise ValueError(f"it is {'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'}")
    return handle


def opened(file: str | Path) -> BinaryIO:
    "A regular file, opened to be read. Raises OSError, and ValueError for a folder, a pipe and a device."
    return os.fdopen(handle_of(file), "rb")


def read_bytes(file: str | Path) -> bytes:
    """All of a file, in as few calls as it takes: in each, a thread gives Python's lock away, and then waits
    for it."""
    handle = handle_of(file)
    try:
        size = os.fstat(handle).st_size
        data = os.read(handle, size + 1)
        if len(data) == size:
            return data
        return b"".join([data, *iter(partial(os.read, handle, 1 << 24), b"")])
    finally:
        os.close(handle)


def read_json(file: str | Path) -> Any:
    "What a JSON file in UTF-8 says. Raises OSError and ValueError."
    try:
        return json.loads(read_bytes(file).decode("utf-8"))
    except RecursionError:
        raise ValueError("its lists are nested too deeply") from None


def read_array(file: str | Path, **how: Any) -> Any:
    """The array in a .npy file; `mmap_mode`: mapped. Raises OSError and ValueError; no pickle is read."""
    with opened(file) as stream, ctrl_c_deferred():  # NumPy raises a TypeError in the place of one
        if stream.read(len(ARRAY)) != ARRAY:
            raise ValueError("it is no .npy file")
        if how:
            return numpy.load(file, allow_pickle=False, **how)
        stream.seek(0)
        return numpy.lib.format.read_array(stream, allow_pickle=False)


def array_in(data: bytes) -> Any:
    """The array that the bytes of a .npy file hold. Raises ValueError; no pickle is read.

    Headers that are equal are read once: for a small array that takes most of the time.
    """
    size = size_of_header(data)
    shape, columns_first, dtype = header_of(data[:size])
    array = numpy.frombuffer(bytearray(data[size:]), dtype, math.prod(shape))
    return array.reshape(shape[::-1]).T if columns_first else array.reshape(shape)


def size_of_header(begin: bytes) -> int:
    "Of a .npy file of which these are the first bytes, 12 or more: where its values begin"
    if begin[6:7] == b"\x01":
        return 10 + int.from_bytes(begin[8:10], "little")
    return 12 + int.from_bytes(begin[8:12], "little")


@functools.lru_cache(64)
def header_of(begin: bytes) -> tuple[tuple[int, ...], bool, Any]:
    "Shape, order (columns first or not) and dtype that the header of a .npy file says"
    form, stream = numpy.lib.format, io.BytesIO(begin)
    with ctrl_c_deferred():
        version = form.read_magic(stream)  # type: ignore[no-untyped-call]
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, columns_first, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code")
    return shape, columns_first, dtype


def wanting(error: BaseException) -> str | None:
    "What this process was refused, if that is why something failed, and what to do; else None"
    number, text = getattr(error, "errno", None), str(error)
    if "shared memory" in text or "/torch_" in text:
        return "shared memory: make /dev/shm larger (docker run --shm-size=…), or use fewer workers"
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "allocate memory" in text:
        return "memory: use fewer workers or smaller batches, or close other programs"
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
        return "open files: raise the limit (ulimit -n), or use fewer workers"
    return None


def reason(error: BaseException) -> str:
    "Why something could not be read, in a few words"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    text = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return text if type(error) is ValueError else f"{text or 'no reason given'} ({type(error).__name__})"


def visible(text: str) -> str:
    "A text without what would move a terminal's cursor or change its colours: escapes in their place"
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
