"""Sources with a record for each value of a sample: tar shards, as WebDataset writes them, and LMDB."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..notation import DatasetError
from ..outside import ARRAY, opened
from ..rooms import missing
from .files import image_suffixes, sample_in
from .found import TARGETS, Found, field_values, parts_of_files, read_from, unused
from .written import Block

Size = tuple[int, int] | None
Record = tuple[str, dict[str, bytes]]  # the ID of a sample, and {ending: bytes}
CLASS, TEXT, JSON = ("cls", "cls2", "label"), ("txt", "text"), ("json",)


class Endings:
    """How the records of a sample become X and y: told by the endings of the first sample's names.

    A name is <ID>.<ending>: the ending begins at the first dot of its last part, as WebDataset has it.
    """

    def __init__(self, path: Path, x: list[str] | None, y: str | None, first: Record) -> None:
        ID, values = first
        there = ", ".join(values)
        if absent := [name for name in [*(x or []), *([y] if y else [])] if name not in values]:
            raise DatasetError(f"{path}: sample {ID!r} has no {absent[0]!r}; it has {there}")
        images = {suffix[1:] for suffix in image_suffixes()} | {"npy", "pt", "pth", ""}
        given = x is not None
        if x is None:
            x = [name for name in values if name.lower() in images and name != y]
        if y is None:
            known = {*CLASS, *TARGETS}
            y = next((name for name in values if name.lower() in known and name not in x), None)
        if len(x) != 1 and not given:
            raise DatasetError(
                f"{path}: sample {ID!r} has {there}: say which are the samples with --x NAME, and the "
                "targets with --y NAME"
            )
        self.path, self.x, self.y, self.there = path, x, y, list(values)

    @property
    def said(self) -> str:
        x = ", ".join(name or "the values" for name in self.x)
        y = f"targets from {self.y}" if self.y else "no targets"
        return f"samples from {x}, {y}{unused(self.there, [*self.x, *([self.y] if self.y else [])])}"

    def sample(self, record: Record, size: Size, mode: str | None) -> tuple[Any, ...]:
        "(ID, X) or (ID, X, y)"
        ID, values = record
        for name in [*self.x, *([self.y] if self.y else [])]:
            if name not in values:
                raise DatasetError(f"{self.path}: sample {ID!r} has no {name!r}, as others have")
        with read_from(f"{self.path}, sample {ID!r}"):
            X = field_values({name: sample_in(values[name], size, mode) for name in self.x})
            if self.y is None:
                return ID, X
            return ID, X, target_in(self.y, values[self.y])


def target_in(ending: str, data: bytes) -> Any:
    "What a record says as a target: a number, a list of numbers, or a name"
    if data.startswith(ARRAY):
        return sample_in(data, None, None)
    text = data.decode("utf-8").strip()
    try:
        return json.loads(text)
    except ValueError:
        return text


def tars(path: Path, x: list[str] | None, y: str | None, size: Size, mode: str | None) -> Found:
    "The samples in a .tar, or in a folder of such shards"
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*.tar*") if file.is_file())
    parts = parts_of_files(files) if len(files) > 1 else dict.fromkeys(files)
    first = next(iter(records_of(files[0])), None)
    if first is None:
        raise DatasetError(f"{files[0]} holds no file with an ending, such as 17.jpg")
    endings = Endings(files[0], x, y, first)

    def blocks() -> Iterator[Any]:
        for file in files:
            endings.path = file
            shard = f"{file.name.partition('.')[0]}/" if len(files) > 1 else ""
            for ID, values in records_of(file):
                ID, *rest = endings.sample((ID, values), size, mode)
                yield (
                    (f"{shard}{ID}", *rest)
                    if parts[file] is None
                    else in_part(parts[file], f"{shard}{ID}", rest)
                )

    return Found(blocks(), None, endings.said)


def in_part(part: str | None, ID: str, rest: list[Any]) -> Block:
    return Block([ID], [rest[0]], [rest[1]] if len(rest) == 2 else None, part)


def records_of(file: Path) -> Iterator[Record]:
    "The files of a tar archive, those of one ID together. Raises DatasetError if it ends early."
    with read_from(file), opened(file) as stream, tarfile.open(fileobj=stream, mode="r:*") as archive:
        ID = ""
        values: dict[str, bytes] = {}
        for member in archive:
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            if not member.isfile() or name.startswith("."):
                continue
            base, _, ending = name.partition(".")
            here = f"{folder}/{base}" if folder else base
            if here != ID and values:
                yield ID, values
                values = {}
            ID = here
            content = archive.extractfile(member)
            assert content is not None
            values[ending] = content.read()
            if len(values[ending]) < member.size:
                raise ValueError(f"it ends early, within {member.name}")
        if values:
            yield ID, values
        # At the end tarfile is content with nothing; an archive has zeros there
        archive.fileobj.seek(archive.offset)  # type: ignore[union-attr]
        if archive.fileobj.read(512) != bytes(512):  # type: ignore[union-attr]
            raise ValueError(f"it ends early, after {ID!r}: copy it again")


def lmdb(path: Path, x: list[str] | None, y: str | None, size: Size, mode: str | None) -> Found:
    "The samples in an LMDB: <ID> or <ID>.<ending> -> an image, .npy or .pt, or a target"
    try:
        import lmdb as library
    except ImportError as error:
        raise missing(f"{path}, an LMDB,", "lmdb", "sources") from error

    def records() -> Iterator[Record]:
        with (
            read_from(path),
            library.open(
                str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
            ) as database,
            database.begin(buffers=False) as transaction,
        ):
            ID = ""
            values: dict[str, bytes] = {}
            for key, value in transaction.cursor():
                name = key.decode("utf-8", "surrogateescape")
                folder, _, last = name.rpartition("/")
                base, _, ending = last.partition(".")
                here = f"{folder}/{base}" if folder else base
                if here != ID and values:
                    yield ID, values
                    values = {}
                ID, values[ending] = here, value
            if values:
                yield ID, values

    with read_from(path):
        database = library.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)
        entries = database.stat()["entries"]
        database.close()
    first = next(iter(records()), None)
    if first is None:
        raise DatasetError(f"{path} has no entry")
    endings = Endings(path, x, y, first)

    def blocks() -> Iterator[Any]:
        for record in records():
            try:
                yield endings.sample(record, size, mode)
            except DatasetError as error:
                raise DatasetError(
                    f"{error}. Keys are taken as <ID> or <ID>.<ending>, values as images, .npy or .pt: for "
                    "another layout write a loop of your own, and pack_samples"
                ) from error

    return Found(blocks(), entries // len(first[1]), endings.said)
