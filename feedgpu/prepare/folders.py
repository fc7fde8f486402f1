"""The source that reads folders of images or tensors, one subfolder a class."""

from collections import Counter
from pathlib import Path
from typing import Any

from ..notation import DatasetError
from .files import files_below, is_readable_kind, keeper, reader
from .layout import Source
from .sources import split

LAYOUT = "PATH/<class>/…, or PATH/train/<class>/… with PATH/validation/<class>/…"


def folder(
    path: str | Path,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    seed: int = 0,
    kept_as: str = "tensors",
    target: str = "class",
) -> Source:
    """The files below `path`, one subfolder a class: images, `.npy` and `.pt`.

    With subfolders `train` and `validation`, which then hold those of the classes, the partition is theirs,
    and so is a third one, `test`; without, it is drawn from `seed`. Other usual names of them are known, too
    (SPLITS). Labels number the sorted names of the classes that have files, numbers as numbers. An ID is the
    file's path from `path` on, without its suffix unless another file has the same. `size`: (H, W), to which
    images are scaled. `mode`: Pillow's mode, to which they are converted. `kept_as`: "tensors", or "files"
    for images that stay as they are, for ImageDataset: an ID then keeps its suffix, and the dataset gets
    links to the files or, where the system has none, copies. `target`: "class", or "none" for samples without
    targets, whose files may lie in any subfolder or in none; if they are not divided, all are in the
    partition "predict".

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
        depth = len(parts) + (target == "none")
        inside = depth > 2 and parts[0] in homes.values() if homes else depth > 1
        (inner if inside and is_readable_kind(file) else others).append(file)
    if not inner:
        raise DatasetError(f"{path} has no images, .npy or .pt files in class folders: it should be {LAYOUT}")
    if others:
        first = ", ".join(repr(file.relative_to(path).as_posix()) for file in others[:3])
        print(f"Not part of the dataset, {len(others):,} other files: {first}{', …' * (len(others) > 3)}")

    relative = [file.relative_to(path) for file in inner]
    IDs = unique_names(relative) if kept_as == "tensors" else [file.as_posix() for file in relative]
    files = dict(zip(IDs, inner, strict=True))
    keep = keeper(files) if kept_as == "files" else None
    read = reader(files, size, mode)
    divided = {name: [ID for ID in IDs if ID.partition("/")[0] == home] for name, home in homes.items()}
    if target == "none":
        return Source(divided or {"predict": IDs}, None, None, read, path, keep)
    names = [file.parts[1 if homes else 0] for file in relative]
    classes = sorted(set(names), key=class_order)
    refuse_one_class(path, classes, relative, 1 if homes else 0)
    number = {name: y for y, name in enumerate(classes)}
    labels = {ID: number[name] for ID, name in zip(IDs, names, strict=True)}
    return Source(divided or split(labels, seed), labels, classes, read, path, keep)


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


def unique_names(files: list[Path]) -> list[str]:
    "The files' paths without suffix, as IDs; those that would be equal keep theirs"
    full = [file.as_posix() for file in files]
    IDs = [file.with_suffix("").as_posix() for file in files]
    # Again, because a.jpg and a.png, told apart, may now collide with a.jpg.png
    while len(counts := Counter(IDs)) < len(IDs):
        IDs = [name if counts[ID] > 1 else ID for ID, name in zip(IDs, full, strict=True)]
    return IDs
