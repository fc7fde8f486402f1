"""The user's own files: which of them can be read, and how one is read or kept."""

import functools
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..notation import DatasetError, Shortage
from ..outside import ARRAY, array_in, opened, read_array, read_bytes, reason, wanting
from ..rooms import MissingExtra
from ..sample import describe, read_sample, sample_of
from .layout import Unreadable
from .sources import pixels


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
    return read_image(read_bytes(file), size, mode)


def sample_in(data: bytes, size: tuple[int, int] | None, mode: str | None) -> Any:
    "The sample that the bytes of a file hold, told by how they begin: .npy, .pt, or an image"
    if data.startswith(ARRAY):
        array = array_in(data)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    if data.startswith(b"PK"):
        return sample_of(data)
    return read_image(data, size, mode)


def read_image(data: bytes, size: tuple[int, int] | None, mode: str | None) -> torch.Tensor:
    "An image as it is looked at: turned as its camera says, with colours in place of a palette's numbers"
    from ..decode import Image, as_seen, open_image  # which need Pillow

    image = as_seen(open_image(data))
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
