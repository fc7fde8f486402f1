"""Packed data: all samples of a dataset in one file, gathered a batch at a time.

Copy this file with my_classes.py. A pack is the folder `packed` beside the samples. It is written by
`python3 -m feedgpu.prepare pack` and consists of files that numpy reads:

    samples.npy      N × shape, in the order of IDs.npy; samples of unequal shapes are one run of
                     values, with offsets.npy (N + 1, in values) and shapes.npy (N × dimensions)
    labels.npy       N, int64, as they were when the samples were packed
    IDs.npy          N, bytes of fixed width, UTF-8
    manifest.json    version, number, dtype and shape of the samples, bytes of each file, digest of all

Needs torch, numpy and the standard library.
"""

import json
import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy
import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from my_notation import DatasetError, file_of, read_tensor, reason, sentence

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # only Linux tells a thread what it had read
    getrusage = None

VERSION = 1
PACKED = ("samples.npy", "labels.npy", "IDs.npy")
UNEQUAL = ("offsets.npy", "shapes.npy")


class PackedDataset(torch.utils.data.Dataset):
    """The samples of a list of IDs, gathered from one mapped file: `Dataset` for a folder that was packed.

    `list_IDs`, `labels`, `root`, `transform` and `dataset[index]` are those of `Dataset`; labels are numbers,
    and those given here count, not those that were packed. DataLoader gets each batch whole, gathered at
    once. So a collate_fn of your own never sees the samples, unless you say `dataset.__getitems__ = None`
    (or have a `transform`, or samples of unequal shapes).

    Raises DatasetError, with what to do, if there is no pack, if it is damaged or of another version, if it
    has no sample for an ID, or if a sample's .pt file (three are looked at) is no longer what was packed.
    """

    def __init__(self, list_IDs, labels, root="data", transform: Callable | None = None):
        "Initialization"
        self.root = root
        self.transform = transform
        self._pack = Pack(root)
        rows = self._pack.rows()
        if unknown := [ID for ID in list_IDs if ID not in rows]:
            raise DatasetError(f"{self._pack.folder}: {sentence('not in the pack', unknown)}; {again(root)}")
        if bare := [ID for ID in list_IDs if ID not in labels]:
            raise DatasetError(f"{self._pack.folder}: {sentence('without a label', bare)}")
        self.rows = compact(numpy.array([rows[ID] for ID in list_IDs], int))
        self.y = compact(numpy.array([labels[ID] for ID in list_IDs]))
        if len(self) and not (self.y.ndim == 1 and self.y.dtype.kind in "biuf"):
            raise DatasetError(
                f"labels must be numbers, but that of {list_IDs[0]!r} is {labels[list_IDs[0]]!r}"
            )
        for index in sorted({0, len(self) // 2, len(self) - 1} if len(self) else ()):
            self._refuse_stale(index, list_IDs[index])

    def __len__(self):
        "Denotes the total number of samples"
        return len(self.rows)

    def __getitem__(self, index):
        "Generates one sample of data"
        (X,) = self.pack.gather(self.rows[[index]])
        if self.transform is not None:
            X = self.transform(X)
        return X, self.y[index].item()

    def __getitems__(self, indices):
        "Generates the samples of one batch"
        indices = numpy.asarray(indices)
        y = self.y[indices]
        X = self.pack.gather(self.rows[indices], shared=self.transform is None)
        if self.transform is None and isinstance(X, torch.Tensor):
            y = y.astype(numpy.int64) if y.dtype.kind in "iu" else y
            return [Gathered(X, torch.from_numpy(y))]
        change = self.transform or (lambda x: x)
        return [(change(x), label) for x, label in zip(X, y.tolist(), strict=True)]

    @property
    def pack(self) -> "Pack":
        "Opened by each process for itself, when it is first needed"
        if self._pack is None:
            self._pack = Pack(self.root)
        return self._pack

    def __getstate__(self):
        return self.__dict__ | {"_pack": None}

    @property
    def lengths(self) -> numpy.ndarray:
        "The first dimension of each sample, known without reading one"
        shapes = self.pack.shapes
        if shapes is None:
            return numpy.full(len(self), self.pack.values.shape[1])
        return shapes[self.rows, 0]

    def _refuse_stale(self, index: int, ID: str):
        file = file_of(ID, self.root)
        if not file.exists():
            return
        try:
            X = read_tensor(file)
        except (OSError, ValueError) as error:
            raise DatasetError(f"sample {ID!r}: {file} cannot be read: {reason(error)}") from error
        (packed,) = self.pack.gather(self.rows[[index]])
        if not same(X, packed):
            raise DatasetError(f"sample {ID!r}: {file} is no longer what was packed; {again(self.root)}")


class Pack:
    """The files of the folder `root/packed`, mapped into memory and checked against their manifest.

    Rows are numbers from 0 up, in the order of IDs.npy. In a mapped file each page that is not in memory is
    one wait for the disk, one after the other. So a batch that had to wait makes the next one ask the system
    for all its rows beforehand, and then the disk reads them at once.
    """

    def __init__(self, root):
        self.folder = Path(root) / "packed"
        manifest = read_manifest(root)
        self.dtype, self.samples = getattr(torch, manifest["dtype"]), manifest["samples"]
        self.stored = stored_as(self.dtype)
        mapped = self._load("samples.npy", mmap_mode="r")
        self.values, self.start = numpy.asarray(mapped), mapped.offset
        self.offsets = self.shapes = None
        if manifest["shape"] is None:
            self.offsets, self.shapes = self._load("offsets.npy"), self._load("shapes.npy")
        if not self._fits(manifest["shape"]):
            raise DatasetError(f"{self.folder} is not what its manifest says: {again(root)}")
        with suppress(AttributeError, OSError):  # a system that takes no advice
            mapped.base.madvise(mmap.MADV_RANDOM)  # a row is wanted, and not what lies behind it
        self.file = open(self.folder / "samples.npy", "rb")
        self.waited = True
        self.memory = BatchMemory()

    def _load(self, name: str, **how) -> numpy.ndarray:
        try:
            return numpy.load(self.folder / name, **how)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f"{self.folder / name} cannot be read: {reason(error)}") from error

    def _fits(self, shape: list[int] | None) -> bool:
        "Whether the arrays belong together: a row beyond their end would end the process"
        if self.values.dtype != torch.empty(0, dtype=self.stored).numpy().dtype:
            return False
        if shape is not None:
            return self.values.shape == (self.samples, *shape)
        offsets, shapes = self.offsets, self.shapes
        if offsets.shape != (self.samples + 1,) or shapes.ndim != 2 or len(shapes) != self.samples:
            return False
        whole = offsets[0] == 0 and self.values.shape == (offsets[-1],)
        return whole and (shapes >= 0).all() and (shapes.prod(axis=1) == numpy.diff(offsets)).all()

    def rows(self) -> dict[str, int]:
        "The row of each ID"
        IDs = self._load("IDs.npy")
        if IDs.shape != (self.samples,) or IDs.dtype.kind != "S":
            raise DatasetError(f"{self.folder / 'IDs.npy'} does not list {self.samples:,} IDs")
        return {ID.decode(): row for row, ID in enumerate(IDs.tolist())}

    def gather(self, rows: numpy.ndarray, shared: bool = False) -> torch.Tensor | list[torch.Tensor]:
        """Copies of the samples in these rows: one tensor, or a list if their shapes are unequal.

        `shared`: in shared memory, from which a worker can hand the tensor over without another copy.
        """
        before = disk_reads()
        if self.waited:
            self._ask_for(rows)
        if self.offsets is None:
            shape = (len(rows), *self.values.shape[1:])
            X = self.memory.empty(shape, self.stored, shared)
            # In the calling thread alone and without Python's lock. Clipping is never needed, and faster.
            self.values.take(rows, 0, X.numpy(), "clip")
            X = X if self.stored == self.dtype else X.view(self.dtype)
        else:
            X = [torch.from_numpy(self._run(row).copy()).view(self.dtype) for row in rows.tolist()]
        self.waited = disk_reads() > before
        return X

    def _run(self, row: int) -> numpy.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]].reshape(self.shapes[row])

    def _ask_for(self, rows: numpy.ndarray):
        if not hasattr(os, "posix_fadvise"):
            return
        size = self.values.strides[0]  # bytes from one row, or value, to the next
        if self.offsets is None:
            begins, lengths = rows.astype(numpy.int64) * size, numpy.full(len(rows), size)
        else:
            begins, lengths = self.offsets[rows] * size, numpy.diff(self.offsets)[rows] * size
        for begin, length in zip(begins.tolist(), lengths.tolist(), strict=True):
            os.posix_fadvise(self.file.fileno(), self.start + begin, length, os.POSIX_FADV_WILLNEED)


