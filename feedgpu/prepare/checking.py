"""Reads a whole dataset and says what is wrong with it."""

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from ..classes import greatest_label
from ..ids import IDList, LabelArray
from ..manifest import again, read_manifest
from ..notation import (
    LEADS_OUT,
    DatasetError,
    Partition,
    Shortage,
    file_of,
    find_faults,
    is_pack_alone,
    one_line_a_kind,
    read_notation,
    sentence,
    without_file,
)
from ..outside import opened, read_json, reason, wanting
from ..packed import Pack, same
from ..rooms import MissingExtra
from ..sample import fields, is_class, of_one, read_sample
from ..system import ctrl_c_deferred, progress
from .commit import suffix_of
from .files import decode_whole, files_below, is_image
from .layout import one_thread
from .packing import sizes_of
from .writing import digest


def check(root: str | Path = "data") -> list[str]:
    """What is wrong with the dataset in the folder `root`, one sentence a fault; empty if nothing is.

    First the faults that show without reading a sample, then those of each sample, then those of the
    folder: files that no ID names, too few names of classes. A sample whose file is gone is read from the
    pack, if there is one; one that is still there must be what was packed. Image files are decoded to their
    ends, and may be of any size.
    """
    root = Path(root)
    try:
        partition, labels = read_notation(root)
    except DatasetError as error:
        return [str(error)]
    pack, faults = open_pack(root)
    if is_pack_alone(partition):
        return faults + (faults_of_pack(root, partition, labels, pack) if pack else [])
    rows = pack.rows if pack else {}
    faults = [sentence(*fault) for fault in find_faults(partition, labels, root, None)] + faults
    listed = [ID for IDs in partition.values() for ID in IDs if isinstance(ID, str)]
    suffix = suffix_of(root, listed)
    read = read_sample if suffix else decode_whole
    files = {ID: file_of(ID, root, suffix) for ID in listed if not LEADS_OUT.search(ID)}
    absent = without_file(list(files), root, suffix)
    if lost := [ID for ID in absent if ID not in rows]:
        faults.append(sentence(f"without a file {root / '<ID>'}{suffix}", lost))
    absent_there = set(lost)
    if pack and (late := [ID for ID in files if ID not in rows and ID not in absent_there]):
        faults.append(f"{sentence('not in the pack', late)}; {again(root)}")
    if pack and suffix == "" and not absent and read_manifest(root).get("source") != sizes_of(files.values()):
        faults.append(f"the image files are no longer those that were packed; {again(root)} --size …")
    faults += faults_of_samples(files, set(absent), read, pack, rows)
    spare = faults_of_folder(root, set(files.values()), is_image if suffix == "" else is_tensor)
    great = greatest_label(labels) if labels else ""
    return faults + spare + faults_of_classes(root, labels) + [great] * bool(great)


def faults_of_pack(root: Path, partition: Partition, labels: Any, pack: Pack) -> list[str]:
    "What is wrong with a dataset that is a pack alone"
    there = {ID: None for IDs in partition.values() for ID in IDs}
    faults = [sentence(*fault) for fault in find_faults({"all": list(there)}, None, root, None)]
    if (more := pack.samples - len(there)) > 0:
        faults.append(f"{more:,} samples in {pack.folder} have the ID of another one")
    wrong: dict[str | int | None, list[str]] = {}
    longer: dict[str | int | None, list[str]] = {}
    first = fields(pack.sample(0))
    for row, ID in enumerate(progress(pack.rows, "Reading", unit=" samples", leave=True)):
        for name, one in fields(pack.sample(row)).items():
            if faults_of_tensor(one, ("", one)):
                wrong.setdefault(name, []).append(ID)
            if one.shape != first[name].shape:
                longer.setdefault(name, []).append(ID)
    what = "with values that are infinite or not a number"
    faults += [sentence(f"{in_field(name)}{what}", IDs) for name, IDs in wrong.items()]
    what = "of another shape than the first sample, which is for a collate_fn that pads (feedgpu.padded)"
    faults += [sentence(f"{in_field(name)}{what}", IDs) for name, IDs in longer.items()]
    if labels is not None:
        y = labels.array
        odd = ~numpy.isfinite(y) if y.dtype.kind == "f" else y < 0
        if len(found := numpy.flatnonzero(odd.reshape(len(y), -1).any(1))):
            less = "less than 0" if y.dtype.kind in "iu" else "infinite or not a number"
            faults.append(
                sentence(f"whose target is {less}", list(IDList(labels.IDs, found, labels.edition)))
            )
    return faults + faults_of_classes(root, labels)


