"""Writes a dataset in the article's layout, whole or not at all.

<ID>.pt           one sample: a tensor that owns its storage, or a tuple or dict of such; or <ID>, a file that
                  was kept as it is
labels.json       {ID: target}, or null for samples without targets
classes.json      the names of the classes, if they have names
partition.json    {"train": [ID, ...], "validation": [ID, ...]}; a folder without it holds no dataset
"""

import errno
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..notation import (
    DatasetError,
    Partition,
    file_of,
    find_faults,
    one_line_a_kind,
    sentence,
    without_file,
)
from ..sample import fields, with_fields
from ..system import ctrl_c_deferred, progress
from .commit import (
    INCOMING,
    PACKING,
    SAMPLES,
    commit,
    folders_of,
    lies_in,
    listed_in,
    recover,
    sole_writer,
    suffix_of,
)


@dataclass(frozen=True)
class Source:
    """A dataset that can be written: which samples there are, and how to get each.

    `partition`: {"train": [ID, ...], "validation": [ID, ...]}, and others. `labels`: {ID: target}, where all
    targets are classes (integers from 0 up), floats, or lists of as many numbers; or None. `classes`: the
    names of the classes, or None. `read(ID)`: the sample, a dense tensor on the CPU, or a tuple or dict of
    them; raises Unreadable if it cannot be had. `origin`: a folder that is read, in which nothing may be
    written.
    `keep(ID, file)`: for samples that are files of their own kind, writes that of an ID, and raises
    Unreadable if it cannot be read; None for tensors.
    """

    partition: dict[str, list[str]]
    labels: Mapping[str, Any] | None
    classes: list[str] | None
    read: Callable[[str], Any]
    origin: Path | None = None
    keep: Callable[[str, Path], None] | None = None

    @property
    def suffix(self) -> str:
        "Of its samples' files in the dataset"
        return ".pt" if self.keep is None else ""


T = TypeVar("T")


class Unreadable(DatasetError):
    "One sample cannot be had from its source; others may be. `what`: the reason, without the file's name"

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what or message


def write(
    source: Source, root: str | Path = "data", force: bool = False, skip_unreadable: bool = False
) -> tuple[Partition, dict[str, Any] | None]:
    """Writes `source` into the folder `root` and returns `(partition, labels)` as written.

    `force`: overwrite the dataset that is there, and files in the way. `skip_unreadable`: leave out the
    samples that cannot be read, while the others keep their partition. Other files in the folder stay. One
    sample at a time is in memory.

    Raises DatasetError, and then leaves the folder as it was, if there is something to overwrite, if the
    source does not make a dataset, if samples cannot be read (naming all of them), if another process is
    writing there, or if the disk is full or refuses.
    """
    root = Path(root)

    def staged() -> tuple[Partition, dict[str, Any] | None]:
        refuse_unfit(source, root, force)
        return stage(source, root, skip_unreadable)

    return replaced(root, source.origin, staged)


def replaced(root: Path, origin: Path | None, stage: Callable[[], T]) -> T:
    """Puts what `stage` writes into `root/.incoming` in the place of the dataset in `root`, whole or not at
    all, and returns what it returned. `origin`: a folder that is read, in which nothing may be written."""
    if origin and root.resolve().is_relative_to(origin.resolve()):
        raise DatasetError(f"{root} lies in {origin}, which is to be read: choose another --data")
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root} is a file: choose a folder with --data")
    try:
        with sole_writer(root):
            recover(root)
            try:
                written = stage()
                with ctrl_c_deferred():
                    commit(root)
            finally:
                recover(root)
    except OSError as error:
        advice = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = ": free some space, or choose another folder with --data"
            if (root / "partition.json").exists():
                advice += "; the dataset that was there is untouched"
        raise DatasetError(
            f"{error.filename or root} cannot be written, {error.strerror or error}{advice}"
        ) from error
    return written


def refuse_unfit(source: Source, root: Path, force: bool) -> None:
    "Raises DatasetError for what can be known to go wrong before a sample is read"
    refuse_empty(source.partition, source.labels)
    IDs = [ID for IDs in source.partition.values() for ID in IDs]
    files = [file_of(ID, root, source.suffix) for ID in IDs]
    counts = Counter(files)
    if twice := [ID for ID, file in zip(IDs, files, strict=True) if counts[file] > 1]:
        raise DatasetError(sentence("whose file has more than one ID, or whose ID is listed twice", twice))

    lists = {root / name for name in ("labels.json", "classes.json", "partition.json")}
    if clash := [ID for ID, file in zip(IDs, files, strict=True) if file in lists]:
        raise DatasetError(sentence("whose file would have the name of a list of the dataset", clash))

    folders = folders_of(files, root)
    names = INCOMING, PACKING, "packed"
    taken = {root / name for name in names}
    astray = {folder for folder in folders if taken & {folder, *folder.parents}}
    astray |= {folder for folder in folders if not lies_in(folder, root)}
    if outside := [ID for ID, file in zip(IDs, files, strict=True) if file.parent in astray]:
        raise DatasetError(
            sentence(
                f"behind a link that leads out of {root}, or in {', '.join(names)}, where feedgpu writes",
                outside,
            )
        )

    absent = set(without_file(IDs, root, source.suffix))
    there = [file for ID, file in zip(IDs, files, strict=True) if ID not in absent]
    if blocked := [file for file in there if file.is_dir()]:
        raise DatasetError(f"{blocked[0]} is a folder where a sample is to be written: move it away")
    old_IDs = listed_in(root / "partition.json")
    suffix = suffix_of(root, old_IDs)
    old = {file_of(ID, root, suffix) for ID in old_IDs}
    if in_the_way := sorted(
        folder for folder in folders - old if os.path.lexists(folder) and not folder.is_dir()
    ):
        raise DatasetError(f"{in_the_way[0]} is a file where a folder of samples is to be: move it away")
    if not force:
        refuse_overwriting(root, there)


