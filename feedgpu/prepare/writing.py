"""Writes the files of a pack, of samples that come one at a time or many at once (see manifest.py)."""

import hashlib
import os
from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy
import torch

from ..manifest import files_of
from ..notation import DatasetError
from ..outside import opened
from ..sample import describe, fields, of_one, stored_as, with_fields
from .layout import write_json

Array = numpy.ndarray[Any, Any]
HEADER = 256  # bytes of that of samples.npy, written last, when the number of values is known


class PackWriter:
    "The samples of a pack, a file a field in `folder`; their streams are closed when its `with` block ends"

    def __init__(self, folder: Path) -> None:
        self.folder, self.samples = folder, 0
        self.first: tuple[str, Any] | None = None
        self.written: list[Any] = []
        self.files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.files.close()

    def add(self, ID: str, X: Any) -> None:
        "One sample: a tensor, or a tuple or dict of tensors"
        self._begin(ID, X)
        for field, values in zip(self.written, fields(X).values(), strict=True):
            field.add(values)
        self.samples += 1

    def add_rows(self, ID: str, X: Any) -> None:
        "Several samples of equal shapes, the first of which is `ID`: each field has one dimension more"
        rows = list(fields(X).values())
        self._begin(ID, with_fields(X, [one[0] for one in rows]))
        for field, values in zip(self.written, rows, strict=True):
            field.add_rows(values)
        self.samples += len(rows[0])

    def link(self, ID: str, X: torch.Tensor, file: Path) -> None:
        "All samples at once, as `add_rows`: X is what the .npy file holds, which is linked or, else, copied"
        try:
            os.link(file.resolve(), self.folder / "samples.npy")
        except OSError:  # on another disk, or not allowed
            self.add_rows(ID, X)
            return
        self.first, self.samples = (ID, X[0]), len(X)
        self.written = [LinkedField(X)]

    def _begin(self, ID: str, X: Any) -> None:
        if self.first is None:
            self.first = ID, X
            ends = [""] if isinstance(X, torch.Tensor) else [f"-{i}" for i in range(len(fields(X)))]
            for end, (name, one) in zip(ends, fields(X).items(), strict=True):
                self.written.append(WrittenField(self.folder, end, name, one))
                self.files.callback(self.written[-1].stream.close)
        refuse_other_kind(ID, X, *self.first)

    def manifest(self) -> dict[str, Any]:
        "Ends the files; returns what the manifest says of them"
        assert self.first is not None  # a dataset has samples
        X = self.first[1]
        form = "tensor" if isinstance(X, torch.Tensor) else "tuple" if isinstance(X, tuple) else "dict"
        specs = [field.end() for field in self.written]
        return {"version": 2, "samples": self.samples, "form": form, "fields": specs}


class WrittenField:
    "The values of one field of all samples, one after the other, under the header of one array"

    def __init__(self, folder: Path, end: str, name: str | int | None, like: torch.Tensor) -> None:
        self.folder, self.end_of_names, self.name = folder, end, name
        self.dtype, self.shape, self.samples = like.dtype, tuple(like.shape), 0
        self.shapes: array[int] | None = None  # all of them, from the first on that differs
        self.stream = open(folder / f"samples{end}.npy", "wb")
        self.stream.write(bytes(HEADER))

    def add(self, X: torch.Tensor) -> None:
        if self.shapes is None and X.shape != self.shape:
            self.shapes = array("q", self.shape * self.samples)
        if self.shapes is not None:
            self.shapes.extend(X.shape)
        self.samples += 1
        self.stream.write(X.view(stored_as(X.dtype)).numpy().tobytes())

    def add_rows(self, X: torch.Tensor) -> None:
        if self.shapes is not None or X.shape[1:] != self.shape:
            for one in X:
                self.add(one)
            return
        self.samples += len(X)
        self.stream.write(X.contiguous().view(stored_as(X.dtype)).numpy().reshape(-1).data)

    def end(self) -> dict[str, Any]:
        "Writes the header, and where each sample begins if their shapes differ; returns the field's spec"
        shape: list[int] | None = list(self.shape)
        values: tuple[int, ...] = (self.samples, *self.shape)
        if self.shapes is not None:
            shape = None
            shapes = numpy.array(self.shapes, numpy.int64).reshape(self.samples, len(self.shape))
            offsets = numpy.concatenate([[0], shapes.prod(1).cumsum()])
            numpy.save(self.folder / f"offsets{self.end_of_names}.npy", offsets)
            numpy.save(self.folder / f"shapes{self.end_of_names}.npy", shapes)
            values = (int(offsets[-1]),)
        self.stream.seek(0)
        self.stream.write(header(self.dtype, values))
        self.stream.flush()
        os.fsync(self.stream.fileno())
        return {"name": self.name, "dtype": str(self.dtype).removeprefix("torch."), "shape": shape}


class LinkedField:
    "The values of all samples, in a file that was there before"

    def __init__(self, X: torch.Tensor) -> None:
        self.spec = {"name": None, "dtype": str(X.dtype).removeprefix("torch."), "shape": list(X.shape[1:])}

    def end(self) -> dict[str, Any]:
        return self.spec


def refuse_other_kind(ID: str, X: Any, first_ID: str, first: Any) -> None:
    "Raises DatasetError for a sample that cannot be in one pack with the first"
    one, other = fields(X), fields(first)
    if list(one) != list(other):
        raise DatasetError(
            f"samples of one pack must have the same fields: {first_ID!r} is {describe(first)} "
            f"({', '.join(map(str, other))}), but {ID!r} is {describe(X)} ({', '.join(map(str, one))})"
        )
    for name, values in one.items():
        if (values.dtype, values.dim()) != (other[name].dtype, other[name].dim()):
            which = f"field {name!r} of " if name is not None else ""
            raise DatasetError(
                "samples of one pack must have one dtype and number of dimensions: "
                f"{which}{first_ID!r} is {of_one(other[name])}, but {which}{ID!r} is {of_one(values)}"
            )


def write_manifest(folder: Path, manifest: dict[str, Any], IDs: Array, y: Array | None, **more: Any) -> None:
    "Writes the targets and IDs of a pack, whose samples and other files are there, and its manifest last"
    if y is not None:
        numpy.save(folder / "labels.npy", y.astype(numpy.int64) if y.dtype.kind in "iu" else y)
    numpy.save(folder / "IDs.npy", IDs)
    others = [name for name in ("partition.npy", "order.npy") if (folder / name).exists()]
    names = [name for name in files_of(manifest) if name != "labels.npy" or y is not None] + others
    manifest["files"] = {name: (folder / name).stat().st_size for name in names}
    manifest["digest"] = digest(folder, names)
    write_json(manifest | more, folder / "manifest.json")


def header(dtype: torch.dtype, shape: tuple[int, ...]) -> bytes:
    "Of a .npy file of version 1.0, as numpy.lib.format describes it, HEADER bytes long whatever the shape"
    kind = torch.empty(0, dtype=stored_as(dtype)).numpy().dtype
    text = repr({"descr": numpy.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape})
    return (
        b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + text.encode().ljust(HEADER - 11) + b"\n"
    )


def digest(folder: Path, names: Iterable[str]) -> str:
    "blake2b of the files, one after the other, in hexadecimal"
    found = hashlib.blake2b(digest_size=16)
    for name in names:
        with opened(folder / name) as stream:
            while piece := stream.read(1 << 20):
                found.update(piece)
    return found.hexdigest()