def faults_of_samples(
    files: dict[str, Path],
    gone: set[str],
    read: Callable[[Path], Any],
    pack: Pack | None,
    rows: dict[str, int],
) -> list[str]:
    "What is wrong with the samples, each read from its file or, if that is `gone`, from the pack"
    found: list[tuple[str, str, str]] = []
    first: tuple[str, Any] | None = None
    longer: dict[str | int | None, list[str]] = {}
    with one_thread():
        for ID, file in progress(files.items(), "Reading", unit=" samples", leave=True):
            packed = pack.sample(rows[ID]) if pack and ID in rows else None
            try:
                with warnings.catch_warnings(action="ignore"):
                    X = packed if ID in gone else read(file)
            except MissingExtra:
                raise
            except Exception as error:  # decoders raise all kinds
                if what := wanting(error):
                    raise Shortage(f"sample {ID!r}: {file} could not be read for want of {what}") from error
                what = f"cannot be read: {reason(error)}"
                found.append((ID, what, f"sample {ID!r}: {file} {what}"))
                continue
            if ID not in gone and file.suffix == ".pt" and (damage := damage_in(file)):
                found.append((ID, f"is damaged: {damage}", f"sample {ID!r}: {file} is damaged: {damage}"))
            if X is None or read is decode_whole:
                continue  # is among the faults already, or an image in order
            first = first or (ID, X)
            for name, one in fields(X).items():
                other = fields(first[1]).get(name)
                if other is not None and one.dim() and one.shape[1:] == other.shape[1:] != one.shape:
                    if one.shape != other.shape:
                        longer.setdefault(name, []).append(ID)
            found += [(ID, fault, f"sample {ID!r}: {fault}") for fault in faults_of(X, first)]
            if pack and packed is not None and not same(X, packed):
                what = f"is no longer what was packed; {again(pack.folder.parent)}"
                found.append((ID, what, f"sample {ID!r}: {file} {what}"))
    faults = one_line_a_kind(found)
    for name, IDs in longer.items():
        assert first is not None
        what = f"of another length than {first[0]!r}, which is for a collate_fn that pads (feedgpu.padded)"
        faults.append(sentence(f"{in_field(name)}{what}", IDs))
    return faults


def damage_in(file: Path) -> str | None:
    "What the checksums in a .pt file, which is a zip archive, say against it; torch.load does not look"
    try:
        with opened(file) as stream:
            with ctrl_c_deferred():  # half a ZipFile would complain when it goes
                archive = zipfile.ZipFile(stream)
            with archive:
                if wrong := archive.testzip():
                    return f"{wrong} in it is not what was saved (CRC)"
    except zipfile.BadZipFile:
        return None  # of torch before 1.6: without checksums
    except Exception as error:
        return reason(error)
    return None


def open_pack(root: Path) -> tuple[Pack | None, list[str]]:
    "The pack of the dataset, if it has a whole one, and what is wrong with it"
    if not (root / "packed").exists():
        return None, []
    try:
        pack = Pack(root)
    except DatasetError as error:
        return None, [str(error)]
    manifest = read_manifest(root)
    if digest(pack.folder, manifest["files"]) != manifest.get("digest"):
        return pack, [f"{pack.folder} has changed since it was written: {again(root)}"]
    return pack, []


def faults_of(X: Any, first: tuple[str, Any]) -> list[str]:
    "What is wrong with one sample; `first`: the ID of the first one, and that one"
    one, other = fields(X), fields(first[1])
    if list(one) != list(other):
        names = [", ".join(map(str, of)) if list(of) != [None] else "no fields" for of in (one, other)]
        return [f"it has {names[0]}, but {first[0]!r} has {names[1]}: samples must have the same fields"]
    return [
        f"{in_field(name)}{fault}"
        for name in one
        for fault in faults_of_tensor(one[name], (first[0], other[name]))
    ]


def in_field(name: str | int | None) -> str:
    return "" if name is None else f"in field {name!r} "


def faults_of_tensor(X: torch.Tensor, first: tuple[str, torch.Tensor]) -> list[str]:
    faults = []
    if (X.dtype, X.dim(), X.shape[1:]) != (first[1].dtype, first[1].dim(), first[1].shape[1:]):
        faults.append(f"it is {of_one(X)}, but {first[0]!r} is {of_one(first[1])}: samples must be alike")
    values = X.float() if X.is_floating_point() and X.itemsize == 1 else X  # isfinite knows no float8
    if wrong := int((~values.isfinite()).sum()):
        faults.append(f"{wrong:,} of its {X.numel():,} values are infinite or not a number")
    if (stored := X.untyped_storage().nbytes()) > X.nbytes:
        faults.append(f"its file holds {stored:,} bytes for a tensor of {X.nbytes:,}: save X.clone()")
    return faults


def faults_of_folder(root: Path, named: set[Path], is_sample: Callable[[Path], bool]) -> list[str]:
    spare = [file for file in files_below(root) if is_sample(file) and file not in named]
    if not spare:
        return []
    kind = "image files" if is_sample is is_image else ".pt files"
    shown = ", ".join(str(file.relative_to(root)) for file in spare[:5]) + (", …" if len(spare) > 5 else "")
    return [f"no ID names {len(spare):,} of the {kind}: {shown}"]


def is_tensor(file: Path) -> bool:
    return file.suffix == ".pt"


def faults_of_classes(root: Path, labels: Mapping[str, Any] | None) -> list[str]:
    file = root / "classes.json"
    if not file.exists():
        return []
    try:
        classes = read_json(file)
    except (OSError, ValueError) as error:
        return [f"{file} cannot be read: {reason(error)}"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        return [f"{file} is no list of names"]
    if isinstance(labels, LabelArray):
        needed = int(labels.array.max()) + 1 if labels.array.dtype.kind in "iu" else 0
    else:
        needed = max((y for y in (labels or {}).values() if is_class(y)), default=-1) + 1
    if len(classes) < needed:
        return [f"{file} names {len(classes)} classes, but the labels need {needed}"]
    return []
