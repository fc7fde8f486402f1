"""One field of packed samples: a mapped file of their values, from which the rows of a batch are gathered."""

import mmap
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import torch

from .memory import BatchMemory
from .notation import DatasetError, Shortage
from .outside import handle_of, read_array, reason, wanting
from .sample import stored_as
from .side_by_side import Rows, joined

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # only Linux tells a thread what it had read
    getrusage = None  # type: ignore[assignment]

Array = numpy.ndarray[Any, Any]


class Field:
    """The values of one field of all samples. In a mapped file each page that is not in memory is one wait
    for the disk, one after the other. So a batch that had to wait makes the next one ask the system for all
    its rows beforehand, and then the disk reads them at once.

    `end`: of the files' names. `spec`: name, dtype and shape, as the manifest says them.
    """

    def __init__(self, folder: Path, end: str, spec: dict[str, Any], samples: int) -> None:
        self.of: list[Field] = []
        self.name: str | int | None = spec.get("name")
        self.dtype: torch.dtype = getattr(torch, spec["dtype"])
        self.stored = stored_as(self.dtype)
        mapped = load(folder, f"samples{end}.npy", mmap_mode="r")
        self.values = numpy.asarray(mapped)
        self.offsets: Array | None = None
        self.shapes: Array | None = None
        if spec["shape"] is None:
            self.offsets, self.shapes = (load(folder, f"{what}{end}.npy") for what in ("offsets", "shapes"))
        self.whole = self._fits(spec["shape"], samples)
        with suppress(AttributeError, OSError):  # a system that takes no advice
            mapped.base.madvise(mmap.MADV_RANDOM)  # a row is wanted, and not what lies behind it
        file = load(folder, f"samples{end}.npy", handle_of)
        weakref.finalize(self, os.close, file)
        self.parts, self.firsts = [Rows(file, mapped.offset, self.values)], [0]
        self.waited = True
        self.memory = BatchMemory()

    @classmethod
    def joined(cls, fields: "list[Field]") -> "Field":
        """The rows of several fields of one dtype and shape, those of number i from `firsts[i]` on.

        Raises OSError where the system cannot map their files side by side.
        """
        self = cls.__new__(cls)
        self.__dict__ |= fields[0].__dict__ | {"waited": True, "memory": BatchMemory()}
        self.of = fields  # which close their files
        self.parts = [field.parts[0] for field in fields]
        self.values, self.firsts = joined(self.parts)
        return self

    def _fits(self, shape: list[int] | None, samples: int) -> bool:
        "Whether the arrays belong together: a row beyond their end would end the process"
        if self.values.dtype != torch.empty(0, dtype=self.stored).numpy().dtype:
            return False
        if shape is not None:
            return self.values.shape == (samples, *shape)
        offsets, shapes = self.offsets, self.shapes
        assert offsets is not None and shapes is not None
        if offsets.shape != (samples + 1,) or shapes.ndim != 2 or len(shapes) != samples:
            return False
        if offsets.dtype != numpy.int64 or shapes.dtype != numpy.int64:
            return False
        whole = offsets[0] == 0 and self.values.shape == (offsets[-1],)
        sizes = numpy.diff(offsets)
        return bool(whole and (shapes >= 0).all() and numpy.array_equal(shapes.prod(axis=1), sizes))

    def gather(self, rows: Array, shared: bool = False) -> torch.Tensor | list[torch.Tensor]:
        """Copies of these rows: one tensor, or a list if their shapes are unequal.

        `shared`: in shared memory, from which a worker can hand the tensor over without another copy.
        """
        before = disk_reads()
        if self.waited:
            self._ask_for(rows)
        X: torch.Tensor | list[torch.Tensor]
        if self.offsets is None:
            whole = self.memory.empty((len(rows), *self.values.shape[1:]), self.stored, shared)
            # In the calling thread alone and without Python's lock. Clipping is never needed, and faster.
            self.values.take(rows, 0, whole.numpy(), "clip")
            X = whole if self.stored == self.dtype else whole.view(self.dtype)
        else:
            X = [torch.from_numpy(self._run(row).copy()).view(self.dtype) for row in rows.tolist()]
        self.waited = disk_reads() > before
        return X

    def lengths(self, rows: Array) -> Array:
        "The first dimension of each"
        if self.shapes is None:
            return numpy.full(len(rows), self.values.shape[1])
        lengths: Array = self.shapes[rows, 0]
        return lengths

    def _run(self, row: int) -> Array:
        assert self.offsets is not None and self.shapes is not None
        return self.values[self.offsets[row] : self.offsets[row + 1]].reshape(self.shapes[row])

    def _ask_for(self, rows: Array) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        size = self.values.strides[0]  # bytes from one row, or value, to the next
        of = numpy.searchsorted(self.firsts, rows, "right") - 1
        rows = rows.astype(numpy.int64) - numpy.array(self.firsts)[of]
        if self.offsets is None:
            begins, lengths = rows * size, numpy.full(len(rows), size)
        else:
            begins, lengths = self.offsets[rows] * size, numpy.diff(self.offsets)[rows] * size
        for part, begin, length in zip(of.tolist(), begins.tolist(), lengths.tolist(), strict=True):
            file, start, _ = self.parts[part]
            os.posix_fadvise(file, start + begin, length, os.POSIX_FADV_WILLNEED)


def load(folder: Path, name: str, read: Callable[..., Any] = read_array, **how: Any) -> Any:
    "A file of a pack. Raises DatasetError if it cannot be read."
    try:
        return read(folder / name, **how)
    except Exception as error:  # NumPy evaluates a header, in which anything may stand
        if what := wanting(error):
            raise Shortage(f"{folder / name} could not be read for want of {what}") from error
        raise DatasetError(f"{folder / name} cannot be read: {reason(error)}") from error


def disk_reads() -> int:
    "How often this thread has had something read from a disk so far; always 0 where the system does not tell"
    if getrusage is None:
        return 0
    usage = getrusage(RUSAGE_THREAD)
    return usage.ru_inblock + usage.ru_majflt