def refuse_overwriting(root: Path, there: list[Path]) -> None:
    "Raises DatasetError if a dataset is there, or files that would be overwritten: `there`, and the lists"
    if (root / "partition.json").exists():
        raise DatasetError(f"{root} holds a dataset: overwrite it with --force, or choose another --data")
    there = there + [root / name for name in ("labels.json", "classes.json") if (root / name).exists()]
    if there:
        raise DatasetError(
            f"{there[0]} would be overwritten and belongs to no dataset ({len(there):,} such files): "
            "move it away, overwrite it with --force, or choose another --data"
        )


def refuse_empty(partition: Partition, labels: object) -> None:
    if labels is None and partition:
        needed = list(partition)  # samples without targets need not be divided
    else:
        needed = ["train", "validation"]
    for name in needed:
        if not partition.get(name):
            raise DatasetError(
                f"there is no sample for {name!r}, and a dataset needs some to train and some to validate"
                " (a class with a single sample gives it to training)"
            )


def stage(source: Source, root: Path, skip_unreadable: bool) -> tuple[Partition, dict[str, Any] | None]:
    "Writes everything into `root/.incoming`, partition.json last; returns the partition and the labels"
    incoming = root / INCOMING
    incoming.mkdir()
    old = suffix_of(root, listed_in(root / "partition.json"))
    write_json({"new": source.suffix, "old": old}, incoming / "suffixes.json")
    unreadable: dict[str, Unreadable] = {}
    IDs = [ID for IDs in source.partition.values() for ID in IDs]
    with one_thread():
        for ID in progress(IDs, "Writing", unit=" samples", leave=True):
            file = file_of(ID, incoming / SAMPLES, source.suffix)
            in_vain = unreadable and not skip_unreadable  # but the others are to be named too
            if file.exists():  # which nobody but another ID can have written here
                raise DatasetError(one_file(ID, IDs, incoming / SAMPLES, source.suffix))
            try:
                if source.keep is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    source.keep(ID, file)
                elif not in_vain:
                    save(source.read(ID), file)
                else:
                    source.read(ID)
            except Unreadable as error:
                unreadable[ID] = error
    if unreadable and not skip_unreadable:
        raise DatasetError(
            f"{len(unreadable):,} of {len(IDs):,} samples cannot be read, so none was written: repair these, "
            "or leave them out with --skip-unreadable\n"
            + "\n".join(one_line_a_kind((ID, error.what, str(error)) for ID, error in unreadable.items()))
        )
    partition = {name: [ID for ID in IDs if ID not in unreadable] for name, IDs in source.partition.items()}
    refuse_empty(partition, source.labels)
    labels = source.labels
    if labels is not None:
        labels = {ID: y for ID, y in labels.items() if ID not in unreadable}
    for fault in find_faults(partition, labels, incoming / SAMPLES, source.suffix):
        raise DatasetError(sentence(*fault))
    write_json(None if labels is None else dict(labels), incoming / "labels.json")
    if source.classes is not None:
        write_json(source.classes, incoming / "classes.json")
    write_json(partition, incoming / "partition.json")
    return partition, labels


def one_file(ID: str, IDs: list[str], root: Path, suffix: str) -> str:
    "Of an ID whose file another ID has written: on some disks `A` and `a` are one name"
    files = {other: file_of(other, root, suffix) for other in IDs if other != ID}
    own = file_of(ID, root, suffix)
    same = [other for other, file in files.items() if file.exists() and file.samefile(own)]
    return sentence("with one and the same file, as this disk does not tell their names apart", [*same, ID])


@contextmanager
def one_thread() -> Iterator[None]:
    "For work in small pieces: on a busy machine torch's threads wait for each other longer than they work"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def save(X: Any, file: Path) -> None:
    """torch.save, of a copy: with a view it would write the whole storage that it is a view of.

    By way of memory, because an error of Python's own writing says what is wrong with the disk.
    """
    buffer = io.BytesIO()
    kept = torch.contiguous_format
    torch.save(with_fields(X, [one.detach().clone(memory_format=kept) for one in fields(X).values()]), buffer)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(buffer.getbuffer())


def write_json(value: object, file: Path) -> None:
    "In one step: under its own name the file is there whole, or not at all"
    part = file.with_suffix(".part")
    with open(part, "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, file)
