"""Sources whose arrays hold a sample a row: .npy, .npz, HDF5 and safetensors."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy
import torch

from ..notation import DatasetError
from ..outside import header_of, opened, read_array, size_of_header
from ..rooms import missing
from .found import Chosen, Found, choose, field_values, read_from, rows_at_once, said_of, unused
from .written import Block, numbered


@dataclass
class Rows:
    "An array whose rows are read a piece at a time: `read(begin, end)`, in increasing order"

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[int, int], Any]
    file: Path | None = None  # a .npy file that could be linked

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape))} {self.dtype}"


def arrays(path: Path, x: list[str] | None, y: str | None, kind: str) -> Found:
    "The samples in a file of arrays, of the kind 'npy', 'npz', 'hdf5' or 'safetensors'"
    files = ExitStack()
    with read_from(path):
        there: dict[str, Rows] = {
            "npy": of_npy,
            "npz": of_npz,
            "hdf5": of_hdf5,
            "safetensors": of_safetensors,
        }[kind](path, files)
        if kind == "npy" and y is not None:
            with read_from(Path(y)):
                there[y] = of_npy(Path(y), files)["x"]
    there = {name: rows for name, rows in there.items() if rows.shape}
    if kind == "npy":
        chosen = [Chosen(None, {"x": "x"}, y)]
    else:
        chosen = choose(path, {name: str(rows) for name, rows in there.items()}, x, y)
    for one in chosen:
        refuse_other_lengths(path, one, there)
    total = sum(there[next(iter(one.x.values()))].shape[0] for one in chosen)
    used = [name for one in chosen for name in (*one.x.values(), one.y) if name]
    return Found(blocks(path, chosen, there, files), total, said_of(chosen) + unused(there, used))


def refuse_other_lengths(path: Path, chosen: Chosen, there: dict[str, Rows]) -> None:
    names = [*chosen.x.values(), *([chosen.y] if chosen.y else [])]
    lengths = {name: there[name].shape[0] for name in names}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {length:,} rows" for name, length in lengths.items())
        raise DatasetError(f"{path}: {said}: a row of each is needed for every sample")


def blocks(path: Path, chosen: list[Chosen], there: dict[str, Rows], files: ExitStack) -> Iterator[Block]:
    with files:
        for one in chosen:
            fields = {base: there[name] for base, name in one.x.items()}
            most = next(iter(fields.values())).shape[0]
            prefix = f"{one.part}/" if one.part else ""
            alone = next(iter(fields.values())) if len(chosen) == len(fields) == 1 else None
            if alone and alone.file and most:
                with read_from(path):
                    X = torch.from_numpy(alone.read(0, most))
                    y = there[one.y].read(0, most) if one.y else None
                yield Block(numbered(0, most, most, prefix), X, y, one.part, alone.file)
                continue
            together = rows_at_once(sum(bytes_of_a_row(rows) for rows in fields.values()))
            for begin in range(0, most, together):
                end = min(begin + together, most)
                with read_from(path):
                    X = field_values({base: rows.read(begin, end) for base, rows in fields.items()})
                    y = there[one.y].read(begin, end) if one.y else None
                yield Block(numbered(begin, end, most, prefix), X, y, one.part)


def bytes_of_a_row(rows: Rows) -> int:
    size = 8
    for length in rows.shape[1:]:
        size *= length
    return size


def of_npy(path: Path, files: ExitStack) -> dict[str, Rows]:
    array = read_array(path, mmap_mode="c")  # "r" would make torch warn; nothing is written
    native = array.dtype.isnative and array.flags.c_contiguous and array.dtype.kind in "biufc"
    with opened(path) as stream:
        whole = stream.seek(0, 2) == array.offset + array.nbytes  # else more stands behind it
    values = numpy.asarray(array)
    return {
        "x": Rows(array.shape, str(array.dtype), lambda a, b: values[a:b], path if native and whole else None)
    }


def of_npz(path: Path, files: ExitStack) -> dict[str, Rows]:
    archive = files.enter_context(zipfile.ZipFile(files.enter_context(opened(path))))
    return {
        name.removesuffix(".npy"): member(archive, name, files)
        for name in archive.namelist()
        if name.endswith(".npy")
    }


def member(archive: zipfile.ZipFile, name: str, files: ExitStack) -> Rows:
    "An array in a .npz, which can be read from its begin to its end only"
    with archive.open(name) as begin_of_it:
        shape, columns_first, dtype = header_at(begin_of_it)

    if columns_first and len(shape) > 1:
        with archive.open(name) as all_of_it:
            array = numpy.lib.format.read_array(all_of_it, allow_pickle=False)  # type: ignore[no-untyped-call]
        return Rows(shape, str(dtype), lambda begin, end: array[begin:end])
    stream: IO[bytes] | None = None

    def read(begin: int, end: int) -> Any:
        nonlocal stream
        if begin == 0:
            stream = files.enter_context(archive.open(name))
            header_at(stream)
        assert stream is not None
        row = dtype.itemsize * int(numpy.prod(shape[1:]))
        data = stream.read(row * (end - begin))
        if len(data) < row * (end - begin):
            raise ValueError(f"{name} in it ends early")
        return numpy.frombuffer(bytearray(data), dtype).reshape(end - begin, *shape[1:])

    return Rows(shape, str(dtype), read)


def header_at(stream: Any) -> tuple[tuple[int, ...], bool, Any]:
    "Shape, order and dtype of the .npy that begins here"
    begin = stream.read(12)
    return header_of(begin + stream.read(size_of_header(begin) - 12))


def of_hdf5(path: Path, files: ExitStack) -> dict[str, Rows]:
    try:
        import h5py
    except ImportError as error:
        raise missing(f"{path}, an HDF5 file,", "h5py", "sources") from error
    file = files.enter_context(h5py.File(path, "r"))
    there: dict[str, Rows] = {}

    def visit(name: str, found: Any) -> None:
        if not isinstance(found, h5py.Dataset) or not found.shape:
            return
        if found.external or found.is_virtual:
            raise ValueError(f"the values of {name} lie in another file, which is not read")
        text = h5py.check_string_dtype(found.dtype)
        if found.dtype.kind == "O" and not text:
            return  # neither numbers nor text
        whole = found.asstr("utf-8", "surrogateescape") if text else found
        there[name] = Rows(found.shape, "text" if text else str(found.dtype), lambda a, b: whole[a:b])

    file.visititems(visit)
    return there


def of_safetensors(path: Path, files: ExitStack) -> dict[str, Rows]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise missing(f"{path}, a safetensors file,", "safetensors", "sources") from error
    file = files.enter_context(safe_open(path, framework="pt"))  # type: ignore[no-untyped-call]

    def rows(name: str) -> Rows:
        whole = file.get_slice(name)
        return Rows(tuple(whole.get_shape()), whole.get_dtype(), lambda begin, end: whole[begin:end])

    return {name: rows(name) for name in file.keys()}  # noqa: SIM118  its own method
