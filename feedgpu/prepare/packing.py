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
from pathlib import Path
from typing import Any

import numpy
import torch

from ..manifest import PACKED, UNEQUAL, VERSION, read_manifest, stored_as
from ..notation import DatasetError, describe, file_of, load_notation, read_notation, read_tensor, reading
from ..outside import opened
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


def what_to_pack(root: Path, size: tuple[int, int] | None) -> tuple[list[str], dict[str, int]]:
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
    IDs: list[str], labels: dict[str, int], root: Path, folder: Path, size: tuple[int, int] | None = None
) -> None:
    "Writes the files of a pack into `folder`, its manifest last"
    images = None
    if size:
        from ..images import ImageDataset  # which needs Pillow

        images = ImageDataset(IDs, labels, root, size)
    samples = (images[i][0].contiguous() if images else read_sample(ID, root) for i, ID in enumerate(IDs))
    dtype, shapes, offsets = write_samples(IDs, samples, folder / "samples.npy")
    numpy.save(folder / "labels.npy", numpy.array([labels[ID] for ID in IDs], numpy.int64))
    numpy.save(folder / "IDs.npy", numpy.array([ID.encode("utf-8", "surrogateescape") for ID in IDs]))
    names: tuple[str, ...] = PACKED
    shape = shapes[0].tolist()
    if (shapes != shapes[0]).any():
        names, shape = PACKED + UNEQUAL, None
        numpy.save(folder / "offsets.npy", offsets)
        numpy.save(folder / "shapes.npy", shapes)
    manifest = {
        "version": VERSION,
        "samples": len(IDs),
        "dtype": str(dtype).removeprefix("torch."),
        "shape": shape,
        "files": {name: (folder / name).stat().st_size for name in names},
        "digest": digest(folder, names),
    }
    if images:
        manifest["source"] = sizes_of(file_of(ID, root, "") for ID in IDs)
    write_json(manifest, folder / "manifest.json")


def write_samples(
    IDs: list[str], samples: Iterator[torch.Tensor], file: Path
) -> tuple[torch.dtype, Array, Array]:
    """Writes the values of all samples, one after the other, under the header of one array.

    Returns their dtype, their shapes (N × dimensions) and where each begins and the last one ends, in values.
    """
    first: tuple[str, torch.Tensor] | None = None
    sizes, ends = array("q"), array("q", [0])
    with open(file, "wb") as stream, one_thread():
        stream.write(bytes(HEADER))
        for ID, X in zip(progress(IDs, "Packing", unit=" samples", leave=True), samples, strict=True):
            first = first or (ID, X)
            refuse_other_kind(ID, X, *first)
            stream.write(X.view(stored_as(X.dtype)).numpy().tobytes())
            sizes.extend(X.shape)
            ends.append(ends[-1] + X.numel())
        assert first is not None  # a dataset has samples
        dtype, shapes = first[1].dtype, numpy.array(sizes, numpy.int64).reshape(len(IDs), first[1].dim())
        shape = (len(IDs), *shapes[0].tolist()) if bool((shapes == shapes[0]).all()) else (ends[-1],)
        stream.seek(0)
        stream.write(header(dtype, shape))
        stream.flush()
        os.fsync(stream.fileno())
    return dtype, shapes, numpy.array(ends, numpy.int64)


def refuse_other_kind(ID: str, X: torch.Tensor, first_ID: str, first: torch.Tensor) -> None:
    "Raises DatasetError for a sample that cannot be in one pack with the first"
    if (X.dtype, X.dim()) != (first.dtype, first.dim()):
        raise DatasetError(
            f"samples of one pack must have one dtype and number of dimensions: {first_ID!r} is "
            f"{describe(first)}, but {ID!r} is {describe(X)}"
        )


def read_sample(ID: str, root: Path) -> torch.Tensor:
    file = file_of(ID, root)
    with reading(ID, file):
        return read_tensor(file).contiguous()


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
