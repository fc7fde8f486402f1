"""The source that reads a table: the files it lists, their targets and the partition they are in."""

import csv
import io
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from ..notation import LEADS_OUT, DatasetError
from ..outside import opened, reason
from .files import is_readable_kind, keeper, reader
from .folders import PARTITION_OF, class_order
from .layout import Source
from .sources import split


def table(
    path: str | Path,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    seed: int = 0,
    kept_as: str = "tensors",
    target: str = "class",
) -> Source:
    """The files listed in a CSV file in UTF-8 with columns id, path, label and, optionally, partition.

    Columns are told apart by commas, semicolons or tabs, and named in capital letters or small ones; those
    that are not used are printed. Without `id` an ID is the path. Paths start from the table's folder; how
    many lead out of it is printed. The partition may also be called split, set or fold, and has the usual
    names (SPLITS), or is_valid, with yes and no; without such a column it is drawn from `seed`.

    `target`: "class": labels that are all whole numbers, also as 2.0, are used as they stand, others are
    names: they are numbered in sorted order. "number": numbers. "several": names with | between them, which
    become a list of 0 and 1, one for each name in sorted order; or numbers with | between them. `size`,
    `mode` and `kept_as`: see `folder`; a file that is kept is named as its ID.

    Raises DatasetError, naming the line, for a value that is missing or wrong.
    """
    path = Path(path)
    files, names, drawn, named = {}, {}, {}, []
    for line, row in rows(path):
        ID = row["id"]
        wrong = None
        if empty := [column for column, value in row.items() if not value]:
            wrong = f"it has no {empty[0]}"
        elif LEADS_OUT.search(ID):
            wrong = f"{ID!r} is no ID, which names a file inside the folder of the dataset, without .."
        elif ID in files:
            wrong = f"{ID!r} was the ID of a line before: an ID names one sample"
        elif not is_readable_kind(Path(row["path"])):
            wrong = f"{row['path']!r} is neither an image nor .npy nor .pt"
        elif row.get("partition", "train").lower() not in PARTITION_OF:
            wrong = f"{row['partition']!r} is no partition: say train, validation or test"
        if wrong:
            raise DatasetError(f"{path}, line {line}: {wrong}")
        named.append(row["path"])
        files[ID], names[ID] = path.parent / row["path"], row["label"]
        if "partition" in row:
            drawn[ID] = PARTITION_OF[row["partition"].lower()]

    if outside := [row for row in named if LEADS_OUT.search(row)]:
        more = ", …" * (len(outside) > 1)
        print(f"From outside the table's folder, {len(outside):,} files: {outside[0]!r}{more}")

    labels, classes = targets_of(names, target, path)
    groups = labels if classes is not None or target == "class" else dict.fromkeys(labels, 0)
    partition = split({ID: y if isinstance(y, int) else 0 for ID, y in groups.items()}, seed)
    if drawn:
        there = ["train", "validation", *["test"] * ("test" in drawn.values())]
        partition = {name: [ID for ID in drawn if drawn[ID] == name] for name in there}
    keep = keeper(files) if kept_as == "files" else None
    return Source(partition, labels, classes, reader(files, size, mode), keep=keep)


def targets_of(names: dict[str, str], target: str, path: Path) -> tuple[dict[str, Any], list[str] | None]:
    "The targets that stand in a table's column, and the names of the classes if they have names"
    if target == "number":
        return {ID: number_in(name, ID, path) for ID, name in names.items()}, None
    if target == "several":
        parts = {ID: [part.strip() for part in name.split("|") if part.strip()] for ID, name in names.items()}
        if all(is_number(part) for of in parts.values() for part in of):
            return {ID: [number_in(part, ID, path) for part in of] for ID, of in parts.items()}, None
        classes = sorted({part for of in parts.values() for part in of}, key=class_order)
        return {ID: [int(one in of) for one in classes] for ID, of in parts.items()}, classes
    if all(name.isascii() and name.isdecimal() for name in names.values()):
        return {ID: int(name) for ID, name in names.items()}, None
    if all(map(is_number, names.values())):
        if all(float(name).is_integer() and float(name) >= 0 for name in names.values()):
            return {ID: int(float(name)) for ID, name in names.items()}, None
        odd = next(name for name in names.values() if not float(name).is_integer() or float(name) < 0)
        raise DatasetError(
            f"{path}: the labels are numbers, such as {odd}: say --target number to learn them as they are "
            "(classes are whole numbers from 0 up, or names)"
        )
    classes = sorted(set(names.values()), key=class_order)
    number = {name: y for y, name in enumerate(classes)}
    return {ID: number[name] for ID, name in names.items()}, classes


def is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def number_in(text: str, ID: str, path: Path) -> float:
    if not is_number(text):
        raise DatasetError(f"{path}: the target of {ID!r} is {text!r}, which is no number")
    return float(text)


# How columns are called, in small letters
PARTITION_COLUMNS = ("partition", "split", "set", "fold", "is_valid")
YES, NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")


def rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    "The line number of each row of a table, and its id, path, label and, if there is one, partition"
    try:
        with io.TextIOWrapper(opened(path), encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            by = max(",;\t", key=first.count) if first else ","
            lines = csv.DictReader(stream, strict=True, delimiter=by, skipinitialspace=True)
            there = {name.strip().lower(): name for name in reversed(lines.fieldnames or [])}
            if missing := [column for column in ("path", "label") if column not in there]:
                raise DatasetError(
                    f"{path}, line 1: there is no column {missing[0]}; needed are path and label, besides id "
                    f"and partition; there are {', '.join(map(repr, lines.fieldnames or [])) or 'none'}"
                )
            columns = {"id": there.get("id", there["path"])} | {
                name: there[name] for name in ("path", "label")
            }
            parted = next((name for name in PARTITION_COLUMNS if name in there), None)
            if parted:
                columns["partition"] = there[parted]
            if unused := [name for name in lines.fieldnames or [] if name not in columns.values()]:
                print(f"Columns of {path} that are not used: {', '.join(unused)}")
            for row in lines:
                if None in row:
                    raise DatasetError(f"{path}, line {lines.line_num}: it has more values than columns")
                found = {column: (row[name] or "").strip() for column, name in columns.items()}
                if parted == "is_valid" and found["partition"]:
                    said = found["partition"].lower()
                    found["partition"] = "validation" if said in YES else "train" if said in NO else said
                yield lines.line_num, found
    except csv.Error as error:
        raise DatasetError(f"{path}, line {lines.reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not written in UTF-8: save it as CSV UTF-8") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {reason(error)}") from error