class BatchMemory:
    """Where batches are written to: in the memory of one that nobody holds any more, if there is one. Fresh
    memory is first cleared by the system, which takes as long as the gathering."""

    def __init__(self):
        self.free = deque(maxlen=16)  # blocks, each of one batch

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, shared: bool = False) -> torch.Tensor:
        """A tensor that is not filled yet. `shared`: if this is a worker, in shared memory, from which it is
        handed over without another copy."""
        if shared and prod(shape) and get_worker_info():
            return shared_memory(shape, dtype)
        block, size = None, prod(shape) * dtype.itemsize
        with suppress(IndexError):
            block = self.free.pop()
        if block is None or len(block) != size:
            block = numpy.empty(size, numpy.uint8)
        out = block.view(torch.empty(0, dtype=dtype).numpy().dtype).reshape(shape)
        # A tensor made of `out`, and all its views, hold it: it goes when the last of them does.
        weakref.finalize(out, self.free.append, block).atexit = False
        return torch.from_numpy(out)


class Gathered:
    "A batch in the place of its samples; default_collate leaves it as it is."

    def __init__(self, X: torch.Tensor, y: torch.Tensor):
        self.X, self.y = X, y

    def __getitem__(self, _):
        raise TypeError(
            "This dataset gathers whole batches, which this collate_fn cannot take apart: "
            "say dataset.__getitems__ = None, and it gets samples"
        )


