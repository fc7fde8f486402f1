"""`feedgpu prepare from PATH`: what a path is, told by what it holds, and its samples packed as they come."""

import zipfile
from pathlib import Path
from typing import Any

from ..notation import DatasetError, Partition
from ..outside import ARRAY, opened
from . import arrays, columns, records
from .found import Found, read_from
from .streaming import pack_samples

TAKES = (
    ".npy, .npz, HDF5, Parquet, .tar, safetensors, an LMDB, a folder of .parquet or .tar files, or one that "
    "Hugging Face's datasets has saved"
)


def pack_from(
    path: str | Path,
    root: str | Path = "data",
    x: list[str] | None = None,
    y: str | None = None,
    target: str | None = None,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> tuple[Partition, Any]:
    """Packs the samples at `path`, and returns `(partition, labels)` as `pack_samples` does.

    `path`: a .npy file (y is then the path of another), .npz, HDF5 or safetensors, whose arrays have a sample
    a row; a Parquet file, or a folder saved by datasets' save_to_disk, a sample a row; a .tar as WebDataset
    writes it, a sample a name without its ending; an LMDB; or a folder of .parquet or .tar files. `x`, `y`:
    the names of the arrays, columns or endings that are the samples and the targets; usual names are found
    without (SAMPLES and TARGETS in found.py). Several `x` make samples that are dicts, or, if all are columns
    of single numbers, one vector. `size`, `mode`: of images, as for `folder`. `target`, `seed`, `force`: see
    `pack_samples`.

    The partition is that of the names (x_train, train/x, train-00000.parquet), of the splits that were saved,
    or of a column (partition, split, set, fold, is_valid); else it is drawn. Prints what is taken for what.

    Raises DatasetError, with what the source has, if the names do not tell, and for a source that is damaged.
    """
    path = Path(path)
    found = source_at(path, x, y, size, mode)
    print(f"{path}: {found.said}.")
    return pack_samples(
        found.blocks,
        root,
        seed=seed,
        force=force,
        target=target,
        classes=found.classes,
        total=found.total,
        origin=path if path.is_dir() else None,
    )


def source_at(
    path: Path, x: list[str] | None, y: str | None, size: tuple[int, int] | None, mode: str | None
) -> Found:
    "What lies at a path"
    kind = kind_of(path)
    if kind in ("npy", "npz", "hdf5", "safetensors"):
        return arrays.arrays(path, x, y, kind)
    if kind == "parquet":
        return columns.parquet(path, x, y, size, mode)
    if kind == "datasets":
        return columns.saved_by_datasets(path, x, y, size, mode)
    if kind == "lmdb":
        return records.lmdb(path, x, y, size, mode)
    return records.tars(path, x, y, size, mode)


def kind_of(path: Path) -> str:
    "Told by the files of a folder, or by how a file begins. Raises DatasetError for what is none of them."
    if path.is_dir():
        names = {file.name for file in path.iterdir()}
        if names & {"dataset_dict.json", "state.json"}:
            return "datasets"
        if "data.mdb" in names:
            return "lmdb"
        if next(path.rglob("*.parquet"), None):
            return "parquet"
        if next(path.rglob("*.tar*"), None):
            return "tar"
        raise DatasetError(
            f"{path} is none of: {TAKES}; for class folders of images say feedgpu prepare folder"
        )
    with read_from(path), opened(path) as stream:
        begin = stream.read(512)
        stream.seek(0)
        if begin.startswith(ARRAY):
            return "npy"
        if begin.startswith(b"PK"):
            if not zipfile.is_zipfile(stream):
                raise DatasetError(f"{path} is a .npz, or another zip file, that ends early: copy it again")
            return "npz"
        if begin.startswith(b"\x89HDF\r\n\x1a\n"):
            return "hdf5"
        if begin.startswith(b"PAR1"):
            return "parquet"
        if begin[257:262] == b"ustar" or ".tar" in path.name:
            return "tar"
        if begin[16:20] == b"\xde\xc0\xef\xbe":
            return "lmdb"
        if begin[8:9] == b"{":
            return "safetensors"
    raise DatasetError(f"{path} is none of: {TAKES}")
