"""The sources that read the user's own files: folders of images or tensors, or a table that lists them."""

import csv
import functools
import io
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from ..notation import LEADS_OUT, DatasetError, Shortage
from ..outside import opened, read_array, read_bytes, reason, wanting
from ..rooms import MissingExtra
from ..sample import describe, read_sample
from .layout import Source, Unreadable
from .sources import pixels, split

LAYOUT = "PATH/<class>/…, or PATH/train/<class>/… with PATH/validation/<class>/…"


def folder(
    path: str | Path,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    seed: int = 0,
    kept_as: str = "tensors",
) -> Source:
    """The files below `path`, one subfolder a class: images, `.npy` and `.pt`.

    With subfolders `train` and `validation`, which then hold those of the classes, the partition is theirs,
    and so is a third one, `test`; without, it is drawn from `seed`. Other usual names of them are known, too
    (SPLITS). Labels number the sorted names of the classes that have files, numbers as numbers. An ID is the
    file's path from `path` on, without its suffix unless another file has the same. `size`: (H, W), to which
    images are scaled. `mode`: Pillow's mode, to which they are converted. `kept_as`: "tensors", or "files"
    for images that stay as they are, for ImageDataset: an ID then keeps its suffix, and the dataset gets
    links to the files or, where the system has none, copies.

    Raises DatasetError if the folders are not of this form, and, when read, if samples are not alike. Prints
    how many other files there are.
    """
    path = Path(path)
    if not path.is_dir():
        raise DatasetError(f"there is no folder {path}: say where the class folders are")
    homes = partition_folders(path)
    inner: list[Path] = []
    others: list[Path] = []
    for file in files_below(path):
        parts = file.relative_to(path).parts
        inside = len(parts) > 2 and parts[0] in homes.values() if homes else len(parts) > 1
        (inner if inside and is_readable_kind(file) else others).append(file)
    if not inner:
        raise DatasetError(f"{path} has no images, .npy or .pt files in class folders: it should be {LAYOUT}")
    if others:
        first = ", ".join(repr(file.relative_to(path).as_posix()) for file in others[:3])
        print(f"Not part of the dataset, {len(others):,} other files: {first}{', …' * (len(others) > 3)}")

    relative = [file.relative_to(path) for file in inner]
    IDs = unique_names(relative) if kept_as == "tensors" else [file.as_posix() for file in relative]
    names = [file.parts[1 if homes else 0] for file in relative]
    classes = sorted(set(names), key=class_order)
    refuse_one_class(path, classes, relative, 1 if homes else 0)
    number = {name: y for y, name in enumerate(classes)}
    labels = {ID: number[name] for ID, name in zip(IDs, names, strict=True)}
    if homes:
        partition = {name: [ID for ID in IDs if ID.partition("/")[0] == home] for name, home in homes.items()}
    else:
        partition = split(labels, seed)
    files = dict(zip(IDs, inner, strict=True))
    keep = keeper(files) if kept_as == "files" else None
    return Source(partition, labels, classes, reader(files, size, mode), path, keep)


SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
PARTITION_OF = {usual: name for name, usuals in SPLITS.items() for usual in usuals}


def partition_folders(path: Path) -> dict[str, str]:
    """Under which name each partition lies in `path`, if it is divided as it stands; else an empty dict.

    Their usual names are known, in capital letters or small ones: see SPLITS.
    """
    found: dict[str, list[str]] = {}
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and (name := PARTITION_OF.get(entry.name.lower())):
            found.setdefault(name, []).append(entry.name)
    if not found:
        return {}
    if missing := [name for name in ("train", "validation") if len(found.get(name, [])) != 1]:
        there = " and ".join(home for homes in found.values() for home in homes)
        names = ", ".join(SPLITS[missing[0]])
        raise DatasetError(
            f"{path} has {there}: it needs one folder for {missing[0]} ({names}), or none of train and "
            "validation, to have them drawn"
        )
    if len(found.get("test", [])) > 1:
        raise DatasetError(f"{path} has {' and '.join(found['test'])}: one of them is enough")
    return {name: found[name][0] for name in SPLITS if name in found}


def class_order(name: str) -> tuple[Any, ...]:
    "Numbers come in their order, before other names: 2 before 10"
    return (0, int(name), name) if name.isascii() and name.isdecimal() else (1, name)


