"""The user's own files: which of them can be read, and how one is read or kept."""

import functools
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
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
    lost: list[str] = []

    def read(ID: str) -> Any:
        nonlocal first
        file, told = files[ID], len(lost)
        try:
            # What matters raises; warnings would tear the progress bar
            with warnings.catch_warnings(action="ignore"):
                X = read_file(file, size, mode, lost)
            if lost and not told:
                print(f"{file} has {lost[0]}")
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
    return Unreadable(f"{file}: {reason(error)}", reason(error))


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


def read_file(
    file: Path, size: tuple[int, int] | None, mode: str | None, lost: list[str] | None = None
) -> Any:
    "The sample in a file; an image becomes uint8, C×H×W. `lost`: is told what of it is not kept"
    suffix = file.suffix.lower()
    if suffix == ".npy":
        array = read_array(file)
        # torch takes no other byte order than the machine's own
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    if suffix == ".pt":
        return read_sample(file)
    return read_image(read_bytes(file), size, mode, lost)


def sample_in(data: bytes, size: tuple[int, int] | None, mode: str | None) -> Any:
    "The sample that the bytes of a file hold, told by how they begin: .npy, .pt, or an image"
    if data.startswith(ARRAY):
        array = array_in(data)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    if data.startswith(b"PK"):
        return sample_of(data)
    return read_image(data, size, mode)


MODES = {"1": "L", "P": "RGB", "PA": "RGBA", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}


def read_image(
    data: bytes, size: tuple[int, int] | None, mode: str | None, lost: list[str] | None = None
) -> torch.Tensor:
    """An image as it is looked at: turned as its camera says, with colours in place of a palette's numbers.

    `mode`: one of Pillow's to which it is converted; or "P": the numbers of its palette, as masks have them,
    which are scaled without mixing; or "16": one channel of 16 bits, as uint16.
    """
    from ..decode import Image, ImageOps, as_seen, open_image  # which need Pillow

    image = open_image(data)
    if mode == "P":
        if image.mode != "P":
            raise ValueError(f"it has no palette, its mode is {image.mode}: leave --mode P out")
        image = ImageOps.exif_transpose(image)
        return pixels(image.resize(size[::-1], Image.Resampling.NEAREST) if size else image)
    if mode == "16":
        if not image.mode.startswith("I"):
            raise ValueError(f"it has no 16 bits a value, its mode is {image.mode}: leave --mode 16 out")
        image = as_seen(image, 16)
        image = image.resize(size[::-1], Image.Resampling.BILINEAR) if size else image
        return torch.from_numpy(numpy.array(image).astype(numpy.uint16))[None]
    if image.mode.startswith("I") and lost is not None:
        lost.append("16 bits a value, of which the upper 8 are kept: say --mode 16 to keep all")
    image = as_seen(image)
    image = image.convert(mode or MODES.get(image.mode, image.mode))
    if size:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
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
