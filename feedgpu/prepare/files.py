"""The sources that read the user's own files: folders of images or tensors, or a table that lists them."""

import csv
import functools
import io
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
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

    With subfolders `train` and `validation` (or `val`), which then hold those of the classes, the partition
    is theirs; without, it is drawn from `seed`. Labels number the sorted names of the classes that have
    files. An ID is the file's path from `path` on, without its suffix unless another file has the same.
    `size`: (H, W), to which images are scaled. `mode`: Pillow's mode, to which they are converted. `kept_as`:
    "tensors", or "files" for images that stay as they are, for ImageDataset: an ID then keeps its suffix, and
    the dataset gets links to the files or, where the system has none, copies.

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
    classes = sorted(set(names))
    number = {name: y for y, name in enumerate(classes)}
    labels = {ID: number[name] for ID, name in zip(IDs, names, strict=True)}
    if homes:
        partition = {name: [ID for ID in IDs if ID.partition("/")[0] == home] for name, home in homes.items()}
    else:
        partition = split(labels, seed)
    files = dict(zip(IDs, inner, strict=True))
    keep = keeper(files) if kept_as == "files" else None
    return Source(partition, labels, classes, reader(files, size, mode), path, keep)


def partition_folders(path: Path) -> dict[str, str]:
    "Under which name each partition lies in `path`, if it is divided as it stands; else an empty dict"
    found = [name for name in ("train", "validation", "val") if (path / name).is_dir()]
    if not found:
        return {}
    if len(found) != 2 or "train" not in found:
        raise DatasetError(
            f"{path} has {' and '.join(found)}: it needs train and one of validation and val, or none of them"
        )
    return {"train": "train", "validation": found[1]}


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
) -> Source:
    """The files listed in a CSV file in UTF-8 with columns id, path, label and, optionally, partition.

    Paths start from the table's folder; how many lead out of it is printed. Labels that are all whole numbers
    are used as they stand, others are names: they are numbered in sorted order. The partition is train,
    validation or val; without that column it is drawn from `seed`. `size`, `mode` and
    `kept_as`: see `folder`; a file that is kept is named as its ID.

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
        elif row.get("partition", "train") not in ("train", "validation", "val"):
            wrong = f"{row['partition']!r} is no partition: say train or validation"
        if wrong:
            raise DatasetError(f"{path}, line {line}: {wrong}")
        named.append(row["path"])
        files[ID], names[ID] = path.parent / row["path"], row["label"]
        if "partition" in row:
            drawn[ID] = "train" if row["partition"] == "train" else "validation"

    if outside := [row for row in named if LEADS_OUT.search(row)]:
        more = ", …" * (len(outside) > 1)
        print(f"From outside the table's folder, {len(outside):,} files: {outside[0]!r}{more}")

    classes = None
    if all(name.isascii() and name.isdecimal() for name in names.values()):
        labels = {ID: int(name) for ID, name in names.items()}
    else:
        classes = sorted(set(names.values()))
        number = {name: y for y, name in enumerate(classes)}
        labels = {ID: number[name] for ID, name in names.items()}
    partition = split(labels, seed)
    if drawn:
        partition = {name: [ID for ID in drawn if drawn[ID] == name] for name in partition}
    keep = keeper(files) if kept_as == "files" else None
    return Source(partition, labels, classes, reader(files, size, mode), keep=keep)


def rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    "The line number and the named columns of each row of a table"
    try:
        with io.TextIOWrapper(opened(path), encoding="utf-8-sig", newline="") as stream:
            lines = csv.DictReader(stream, strict=True)
            wanted, there = ["id", "path", "label"], lines.fieldnames or []
            if missing := [column for column in wanted if column not in there]:
                raise DatasetError(
                    f"{path}, line 1: there is no column {missing[0]}; needed are {', '.join(wanted)}"
                )
            if "partition" in there:
                wanted.append("partition")
            for row in lines:
                if None in row:
                    raise DatasetError(f"{path}, line {lines.line_num}: it has more values than columns")
                yield lines.line_num, {column: (row[column] or "").strip() for column in wanted}
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
