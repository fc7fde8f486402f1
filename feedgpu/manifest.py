"""What a pack says of itself: the files it consists of, and its manifest.

A pack is the folder `packed` beside the samples. `feedgpu pack` writes it, of files that numpy reads:

    samples.npy      N × shape, in the order of IDs.npy; samples of unequal shapes are one run of
                     values, with offsets.npy (N + 1, in values) and shapes.npy (N × dimensions)
    labels.npy       N, int64, as they were when the samples were packed
    IDs.npy          N, bytes of fixed width, UTF-8
    manifest.json    version, number, dtype and shape of the samples, bytes of each file, digest of all
"""

import re
from pathlib import Path
from typing import Any

import torch

from .notation import DatasetError
from .outside import read_json, reason

VERSION = 1
PACKED = ("samples.npy", "labels.npy", "IDs.npy")
UNEQUAL = ("offsets.npy", "shapes.npy")
DTYPES = re.compile(r"bool|u?int(8|16|32|64)|b?float16|float(32|64|8_\w+)|complex(32|64|128)")


def read_manifest(root: str | Path) -> dict[str, Any]:
    """What `root/packed/manifest.json` says, if the files beside it have the sizes that it says.

    Raises DatasetError if they have not, if there is no pack, and if it is of a newer version.
    """
    folder = Path(root) / "packed"
    file = folder / "manifest.json"
    try:
        manifest = read_json(file)
    except FileNotFoundError:
        raise DatasetError(f"there is no pack in {folder}: make one with {command(root)}") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read: {reason(error)}; {again(root)}") from error
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and is_count(version) and version > VERSION:
        raise DatasetError(
            f"{folder} is of version {version}, and this feedgpu reads {VERSION}: install a newer one"
        )
    if not isinstance(manifest, dict) or version != VERSION or not is_manifest(manifest):
        raise DatasetError(f"{file} is no manifest of a pack: {again(root)}")
    for name, size in manifest["files"].items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            raise DatasetError(f"{folder / name} is missing: {again(root)}") from None
        if found != size:
            raise DatasetError(
                f"{folder / name} has {found:,} bytes, its manifest says {size:,}: {again(root)}"
            )
    return manifest


def is_manifest(manifest: dict[str, Any]) -> bool:
    "Whether it says what it must; it may come from a stranger"
    shape, files = manifest.get("shape"), manifest.get("files")
    needed = PACKED if shape is not None else PACKED + UNEQUAL
    return (
        DTYPES.fullmatch(str(manifest.get("dtype"))) is not None
        and isinstance(getattr(torch, manifest["dtype"], None), torch.dtype)
        and isinstance(manifest.get("digest"), str)
        and is_count(manifest.get("samples"))
        and (shape is None or (isinstance(shape, list) and all(map(is_count, shape))))
        and isinstance(files, dict)
        and sorted(files) == sorted(needed)
        and all(map(is_count, files.values()))
    )


def is_count(value: object) -> bool:
    "Whether it is a whole number from 0 up"
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def command(root: str | Path) -> str:
    return f"feedgpu pack --data {root}"


def again(root: str | Path) -> str:
    "What to do with a pack that is not what it should be"
    return f"pack again with {command(root)}"


def stored_as(dtype: torch.dtype) -> torch.dtype:
    "As what its values are stored: as they are, or as integers of the same bits if numpy lacks the type"
    try:
        torch.empty(0, dtype=dtype).numpy()
    except TypeError:
        return {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    return dtype