def as_they_are(batches: list[Gathered], *, collate_fn_map=None) -> list[torch.Tensor]:
    if len(batches) == 1:
        return [batches[0].X, batches[0].y]
    return [torch.cat([one.X for one in batches]), torch.cat([one.y for one in batches])]


# The documented way to make default_collate know a type; a worker does it by importing this file.
default_collate_fn_map[Gathered] = as_they_are


def read_manifest(root) -> dict:
    """What `root/packed/manifest.json` says, if the files beside it have the sizes that it says.

    Raises DatasetError if they have not, if there is no pack, and if it is of a newer version.
    """
    folder = Path(root) / "packed"
    file = folder / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"there is no pack in {folder}: make one with {command(root)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file} cannot be read: {reason(error)}; {again(root)}") from error
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if is_count(version) and version > VERSION:
        raise DatasetError(
            f"{folder} is of version {version}, and my_packed.py here reads {VERSION}: take a newer one"
        )
    if version != VERSION or not is_manifest(manifest):
        raise DatasetError(f"{file} is no manifest of a pack: {again(root)}")
    for name, size in manifest["files"].items():
        if not (folder / name).is_file():
            raise DatasetError(f"{folder / name} is missing: {again(root)}")
        if (found := (folder / name).stat().st_size) != size:
            raise DatasetError(
                f"{folder / name} has {found:,} bytes, its manifest says {size:,}: {again(root)}"
            )
    return manifest


def is_manifest(manifest: dict) -> bool:
    "Whether it says what it must; it may come from a stranger"
    shape, files = manifest.get("shape"), manifest.get("files")
    needed = PACKED if shape is not None else PACKED + UNEQUAL
    return (
        isinstance(getattr(torch, str(manifest.get("dtype")), None), torch.dtype)
        and is_count(manifest.get("samples"))
        and (shape is None or (isinstance(shape, list) and all(map(is_count, shape))))
        and isinstance(files, dict)
        and sorted(files) == sorted(needed)
        and all(map(is_count, files.values()))
    )


def is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def command(root) -> str:
    return f"python3 -m feedgpu.prepare pack --data {root}"


def again(root) -> str:
    return f"pack again with {command(root)}"


def stored_as(dtype: torch.dtype) -> torch.dtype:
    "As what its values are stored: as they are, or as integers of the same bits if numpy lacks the type"
    try:
        torch.empty(0, dtype=dtype).numpy()
    except TypeError:
        return {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    return dtype


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    "Whether two tensors are equal to the last bit, which NaN is not to itself"
    a, b = a.contiguous(), b.contiguous()
    bits = [one.flatten().view(torch.uint8) for one in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)


def compact(numbers: numpy.ndarray) -> numpy.ndarray:
    "Whole numbers in 4 bytes each, if they fit: every worker gets them"
    if numbers.dtype.kind in "iu" and numbers.size and abs(numbers).max() < 2**31:
        return numbers.astype(numpy.int32)
    return numbers


def shared_memory(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    "As default_collate makes its tensors in a worker"
    one = torch.empty(0, dtype=dtype)
    return one.new(one._typed_storage()._new_shared(prod(shape))).resize_(shape)


def disk_reads() -> int:
    "How often this thread has had something read from a disk so far; always 0 where the system does not tell"
    if getrusage is None:
        return 0
    usage = getrusage(RUSAGE_THREAD)
    return usage.ru_inblock + usage.ru_majflt
