"""Packs a dataset: all samples into one file that PackedDataset maps, whole or not at all.

feedgpu/manifest.py says which files a pack has. They are written into `.packing/`; then the old pack moves
there and the new one into its place. A process that is killed in between leaves both there, and the next run
puts the old one back.
"""

import errno
import hashlib
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy
import torch

from ..manifest import files_of, read_manifest, stored_as
from ..notation import DatasetError, file_of, load_notation, read_notation, reading
from ..outside import opened
from ..packed import targets
from ..sample import describe, fields, of_one, read_sample, with_fields
from ..system import ctrl_c_deferred, progress
from .commit import PACKING, refuse_link, sole_writer, suffix_of
from .layout import one_thread, write_json

Array = numpy.ndarray[Any, Any]
HEADER = 256  # bytes of that of samples.npy, written last, when the number of values is known


def pack(root: str | Path = "data", size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Packs the dataset in the folder `root`, and returns the pack's manifest.

    `size`: (H, W), for a dataset of image files: they are packed decoded, as ImageDataset cuts them from the
    middle.

    The samples stay; whoever deletes them keeps a valid dataset for PackedDataset. One sample at a time is in
    memory. An old pack is replaced.

    Raises DatasetError, and then leaves the old pack as it was, if a sample cannot be read or is not of the
    dtype and number of dimensions of the others, if another process is writing there, if something else has
    the name of the pack, or if the disk is full or refuses.
    """
    root = Path(root)
    read_notation(root)  # where there is no dataset, no folder is made
    packed, packing = root / "packed", root / PACKING
    try:
        with sole_writer(root):  # from here on the dataset is nobody's to replace
            IDs, labels = what_to_pack(root, size)
            refuse_link(packing)
            recover_pack(root)
            try:
                (packing / "new").mkdir(parents=True)
                write_pack(IDs, labels, root, packing / "new", size)
                with ctrl_c_deferred():
                    if packed.exists():
                        os.replace(packed, packing / "replaced")
                    os.replace(packing / "new", packed)
                    shutil.rmtree(packing)
            finally:
                recover_pack(root)
    except OSError as error:
        advice = ": free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        untouched = "; the pack that was there is untouched" if packed.exists() else ""
        raise DatasetError(
            f"{error.filename or packed} cannot be written, {error.strerror or error}{advice}{untouched}"
        ) from error
    return read_manifest(root)


def what_to_pack(root: Path, size: tuple[int, int] | None) -> tuple[list[str], Any]:
    "The IDs and labels of the dataset. Raises DatasetError if it cannot be packed so."
    suffix = suffix_of(root, [ID for IDs in read_notation(root)[0].values() for ID in IDs])
    partition, labels = load_notation(root, suffix)
    if suffix == "" and size is None:
        raise DatasetError(f"the samples of {root} are image files: say --size H W to pack their pixels")
    if suffix != "" and size is not None:
        raise DatasetError(f"the samples of {root} are tensors, packed as they are: leave --size out")
    packed = root / "packed"
    if packed.exists() and not (packed / "manifest.json").is_file():
        raise DatasetError(f"{packed} is no pack, and a pack would take its place: move it away")
    return [ID for IDs in partition.values() for ID in IDs], labels


def recover_pack(root: Path) -> None:
    "Takes away what a killed run has left, and puts back the old pack if that run had moved it away"
    packing = root / PACKING
    if (packing / "replaced").exists() and not (root / "packed").exists():
        os.replace(packing / "replaced", root / "packed")
    if packing.exists():
        shutil.rmtree(packing)


def write_pack(
    IDs: list[str], labels: Any, root: Path, folder: Path, size: tuple[int, int] | None = None
) -> None:
    "Writes the files of a pack into `folder`, its manifest last"
    images = None
    if size:
        from ..images import ImageDataset  # which needs Pillow

        images = ImageDataset(IDs, None, root, size)
    samples = (images[i].contiguous() if images else sample_of(ID, root) for i, ID in enumerate(IDs))
    manifest = write_samples(IDs, samples, folder)
    y = targets(IDs, labels)
    if y is not None:
        numpy.save(folder / "labels.npy", y.astype(numpy.int64) if y.dtype.kind in "iu" else y)
    elif "fields" not in manifest:
        field = {"name": None, "dtype": manifest.pop("dtype"), "shape": manifest.pop("shape")}
        manifest |= {"version": 2, "form": "tensor", "fields": [field]}
    numpy.save(folder / "IDs.npy", numpy.array([ID.encode("utf-8", "surrogateescape") for ID in IDs]))
    names = [name for name in files_of(manifest) if name != "labels.npy" or y is not None]
    manifest["files"] = {name: (folder / name).stat().st_size for name in names}
    manifest["digest"] = digest(folder, names)
    if images:
        manifest["source"] = sizes_of(file_of(ID, root, "") for ID in IDs)
    write_json(manifest, folder / "manifest.json")


def write_samples(IDs: list[str], samples: Iterator[Any], folder: Path) -> dict[str, Any]:
    "Writes the values of all samples, a file a field; returns what the manifest says of them"
    first: tuple[str, Any] | None = None
    written: list[WrittenField] = []
    with ExitStack() as files, one_thread():
        for ID, X in zip(progress(IDs, "Packing", unit=" samples", leave=True), samples, strict=True):
            if first is None:
                first = ID, X
                ends = [f"-{i}" for i in range(len(fields(X)))] if not isinstance(X, torch.Tensor) else [""]
                written = [WrittenField(folder, end, name) for end, name in zip(ends, fields(X), strict=True)]
                for field in written:
                    files.callback(field.stream.close)
            refuse_other_kind(ID, X, *first)
            for field, values in zip(written, fields(X).values(), strict=True):
                field.add(values)
        assert first is not None  # a dataset has samples
        specs = [field.end() for field in written]
    if isinstance(first[1], torch.Tensor):
        return {"version": 1, "samples": len(IDs), "dtype": specs[0]["dtype"], "shape": specs[0]["shape"]}
    form = "tuple" if isinstance(first[1], tuple) else "dict"
    return {"version": 2, "samples": len(IDs), "form": form, "fields": specs}


class WrittenField:
    "The values of one field of all samples, one after the other, under the header of one array"

    def __init__(self, folder: Path, end: str, name: str | int | None) -> None:
        self.folder, self.end_of_names, self.name = folder, end, name
        self.sizes, self.ends = array("q"), array("q", [0])
        self.first: torch.Tensor | None = None
        self.stream = open(folder / f"samples{end}.npy", "wb")
        self.stream.write(bytes(HEADER))

    def add(self, X: torch.Tensor) -> None:
        self.first = X if self.first is None else self.first
        self.stream.write(X.view(stored_as(X.dtype)).numpy().tobytes())
        self.sizes.extend(X.shape)
        self.ends.append(self.ends[-1] + X.numel())

    def end(self) -> dict[str, Any]:
        "Writes the header, and where each sample begins if their shapes differ; returns the field's spec"
        assert self.first is not None
        samples, dtype = len(self.ends) - 1, self.first.dtype
        shapes = numpy.array(self.sizes, numpy.int64).reshape(samples, self.first.dim())
        alike = bool((shapes == shapes[0]).all())
        self.stream.seek(0)
        self.stream.write(header(dtype, (samples, *shapes[0].tolist()) if alike else (self.ends[-1],)))
        self.stream.flush()
        os.fsync(self.stream.fileno())
        if not alike:
            numpy.save(self.folder / f"offsets{self.end_of_names}.npy", numpy.array(self.ends, numpy.int64))
            numpy.save(self.folder / f"shapes{self.end_of_names}.npy", shapes)
        shape = shapes[0].tolist() if alike else None
        return {"name": self.name, "dtype": str(dtype).removeprefix("torch."), "shape": shape}


def refuse_other_kind(ID: str, X: Any, first_ID: str, first: Any) -> None:
    "Raises DatasetError for a sample that cannot be in one pack with the first"
    one, other = fields(X), fields(first)
    if list(one) != list(other):
        raise DatasetError(
            f"samples of one pack must have the same fields: {first_ID!r} is {describe(first)}, "
            f"but {ID!r} is {describe(X)}"
        )
    for name, values in one.items():
        if (values.dtype, values.dim()) != (other[name].dtype, other[name].dim()):
            which = f"field {name!r} of " if name is not None else ""
            raise DatasetError(
                "samples of one pack must have one dtype and number of dimensions: "
                f"{which}{first_ID!r} is {of_one(other[name])}, but {which}{ID!r} is {of_one(values)}"
            )


def sample_of(ID: str, root: Path) -> Any:
    file = file_of(ID, root)
    with reading(ID, file):
        X = read_sample(file)
    return with_fields(X, [one.contiguous() for one in fields(X).values()])


def header(dtype: torch.dtype, shape: tuple[int, ...]) -> bytes:
    "Of a .npy file of version 1.0, as numpy.lib.format describes it, HEADER bytes long whatever the shape"
    kind = torch.empty(0, dtype=stored_as(dtype)).numpy().dtype
    text = repr({"descr": numpy.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape})
    return (
        b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + text.encode().ljust(HEADER - 11) + b"\n"
    )


def sizes_of(files: Iterable[Path]) -> str:
    "A digest of the sizes of image files, by which `check` notices that they are others"
    found = hashlib.blake2b(digest_size=16)
    for file in files:
        found.update(b"%d " % file.stat().st_size)
    return found.hexdigest()


def digest(folder: Path, names: Iterable[str]) -> str:
    "blake2b of the files, one after the other, in hexadecimal"
    found = hashlib.blake2b(digest_size=16)
    for name in names:
        with opened(folder / name) as stream:
            while piece := stream.read(1 << 20):
                found.update(piece)
    return found.hexdigest()
