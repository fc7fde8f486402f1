"""What was found at a path: samples in blocks, and how their parts are named."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..notation import DatasetError, Shortage
from ..outside import reason, wanting
from ..rooms import MissingExtra
from .folders import PARTITION_OF
from .written import Block

SAMPLES = ("x", "images", "image", "img", "data", "inputs", "features", "samples", "arr_0")
TARGETS = ("y", "labels", "label", "targets", "target", "arr_1")
EARLY = re.compile("truncated|unexpected end|footer|end-of-stream|ends early, within")  # as libraries say it
BYTES = 2**22  # of a block, about


@dataclass
class Found:
    "`blocks`: the samples. `total`: their number, if known. `said`: what is taken for what, in words"

    blocks: Iterator[Block]
    total: int | None
    said: str
    classes: list[str] | None = None


@dataclass
class Chosen:
    "Of one partition (None: it is to be drawn) the names of the samples' fields, and that of the targets"

    part: str | None
    x: dict[str, str]  # the name of a field -> the full name in the source
    y: str | None


@contextmanager
def read_from(path: Path | str) -> Iterator[None]:
    "Turns what the libraries raise over a file from outside into a DatasetError; they raise all kinds"
    try:
        yield
    except (DatasetError, MissingExtra):
        raise
    except Exception as error:
        if what := wanting(error):
            raise Shortage(f"{path} could not be read for want of {what}") from error
        early = "; it seems to end early: copy it again" * bool(EARLY.search(str(error)))
        raise DatasetError(f"{path} cannot be read: {reason(error)}{early}") from error


def choose(path: Path, there: Mapping[str, str], x: list[str] | None, y: str | None) -> list[Chosen]:
    """Which arrays or columns are the samples and which the targets, in each partition that names tell.

    `there`: {name: what it is in words}. `x`, `y`: what the user says. A name such as x_train, train_images
    or train/x belongs to a partition, if all that are asked for do.
    """
    shown = words(there)
    if absent := [name for name in [*(x or []), *([y] if y else [])] if not any_named(name, there)]:
        raise DatasetError(f"{path} has no {absent[0]!r}; it has {shown}")
    plain = [name for name in there if name in (x or [])]
    groups: dict[str | None, dict[str, str]] = {}
    if not plain:
        for name in there:
            part, base = parted(name)
            if part:
                groups.setdefault(part, {})[base] = name
    if not groups:
        groups = {None: {name: name for name in there}}
    elif y is not None and y in there:  # of one partition: meant is that of each
        y = parted(y)[1]
    return [chosen_of(path, part, names, x, y, shown) for part, names in groups.items()]


def words(there: Mapping[str, str]) -> str:
    "What a source has"
    return ", ".join(f"{name} ({what})" for name, what in there.items()) or "nothing that could be read"


def any_named(name: str, there: Mapping[str, str]) -> bool:
    return name in there or any(parted(other)[1] == name for other in there)


def parted(name: str) -> tuple[str | None, str]:
    "x_train, train-x, train/x: ('train', 'x')"
    for pattern in (r"([^/_-]+)[/_-](.+)", r"(.+)[/_-]([^/_-]+)"):
        if (found := re.fullmatch(pattern, name)) and pattern.startswith("([^"):
            part, base = found[1], found[2]
        elif found:
            base, part = found[1], found[2]
        else:
            continue
        if part.lower() in PARTITION_OF:
            return PARTITION_OF[part.lower()], base
    return None, name


def chosen_of(
    path: Path, part: str | None, names: dict[str, str], x: list[str] | None, y: str | None, shown: str
) -> Chosen:
    lower = {base.lower(): base for base in reversed(names)}
    if y is None:
        usual = [lower[name] for name in TARGETS if name in lower and lower[name] not in (x or [])]
        y = usual[0] if usual else None
    if x is None:
        usual = [lower[name] for name in SAMPLES if name in lower]
        others = [base for base in names if base != y]
        x = usual[:1] or (others if len(others) == 1 else None)
    if x is None or any(name not in names for name in x):
        of = f" for {part}" if part else ""
        raise DatasetError(
            f"{path} has {shown}: say which are the samples{of} with --x NAME, and the targets with --y NAME"
        )
    if y is not None and y not in names:
        raise DatasetError(f"{path} has {shown}: there are no targets {y!r} for {part}")
    return Chosen(part, {base: names[base] for base in x}, names[y] if y is not None else None)


def unused(there: Iterable[str], used: Iterable[str]) -> str:
    "Which arrays or columns of a source are not used, in words; empty if all are"
    left = [name for name in there if name not in {*used}]
    return f"; not used: {', '.join(left[:10])}{', …' * (len(left) > 10)}" if left else ""


def said_of(chosen: list[Chosen]) -> str:
    "In words, what is taken for what"
    lines = []
    for one in chosen:
        of = f"{one.part}: " if one.part else ""
        y = f"targets from {one.y}" if one.y else "no targets"
        lines.append(f"{of}samples from {', '.join(one.x.values())}, {y}")
    return "; ".join(lines)


def part_of_file(file: Path) -> str | None:
    "The partition that a file's name begins with: train-00000-of-00002.parquet, val.tar"
    return PARTITION_OF.get(re.split(r"[-_.]", file.name.lower())[0])


def parts_of_files(files: list[Path]) -> dict[Path, str | None]:
    "The partition of each file, if all have one in their names"
    parts = {file: part_of_file(file) for file in files}
    return parts if all(parts.values()) else dict.fromkeys(files)


def rows_at_once(bytes_of_a_row: float) -> int:
    return int(max(1, min(2**16, BYTES // max(1, bytes_of_a_row))))


def field_values(of: dict[str, Any]) -> Any:
    "One field is the sample itself, several are a dict"
    return next(iter(of.values())) if len(of) == 1 else of
