"""What a pack says of itself: the files it consists of, and its manifest.

A pack is the folder `packed` beside the samples. `feedgpu pack` writes it, of files that numpy reads:

    samples.npy      N × shape, in the order of IDs.npy; samples of unequal shapes are one run of
                     values, with offsets.npy (N + 1, in values) and shapes.npy (N × dimensions)
    labels.npy       N or N × numbers, as they were when the samples were packed; int64 or float32
    IDs.npy          N, bytes of fixed width, UTF-8
    manifest.json    version, number, dtype and shape of the samples, bytes of each file, digest of all

That is version 1, for samples that are one tensor and have targets. Version 2 says `form` ("tensor", "tuple"
or "dict") and, in place of dtype and shape, `fields`, a list of {name, dtype, shape}. In a tuple or dict the
files of field number i are samples-i.npy, offsets-i.npy and shapes-i.npy. Without targets there is no
labels.npy.

A dataset may be a pack alone, without a file for each sample. Then partition.json is {"packed": {partition:
number of its samples}}, labels.json is null, and the pack has two files more:

    partition.npy    N, uint8: which partition each sample is in, numbered as partition.json lists them
    order.npy        N, int32 or int64: the rows by their IDs in byte order; missing if they stand in it
"""

import re
from pathlib import Path
from typing import Any

import torch

from .notation import DatasetError
from .outside import read_json, reason

VERSION = 2  # the newest that can be read
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
            f"{folder} is of version {version}, and this feedgpu reads up to {VERSION}: install a newer one"
        )
    if not isinstance(manifest, dict) or version not in (1, 2) or not is_manifest(manifest):
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
    files, form = manifest.get("files"), manifest.get("form", "tensor")
    found = manifest.get("fields") if manifest["version"] == 2 else [manifest | {"name": None}]
    if form not in ("tensor", "tuple", "dict") or not isinstance(found, list) or not found:
        return False
    if not all(isinstance(field, dict) and is_field(field) for field in found):
        return False
    names = [field["name"] for field in found]
    right = {"tensor": [None], "tuple": list(range(len(names))), "dict": [*dict.fromkeys(names)]}[form]
    if names != right or form == "dict" and not all(isinstance(name, str) and name for name in names):
        return False
    if not isinstance(files, dict) or not all(map(is_count, files.values())):
        return False
    known = {*files_of(manifest)}
    needed = known - {"labels.npy"} if "fields" in manifest else known
    return (
        isinstance(manifest.get("digest"), str)
        and is_count(manifest.get("samples"))
        and needed <= {*files} <= known | {"partition.npy", "order.npy"}
    )


def is_field(field: dict[str, Any]) -> bool:
    shape = field.get("shape")
    return (
        "name" in field
        and DTYPES.fullmatch(str(field.get("dtype"))) is not None
        and isinstance(getattr(torch, field["dtype"], None), torch.dtype)
        and (shape is None or (isinstance(shape, list) and all(map(is_count, shape))))
    )


def fields_of(manifest: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    "For each field what its files' names end in, and its name, dtype and shape"
    if "fields" not in manifest:
        return [("", manifest)]
    if manifest.get("form") == "tensor":
        return [("", manifest["fields"][0])]
    return [(f"-{i}", field) for i, field in enumerate(manifest["fields"])]


def files_of(manifest: dict[str, Any]) -> list[str]:
    "The files that a pack must have, with labels"
    names = ["labels.npy", "IDs.npy"]
    for end, field in fields_of(manifest):
        names.append(f"samples{end}.npy")
        if field["shape"] is None:
            names += [f"offsets{end}.npy", f"shapes{end}.npy"]
    return names


def is_count(value: object) -> bool:
    "Whether it is a whole number from 0 up"
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def command(root: str | Path) -> str:
    return f"feedgpu pack --data {root}"


def again(root: str | Path) -> str:
    "What to do with a pack that is not what it should be"
    try:
        partition = read_json(Path(root) / "partition.json")
    except (OSError, ValueError):
        partition = None
    if isinstance(partition, dict) and isinstance(partition.get("packed"), dict):
        return "prepare the dataset again"  # it is a pack alone
    return f"pack again with {command(root)}"