def refuse_one_class(path: Path, classes: list[str], relative: list[Path], depth: int) -> None:
    "Raises DatasetError if all is in one class folder that holds folders: they are most likely the classes"
    inner = sorted({file.parts[depth + 1] for file in relative if len(file.parts) > depth + 2})
    if len(classes) == 1 and inner:
        shown = ", ".join(inner[:5]) + ", …" * (len(inner) > 5)
        raise DatasetError(
            f"{path} has one class folder, {classes[0]}, which holds the folders {shown}: if these are the "
            f"classes, say {path / classes[0]}"
        )


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and below it, sorted; links are followed, hidden files and folders left out.

    Raises DatasetError for a folder that is met twice: folders that link to each other would have no end.
    """
    yield from walk(folder, (), {})


def walk(folder: Path, above: tuple[Path, ...], seen: dict[Path, Path]) -> Iterator[Path]:
    here = folder.resolve()
    if here in above:  # a link back to where we came from
        return
    if here in seen:
        raise DatasetError(f"{folder} and {seen[here]} are one folder: take one of the two away")
    seen[here] = folder
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walk(entry, (*above, here), seen)
        else:
            yield entry


def unique_names(files: list[Path]) -> list[str]:
    "The files' paths without suffix, as IDs; those that would be equal keep theirs"
    full = [file.as_posix() for file in files]
    IDs = [file.with_suffix("").as_posix() for file in files]
    # Again, because a.jpg and a.png, told apart, may now collide with a.jpg.png
    while len(counts := Counter(IDs)) < len(IDs):
        IDs = [name if counts[ID] > 1 else ID for ID, name in zip(IDs, full, strict=True)]
    return IDs


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


def reader(files: dict[str, Path], size: tuple[int, int] | None, mode: str | None) -> Callable[[str], Any]:
    """A function that reads the file of an ID.

    It raises Unreadable for a file that cannot be read, and DatasetError for one that is not like the first.
    """
    first = None

    def read(ID: str) -> Any:
        nonlocal first
        file = files[ID]
        try:
            # What matters raises; warnings would tear the progress bar
            with warnings.catch_warnings(action="ignore"):
                X = read_file(file, size, mode)
        except MissingExtra:
            raise
        except Exception as error:  # the decoders raise all kinds
            raise unreadable(file, error) from error
        first = first or (file, describe(X))
        if describe(X) != first[1]:
            raise DatasetError(
                f"samples must be alike, but {first[0]} is {first[1]} and {file} is {describe(X)}: "
                "for images, say --size H W or --mode RGB"
            )
        return X

    return read


def unreadable(file: Path, error: Exception) -> DatasetError:
    "What to raise for a file that could not be read: is it the file's fault, or was something wanting?"
    if what := wanting(error):
        return Shortage(f"{file} could not be read for want of {what}")
    return Unreadable(f"{file}: {reason(error)}")


def keeper(files: dict[str, Path]) -> Callable[[str, Path], None]:
    "A function that puts the image file of an ID where it is to be, once it has been decoded to the end"

    def keep(ID: str, target: Path) -> None:
        file = files[ID]
        try:
            with warnings.catch_warnings(action="ignore"):
                decode_whole(file)
        except MissingExtra:
            raise
        except Exception as error:  # the decoders raise all kinds
            raise unreadable(file, error) from error
        try:
            os.link(file.resolve(), target)
        except OSError:  # on another disk, or not allowed
            with opened(file) as original, open(target, "xb") as copy:
                shutil.copyfileobj(original, copy)

    return keep


def decode_whole(file: Path) -> torch.Tensor:
    "An image file as ImageDataset sees it, in full size: uint8, 3×H×W. Raises what the decoders raise."
    from ..decode import decoder_of  # which needs Pillow

    _, _, decode = decoder_of(read_bytes(file))
    return torch.from_numpy(decode(1)).permute(2, 0, 1)


def read_file(file: Path, size: tuple[int, int] | None, mode: str | None) -> Any:
    "The sample in a file; an image becomes uint8, C×H×W"
    suffix = file.suffix.lower()
    if suffix == ".npy":
        array = read_array(file)
        # torch takes no other byte order than the machine's own
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    if suffix == ".pt":
        return read_sample(file)
    return read_image(file, size, mode)


def read_image(file: Path, size: tuple[int, int] | None, mode: str | None) -> torch.Tensor:
    "An image as it is looked at: turned as its camera says, with colours in place of a palette's numbers"
    from ..decode import Image, as_seen, open_image  # which need Pillow

    image = as_seen(open_image(read_bytes(file)))
    image = image.convert(mode or {"1": "L", "P": "RGB", "PA": "RGBA"}.get(image.mode, image.mode))
    if size:
        height, width = size
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return pixels(image)


def is_readable_kind(file: Path) -> bool:
    return file.suffix.lower() in {".npy", ".pt"} or is_image(file)


def is_image(file: Path) -> bool:
    return file.suffix.lower() in image_suffixes()


@functools.cache
def image_suffixes() -> set[str]:
    "Those that Pillow can read; without Pillow the commonest, so that whoever has such files is told of it"
    try:
        from PIL import Image
    except ImportError:
        return {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
