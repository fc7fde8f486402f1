"""Packed data: all samples of a dataset in one file a field, gathered a batch at a time (see manifest.py)."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy
import torch

from .field import Array, Field, load
from .ids import IDList, LabelArray, decoded
from .manifest import again, fields_of, read_manifest
from .memory import Gathered, is_batch, to_stack, whole_batch
from .notation import DatasetError, Edition, file_of, reading, sentence
from .order import draws
from .sample import fields, has_numpy, read_sample, target

TRIES = 5  # to open a pack that is being replaced


class PackedDataset(torch.utils.data.Dataset[Any]):
    """The samples of a list of IDs, gathered from mapped files: `Dataset` for a folder that was packed.

    `list_IDs`, `root`, `transform`, `augment`, `seed` and `dataset[index]` are those of `Dataset`; a list, an
    array or a slice in place of `index` gives the batch of these samples. `labels`: {ID: class, number
    or list of numbers}; or an array of N or N×… numbers, one row for each of `list_IDs`; or None for samples
    without targets. Those given here count, not those that were packed. DataLoader gets each batch whole,
    gathered at once; a collate_fn of your own gets its samples, views of the batch.

    Raises DatasetError, with what to do, if there is no pack, if it is damaged or of another version, if it
    has no sample for an ID, or if a sample's .pt file (three are looked at) is no longer what was packed.
    """

    like: tuple[str, Any] | None = None  # (ID, sample) that all samples must resemble, if not None

    def __init__(
        self,
        list_IDs: Sequence[str],
        labels: Any,
        root: str | Path = "data",
        transform: Callable[[Any], Any] | None = None,
        augment: Callable[[Any, Random], Any] | None = None,
        seed: int = 0,
    ) -> None:
        "Initialization"
        self.root = root
        self.transform, self.augment, self.seed = transform, augment, seed
        list_IDs = list_IDs if isinstance(list_IDs, Sequence) else list(list_IDs)
        own = isinstance(list_IDs, IDList) and list_IDs.edition.file == Path(root) / "partition.json"
        pack = Pack(root, with_IDs=not own)
        Edition(root, list_IDs if own else labels).refuse_another()  # now that the pack is open
        self._pack: Pack | None = pack
        self.digest = pack.digest  # of what every process that opens the pack again must find
        if isinstance(list_IDs, IDList) and own:  # rows of this very pack
            self.rows = compact(list_IDs.rows)
            whole = isinstance(labels, LabelArray) and labels.edition is list_IDs.edition
            self.y = compact(labels.array[self.rows]) if whole else targets(list_IDs, labels)
            return
        rows, pack.rows = pack.rows, {}  # millions of IDs would go to every worker
        if strange := [ID for ID in list_IDs if not isinstance(ID, str)]:
            raise DatasetError(f"{pack.folder}: {sentence('of another type than a string', strange)}")
        if unknown := [ID for ID in list_IDs if ID not in rows]:
            raise DatasetError(f"{pack.folder}: {sentence('not in the pack', unknown)}; {again(root)}")
        if isinstance(labels, Mapping) and (bare := [ID for ID in list_IDs if ID not in labels]):
            raise DatasetError(f"{pack.folder}: {sentence('without a label', bare)}")
        self.rows = compact(numpy.array([rows[ID] for ID in list_IDs], int))
        self.y = targets(list_IDs, labels)
        for index in sorted({0, len(self) // 2, len(self) - 1} if len(self) else ()):
            self._refuse_stale(index, list_IDs[index])

    def __len__(self) -> int:
        "Denotes the total number of samples"
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        "Generates one sample of data"
        if is_batch(index):
            return whole_batch(self, index)
        X = self._changed(self.pack.sample(self.rows[index]), index)
        if self.y is None:
            return X
        y = self.y[index]
        return X, y.item() if is_plain(self.y) else torch.from_numpy(numpy.array(y))

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        "Generates the samples of one batch"
        if type(self).__getitem__ is not PackedDataset.__getitem__:  # a subclass makes its own samples
            return self._to_stack([self[index] for index in indices], indices)
        places = numpy.asarray(indices)
        y = None if self.y is None else torch.from_numpy(widened(self.y[places]))
        gathers = self.gathers > 0
        parts = self.pack.gather(self.rows[places], gathers)
        if gathers:
            return Gathered(self.pack.with_fields(parts), y)
        samples = zip(*parts, strict=True)
        Xs = [
            self._changed(self.pack.with_fields(one), index)
            for one, index in zip(samples, indices, strict=True)
        ]
        if y is None:
            return self._to_stack(Xs, indices)
        each = y.tolist() if self.y is not None and is_plain(self.y) else y
        return self._to_stack(list(zip(Xs, each, strict=True)), indices)

    @property
    def gathers(self) -> int:
        "Bytes of a sample, if all are of one shape and nothing changes them; else 0"
        own = type(self).__getitem__ is PackedDataset.__getitem__
        own = own and type(self).__getitems__ is PackedDataset.__getitems__
        changed = self.transform is not None or self.augment is not None
        return self.pack.bytes if own and not changed else 0

    def _changed(self, X: Any, index: int) -> Any:
        if self.transform is not None:
            X = self.transform(X)
        if self.augment is not None:
            X = self.augment(X, draws(self.seed, self.pack.ID(self.rows[index]), index))
        return X

    def _to_stack(self, samples: list[Any], indices: Sequence[int]) -> list[Any]:
        return to_stack(
            samples, [f"row {row}" for row in self.rows[numpy.asarray(indices)].tolist()], self.like
        )

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
        "The first dimension of each sample (of its first field), known without reading one"
        return self.pack.fields[0].lengths(self.rows)

    def _refuse_stale(self, index: int, ID: str) -> None:
        file = file_of(ID, self.root)
        if not file.exists():
            return
        with reading(ID, file):
            X = read_sample(file)
        if not same(X, self.pack.sample(self.rows[index])):
            raise DatasetError(f"sample {ID!r}: {file} is no longer what was packed; {again(self.root)}")


class Pack:
    """The files of the folder `root/packed`, mapped into memory and checked against their manifest.

    Rows are numbers from 0 up, in the order of IDs.npy.
    """

    def __init__(self, root: str | Path, digest: str | None = None, with_IDs: bool = True) -> None:
        """`digest`: of the pack that it must be. `with_IDs`: fill `rows`, {ID: row}.

        Raises DatasetError if it is another one, or is replaced again and again while it is opened."""
        self.folder = Path(root) / "packed"
        for _ in range(TRIES):
            before = read_manifest(root)
            if digest not in (None, before["digest"]):
                raise DatasetError(
                    f"{self.folder} was packed anew while this dataset was in use: make the dataset again"
                )
            try:
                self._open(root, before, with_IDs and digest is None)
            except DatasetError:
                if read_manifest(root) == before:
                    raise
            else:
                if read_manifest(root) == before:  # else its files may be of two packs
                    return
        raise DatasetError(f"{self.folder} is being replaced: try again when feedgpu pack has ended")

    def _open(self, root: str | Path, manifest: dict[str, Any], with_IDs: bool) -> None:
        self.digest: str = manifest["digest"]
        self.samples: int = manifest["samples"]
        self.form: str = manifest.get("form", "tensor")
        self.fields = [Field(self.folder, end, spec, self.samples) for end, spec in fields_of(manifest)]
        if not all(field.whole for field in self.fields):
            raise DatasetError(f"{self.folder} is not what its manifest says: {again(root)}")
        self.rows = self._rows() if with_IDs else {}

    def _rows(self) -> dict[str, int]:
        "The row of each ID"
        return {decoded(ID): row for row, ID in enumerate(self.IDs.tolist())}

    @cached_property
    def bytes(self) -> int:
        "Of a sample; 0 if they are of unequal shapes"
        of_one_shape = all(field.offsets is None for field in self.fields)
        return sum(field.values.strides[0] for field in self.fields) if of_one_shape and self.samples else 0

    @cached_property
    def IDs(self) -> Array:
        "Bytes in UTF-8, by row, mapped"
        IDs: Array = load(self.folder, "IDs.npy", mmap_mode="r")
        if IDs.shape != (self.samples,) or IDs.dtype.kind != "S":
            raise DatasetError(f"{self.folder / 'IDs.npy'} does not list {self.samples:,} IDs")
        return IDs

    def ID(self, row: int) -> str:
        return decoded(self.IDs[row])

    def gather(self, rows: Array, shared: bool = False) -> list[torch.Tensor | list[torch.Tensor]]:
        "Copies of these rows, for each field one tensor, or a list if their shapes are unequal"
        return [field.gather(rows, shared) for field in self.fields]

    def with_fields(self, values: Sequence[Any]) -> Any:
        "A sample or a batch, of the values of its fields"
        if self.form == "dict":
            return {field.name: value for field, value in zip(self.fields, values, strict=True)}
        return tuple(values) if self.form == "tuple" else values[0]

    def sample(self, row: int) -> Any:
        "A copy of one"
        return self.with_fields([part[0] for part in self.gather(numpy.array([row]))])


def same(a: Any, b: Any) -> bool:
    "Whether two samples are equal to the last bit, which NaN is not to itself"
    one, other = fields(a), fields(b)
    return list(one) == list(other) and all(same_bits(one[name], other[name]) for name in one)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    a, b = (one.resolve_conj().resolve_neg().contiguous() for one in (a, b))
    bits = [one.flatten().view(torch.uint8) for one in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)


def targets(list_IDs: Sequence[str], labels: Any) -> Array | None:
    "The labels of these IDs as one array, N or N×…: whole numbers as they are, others float32"
    if labels is None:
        return None
    if not isinstance(labels, Mapping):
        y = numpy.asarray(labels)
        if y.shape[:1] != (len(list_IDs),) or y.dtype.kind not in "biuf":
            raise DatasetError(
                f"labels must be a mapping, or numbers for {len(list_IDs):,} IDs, but they are an array of "
                f"{y.dtype} of shape {'×'.join(map(str, y.shape)) or '()'}"
            )
        return compact(y.astype(numpy.float32) if y.dtype == numpy.float64 else y)
    values = [labels[ID] for ID in list_IDs]
    if (kinds := set(map(type, values))) == {int} and -(2**63) <= min(values) <= max(values) < 2**63:
        return compact(numpy.array(values))
    if kinds == {float}:
        return numpy.array(values, numpy.float32)
    found: list[Array] = []
    for ID, y in zip(list_IDs, map(target, values), strict=True):
        if not is_number(y) and not (isinstance(y, torch.Tensor) and has_numpy(y)):
            raise DatasetError(
                f"labels must be numbers, or lists of them, but that of {ID!r} is {labels[ID]!r}"
            )
        found.append(numpy.asarray(y))
        if (found[-1].shape, found[-1].dtype.kind == "f") != (found[0].shape, found[0].dtype.kind == "f"):
            raise DatasetError(
                f"labels must be of one kind, but that of {list_IDs[0]!r} is {values[0]!r} and that of "
                f"{ID!r} is {labels[ID]!r}"
            )
    return compact(numpy.array(found))


def is_number(label: object) -> bool:
    "Whether a label can be one of an array of numbers: a tensor or an array with one value can, too"
    if isinstance(label, torch.Tensor):
        return has_numpy(label) and is_number(label.numpy())
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


def is_plain(y: Array) -> bool:
    "Whether each target is one whole number, which a sample carries as a Python integer"
    return y.ndim == 1 and y.dtype.kind in "biu"


def widened(y: Array) -> Array:
    "As default_collate makes them of integers"
    return y.astype(numpy.int64) if y.dtype.kind in "iu" and y.ndim == 1 else y
