"""Packs a dataset: all samples into one file that PackedDataset maps, whole or not at all.

feedgpu/manifest.py says which files a pack has. They are written into `.packing/`; then the old pack moves
there and the new one into its place. A process that is killed in between leaves both there, and the next run
puts the old one back.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy

from ..ids import encoded
from ..manifest import read_manifest
from ..notation import DatasetError, Partition, file_of, is_pack_alone, load_notation, read_notation, reading
from ..outside import read_json
from ..packed import targets
from ..sample import fields, read_sample, with_fields
from ..system import ctrl_c_deferred, progress
from .commit import PACKING, refuse_link, sole_writer, suffix_of
from .layout import one_thread
from .streaming import pack_samples
from .writing import PackWriter, write_manifest


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


def pack_to(
    root: str | Path, to: str | Path, size: tuple[int, int] | None = None, force: bool = False
) -> tuple[Partition, Any]:
    """Packs the dataset in `root` into another folder, where it becomes a dataset that is a pack alone.

    For a folder in which nothing can be written. `size`: as for `pack`; `force`: overwrite the dataset in
    `to`. Returns `(partition, labels)` of the new dataset; raises DatasetError as `pack` does.
    """
    root = Path(root)
    partition, labels = read_notation(root)
    IDs, labels = what_to_pack(root, size)
    read = reader_of(IDs, root, size)
    file = root / "classes.json"
    classes = read_json(file) if file.exists() else None

    def samples(of: list[str]) -> Iterator[tuple[Any, ...]]:
        for ID in of:
            yield (ID, read(ID)) if labels is None else (ID, read(ID), labels[ID])

    parts = {name: samples(of) for name, of in partition.items()}
    return pack_samples(parts, to, force=force, classes=classes, total=len(IDs), origin=root)


def reader_of(IDs: list[str], root: Path, size: tuple[int, int] | None) -> Callable[[str], Any]:
    "A function that reads the sample of an ID; `size`: of images"
    if not size:
        return lambda ID: sample_of(ID, root)
    from ..images import ImageDataset  # which needs Pillow

    images, place = ImageDataset(IDs, None, root, size), {ID: i for i, ID in enumerate(IDs)}
    return lambda ID: images[place[ID]].contiguous()


def what_to_pack(root: Path, size: tuple[int, int] | None) -> tuple[list[str], Any]:
    "The IDs and labels of the dataset. Raises DatasetError if it cannot be packed so."
    partition, _ = read_notation(root)
    if is_pack_alone(partition):
        raise DatasetError(f"{root} is a pack already, without a file for each sample")
    suffix = suffix_of(root, [ID for IDs in partition.values() for ID in IDs])
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
    read = reader_of(IDs, root, size)
    source = {"source": sizes_of(file_of(ID, root, "") for ID in IDs)} if size else {}
    with PackWriter(folder) as writer, one_thread():
        for ID in progress(IDs, "Packing", unit=" samples", leave=True):
            writer.add(ID, read(ID))
        manifest = writer.manifest()
    y = targets(IDs, labels)
    if manifest["form"] == "tensor" and y is not None:  # as older versions read it
        field = manifest.pop("fields")[0]
        del manifest["form"], field["name"]
        manifest |= {"version": 1} | field
    write_manifest(folder, manifest, numpy.array([encoded(ID) for ID in IDs]), y, **source)


def sample_of(ID: str, root: Path) -> Any:
    file = file_of(ID, root)
    with reading(ID, file):
        X = read_sample(file)
    return with_fields(X, [one.contiguous() for one in fields(X).values()])


def sizes_of(files: Iterable[Path]) -> str:
    "A digest of the sizes of image files, by which `check` notices that they are others"
    found = hashlib.blake2b(digest_size=16)
    for file in files:
        found.update(b"%d " % file.stat().st_size)
    return found.hexdigest()
