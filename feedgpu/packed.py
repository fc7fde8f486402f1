"""Packed data: all samples of a dataset in one file, gathered a batch at a time (format: manifest.py)."""

import mmap
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import torch

from .manifest import again, read_manifest, stored_as
from .memory import BatchMemory, Gathered
from .notation import DatasetError, Edition, Shortage, file_of, read_tensor, reading, refuse_unlike, sentence
from .outside import handle_of, read_array, reason, wanting

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # only Linux tells a thread what it had read
    getrusage = None  # type: ignore[assignment]

Array = numpy.ndarray[Any, Any]
TRIES = 5  # to open a pack that is being replaced


class PackedDataset(torch.utils.data.Dataset[tuple[Any, Any]]):
    """The samples of a list of IDs, gathered from one mapped file: `Dataset` for a folder that was packed.

    `list_IDs`, `labels`, `root`, `transform` and `dataset[index]` are those of `Dataset`; labels are numbers,
    and those given here count, not those that were packed. DataLoader gets each batch whole, gathered at
    once. So a collate_fn of your own never sees the samples, unless you say `dataset.__getitems__ = None`
    (or have a `transform`, or samples of unequal shapes).

    Raises DatasetError, with what to do, if there is no pack, if it is damaged or of another version, if it
    has no sample for an ID, or if a sample's .pt file (three are looked at) is no longer what was packed.
    """

    like: tuple[str, torch.Tensor] | None = None  # (ID, tensor) that all samples must resemble, if not None

    def __init__(
        self,
        list_IDs: Sequence[str],
        labels: Mapping[str, Any],
        root: str | Path = "data",
        transform: Callable[[torch.Tensor], Any] | None = None,
    ) -> None:
        "Initialization"
        self.root = root
        self.transform = transform
        pack = Pack(root)
        Edition(root, labels).refuse_another()  # now that the pack is open: the labels are of its dataset
        self._pack: Pack | None = pack
        self.digest = pack.digest  # of what every process that opens the pack again must find
        rows, pack.rows = pack.rows, {}  # millions of IDs would go to every worker
        if unknown := [ID for ID in list_IDs if ID not in rows]:
            raise DatasetError(f"{pack.folder}: {sentence('not in the pack', unknown)}; {again(root)}")
        if bare := [ID for ID in list_IDs if ID not in labels]:
            raise DatasetError(f"{pack.folder}: {sentence('without a label', bare)}")
        for ID in list_IDs:
            if not is_number(labels[ID]):
                raise DatasetError(f"labels must be numbers, but that of {ID!r} is {labels[ID]!r}")
        self.rows = compact(numpy.array([rows[ID] for ID in list_IDs], int))
        self.y = compact(numpy.array([labels[ID] for ID in list_IDs]))
        for index in sorted({0, len(self) // 2, len(self) - 1} if len(self) else ()):
            self._refuse_stale(index, list_IDs[index])

    def __len__(self) -> int:
        "Denotes the total number of samples"
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        "Generates one sample of data"
        (X,) = self.pack.gather(self.rows[[index]])
        if self.transform is not None:
            X = self.transform(X)
        return X, self.y[index].item()

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        "Generates the samples of one batch"
        places = numpy.asarray(indices)
        y = self.y[places]
        X = self.pack.gather(self.rows[places], shared=self.transform is None)
        if self.transform is None and isinstance(X, torch.Tensor):
            y = y.astype(numpy.int64) if y.dtype.kind in "iu" else y
            return [Gathered(X, torch.from_numpy(y))]
        change = self.transform or (lambda x: x)
        samples = [(change(x), label) for x, label in zip(X, y.tolist(), strict=True)]
        if self.like:
            refuse_unlike(samples, [f"row {row}" for row in self.rows[places].tolist()], self.like)
        return samples

    @property
    def pack(self) -> "Pack":
        "Opened by each process for itself, when it is first needed"
        if self._pack is None:
            self._pack = Pack(self.root, self.digest)
        return self._pack

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pack": None}

    @property
    def lengths(self) -> Array:
        "The first dimension of each sample, known without reading one"
        shapes = self.pack.shapes
        if shapes is None:
            return numpy.full(len(self), self.pack.values.shape[1])
        lengths: Array = shapes[self.rows, 0]
        return lengths

    def _refuse_stale(self, index: int, ID: str) -> None:
        file = file_of(ID, self.root)
        if not file.exists():
            return
        with reading(ID, file):
            X = read_tensor(file)
        (packed,) = self.pack.gather(self.rows[[index]])
        if not same(X, packed):
            raise DatasetError(f"sample {ID!r}: {file} is no longer what was packed; {again(self.root)}")


class Pack:
    """The files of the folder `root/packed`, mapped into memory and checked against their manifest.

    Rows are numbers from 0 up, in the order of IDs.npy. In a mapped file each page that is not in memory is
    one wait for the disk, one after the other. So a batch that had to wait makes the next one ask the system
    for all its rows beforehand, and then the disk reads them at once.
    """

    def __init__(self, root: str | Path, digest: str | None = None) -> None:
        """`digest`: of the pack that it must be. Raises DatasetError if it is another one, or is replaced
        again and again while it is opened."""
        self.folder = Path(root) / "packed"
        for _ in range(TRIES):
            before = read_manifest(root)
            if digest not in (None, before["digest"]):
                raise DatasetError(
                    f"{self.folder} was packed anew while this dataset was in use: make the dataset again"
                )
            try:
                self._open(root, before, with_IDs=digest is None)
            except DatasetError:
                if read_manifest(root) == before:
                    raise
            else:
                if read_manifest(root) == before:  # else its files may be of two packs
                    return
        raise DatasetError(f"{self.folder} is being replaced: try again when feedgpu pack has ended")

    def _open(self, root: str | Path, manifest: dict[str, Any], with_IDs: bool) -> None:
        self.digest: str = manifest["digest"]
        self.dtype, self.samples = getattr(torch, manifest["dtype"]), manifest["samples"]
        self.stored = stored_as(self.dtype)
        mapped = self._load("samples.npy", mmap_mode="r")
        self.values, self.start = numpy.asarray(mapped), mapped.offset
        self.offsets: Array | None = None
        self.shapes: Array | None = None
        if manifest["shape"] is None:
            self.offsets, self.shapes = self._load("offsets.npy"), self._load("shapes.npy")
        if not self._fits(manifest["shape"]):
            raise DatasetError(f"{self.folder} is not what its manifest says: {again(root)}")
        self.rows = self._rows() if with_IDs else {}
        with suppress(AttributeError, OSError):  # a system that takes no advice
            mapped.base.madvise(mmap.MADV_RANDOM)  # a row is wanted, and not what lies behind it
        self.file = self._load("samples.npy", handle_of)
        weakref.finalize(self, os.close, self.file)
        self.waited = True
        self.memory = BatchMemory()

    def _load(self, name: str, read: Callable[..., Any] = read_array, **how: Any) -> Any:
        try:
            return read(self.folder / name, **how)
        except Exception as error:  # NumPy evaluates a header, in which anything may stand
            if what := wanting(error):
                raise Shortage(f"{self.folder / name} could not be read for want of {what}") from error
            raise DatasetError(f"{self.folder / name} cannot be read: {reason(error)}") from error

    def _fits(self, shape: list[int] | None) -> bool:
        "Whether the arrays belong together: a row beyond their end would end the process"
        if self.values.dtype != torch.empty(0, dtype=self.stored).numpy().dtype:
            return False
        if shape is not None:
            return self.values.shape == (self.samples, *shape)
        offsets, shapes = self.offsets, self.shapes
        assert offsets is not None and shapes is not None
        if offsets.shape != (self.samples + 1,) or shapes.ndim != 2 or len(shapes) != self.samples:
            return False
        if offsets.dtype != numpy.int64 or shapes.dtype != numpy.int64:
            return False
        whole = offsets[0] == 0 and self.values.shape == (offsets[-1],)
        sizes = numpy.diff(offsets)
        return bool(whole and (shapes >= 0).all() and numpy.array_equal(shapes.prod(axis=1), sizes))

    def _rows(self) -> dict[str, int]:
        "The row of each ID"
        IDs = self._load("IDs.npy")
        if IDs.shape != (self.samples,) or IDs.dtype.kind != "S":
            raise DatasetError(f"{self.folder / 'IDs.npy'} does not list {self.samples:,} IDs")
        return {ID.decode("utf-8", "surrogateescape"): row for row, ID in enumerate(IDs.tolist())}

    def gather(self, rows: Array, shared: bool = False) -> torch.Tensor | list[torch.Tensor]:
        """Copies of the samples in these rows: one tensor, or a list if their shapes are unequal.

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

    def _run(self, row: int) -> Array:
        assert self.offsets is not None and self.shapes is not None
        return self.values[self.offsets[row] : self.offsets[row + 1]].reshape(self.shapes[row])

    def _ask_for(self, rows: Array) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        size = self.values.strides[0]  # bytes from one row, or value, to the next
        if self.offsets is None:
            begins, lengths = rows.astype(numpy.int64) * size, numpy.full(len(rows), size)
        else:
            begins, lengths = self.offsets[rows] * size, numpy.diff(self.offsets)[rows] * size
        for begin, length in zip(begins.tolist(), lengths.tolist(), strict=True):
            os.posix_fadvise(self.file, self.start + begin, length, os.POSIX_FADV_WILLNEED)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    "Whether two tensors are equal to the last bit, which NaN is not to itself"
    a, b = (one.resolve_conj().resolve_neg().contiguous() for one in (a, b))
    bits = [one.flatten().view(torch.uint8) for one in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)


def is_number(label: object) -> bool:
    "Whether a label can be one of an array of numbers: a tensor or an array with one value can, too"
    if isinstance(label, torch.Tensor):
        try:
            label = label.numpy()
        except (TypeError, RuntimeError):  # it has a gradient, is on a GPU, or of a dtype that numpy lacks
            return False
    if isinstance(label, numpy.ndarray):
        return label.ndim == 0 and is_number(label[()])
    if isinstance(label, numpy.longdouble):
        return False  # torch has none
    if isinstance(label, (int, numpy.integer)):
        return -(2**63) <= int(label) < 2**63
    return isinstance(label, (float, numpy.floating, numpy.bool_))


def compact(numbers: Array) -> Array:
    "Whole numbers in 4 bytes each, if they fit: every worker gets them"
    if numbers.dtype.kind in "iu" and numbers.size and -(2**31) <= numbers.min() <= numbers.max() < 2**31:
        return numbers.astype(numpy.int32)
    return numbers


def disk_reads() -> int:
    "How often this thread has had something read from a disk so far; always 0 where the system does not tell"
    if getrusage is None:
        return 0
    usage = getrusage(RUSAGE_THREAD)
    return usage.ru_inblock + usage.ru_majflt
