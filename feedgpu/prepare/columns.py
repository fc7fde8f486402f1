"""Sources whose columns hold a sample a row: Parquet files, and folders saved by Hugging Face's datasets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from ..notation import DatasetError
from ..rooms import missing
from .files import sample_in
from .folders import PARTITION_OF
from .found import (
    Chosen,
    Found,
    chosen_of,
    field_values,
    parts_of_files,
    read_from,
    rows_at_once,
    said_of,
    unused,
    words,
)
from .tables import PARTITION_COLUMNS, YES
from .written import Block, name_of, numbered

Size = tuple[int, int] | None


class Columns:
    "How the columns of a source become samples"

    def __init__(self, path: Path, schema: Any, x: list[str] | None, y: str | None) -> None:
        lower = {name.lower(): name for name in reversed(schema.names)}
        self.ID = lower.get("id")
        self.parted = next((lower[name] for name in PARTITION_COLUMNS if name in lower), None)
        used = [*(x or []), *([y] if y else [])]
        self.ID = None if self.ID in used else self.ID
        self.parted = None if self.parted in used else self.parted
        self.there = there = {name: str(schema.field(name).type) for name in schema.names}
        if absent := [name for name in used if name not in there]:
            raise DatasetError(f"{path} has no column {absent[0]!r}; it has {words(there)}")
        rest = {name: what for name, what in there.items() if name not in (self.ID, self.parted)}
        self.chosen: Chosen = chosen_of(path, None, {name: name for name in rest}, x, y, words(there))
        self.names = [*self.chosen.x, *([self.chosen.y] if self.chosen.y else [])]
        self.names += [name for name in (self.ID, self.parted) if name]

    @property
    def said(self) -> str:
        also = [
            f"{what} from {name}" for what, name in (("IDs", self.ID), ("partition", self.parted)) if name
        ]
        return ", ".join([said_of([self.chosen]), *also]) + unused(self.there, self.names)

    def block(
        self, path: Path, table: Any, begin: int, most: int, part: str | None, size: Size, mode: str | None
    ) -> Block:
        "The rows of an Arrow table; `begin`: the number of the first, of `most`"
        found = {name: values_of(table.column(name), f"{path}: column {name}", begin) for name in self.names}
        y = found.get(self.chosen.y) if self.chosen.y else None
        if isinstance(y, list) and y and not isinstance(y[0], str):
            raise DatasetError(
                f"{path}: column {self.chosen.y} has lists of unequal lengths, or bytes, which are no targets"
            )
        parts: Any = part
        if self.parted:
            parts = [partition_in(path, self.parted, value) for value in found[self.parted]]
        IDs: Any
        if self.ID:
            IDs = [str(value) for value in found[self.ID]]
        else:
            IDs = numbered(begin, begin + len(table), most, f"{part}/" if part else "")
        Xs = {name: found[name] for name in self.chosen.x}
        return Block(IDs, samples_of(path, Xs, IDs, size, mode), y, parts)


def samples_of(path: Path, Xs: dict[str, Any], IDs: Any, size: Size, mode: str | None) -> Any:
    "The samples of some columns: single numbers make one vector, all else is a field each"
    if all(isinstance(values, numpy.ndarray) and values.ndim == 1 for values in Xs.values()) and len(Xs) > 1:
        return numpy.stack(list(Xs.values()), 1)
    if all(isinstance(values, numpy.ndarray) for values in Xs.values()):
        return field_values(Xs)
    columns = {}
    for name, values in Xs.items():
        if not isinstance(values, list):
            columns[name] = list(values)
        elif values and isinstance(values[0], str):
            raise DatasetError(f"{path}: column {name} holds text: turn it into numbers first")
        else:
            columns[name] = [
                of_bytes(path, name, ID, one, size, mode) if isinstance(one, bytes) else one
                for ID, one in zip(IDs, values, strict=True)
            ]
    rows = zip(*columns.values(), strict=True)
    return [field_values(dict(zip(columns, row, strict=True))) for row in rows]


def of_bytes(path: Path, name: str, ID: Any, data: bytes, size: Size, mode: str | None) -> Any:
    with read_from(f"{path}, column {name}, row {name_of(ID)!r}"):
        return sample_in(data, size, mode)


def partition_in(path: Path, column: str, value: Any) -> str:
    "The partition that a row's value says"
    if column.lower() == "is_valid":
        return "validation" if str(value).lower() in YES else "train"
    if str(value).lower() not in PARTITION_OF:
        raise DatasetError(
            f"{path}: {value!r} in column {column} is no partition: say train, validation or test"
        )
    return PARTITION_OF[str(value).lower()]


def values_of(column: Any, what: str, begin: int) -> Any:
    """The values of an Arrow column: an array N×…, or a list of N arrays, strings or bytes.

    Raises DatasetError for a value that is missing, and for a type without numbers, text or bytes.
    """
    import pyarrow.compute

    types = pyarrow.types
    array = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.null_count:
        row = begin + array.is_null().to_pylist().index(True)
        raise DatasetError(f"{what} has no value in row {row:,}: fill it in, or leave the row out")
    kind = array.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return array.to_numpy(zero_copy_only=False)
    if types.is_string(kind) or types.is_large_string(kind):
        return array.to_pylist()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return array.to_pylist()
    if types.is_struct(kind) and "bytes" in [field.name for field in kind]:  # an image, as datasets keeps it
        return values_of(pyarrow.compute.struct_field(array, "bytes"), what, begin)
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        raise DatasetError(
            f"{what} is of the type {kind}, which holds no numbers: leave it out, or flatten it"
        )
    lengths = (
        array.value_lengths().to_numpy(zero_copy_only=False) if not types.is_fixed_size_list(kind) else None
    )
    inner = values_of(array.flatten(), what, begin)
    if isinstance(inner, list):
        raise DatasetError(f"{what} holds lists of text, bytes or unequal lists, which make no tensor")
    if lengths is None:
        return inner.reshape(len(array), kind.list_size, *inner.shape[1:])
    if len(lengths) and (lengths == lengths[0]).all():
        return inner.reshape(len(array), int(lengths[0]), *inner.shape[1:])
    return numpy.split(inner, numpy.cumsum(lengths)[:-1])


def parquet(path: Path, x: list[str] | None, y: str | None, size: Size, mode: str | None) -> Found:
    "The samples in a Parquet file, or in a folder of them"
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise missing(f"{path}, Parquet,", "pyarrow", "sources") from error
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    with read_from(path):
        schema = pyarrow.parquet.read_schema(files[0])
        rows = {file: pyarrow.parquet.read_metadata(file).num_rows for file in files}
        sizes = sum(file.stat().st_size for file in files) / max(1, sum(rows.values()))
    columns = Columns(path, schema, x, y)
    parts = parts_of_files(files) if len(files) > 1 and not columns.parted else dict.fromkeys(files)
    most = {part: sum(rows[file] for file in files if parts[file] == part) for part in parts.values()}

    def blocks() -> Iterator[Block]:
        begin = dict.fromkeys(most, 0)
        for file in files:
            part = parts[file]
            with read_from(file), pyarrow.parquet.ParquetFile(file) as opened_file:
                batches = opened_file.iter_batches(rows_at_once(2 * sizes), columns=columns.names)
                while True:
                    if (batch := next(batches, None)) is None:
                        break
                    if not len(batch):
                        continue
                    block = columns.block(
                        file, pyarrow.table(batch), begin[part], most[part], part, size, mode
                    )
                    begin[part] += len(batch)
                    yield block

    return Found(blocks(), sum(rows.values()), columns.said)


def saved_by_datasets(path: Path, x: list[str] | None, y: str | None, size: Size, mode: str | None) -> Found:
    "The samples in a folder that `save_to_disk` of Hugging Face's datasets has written"
    try:
        import datasets
    except ImportError as error:
        raise missing(f"{path}, saved by Hugging Face's datasets,", "datasets", "sources") from error
    with read_from(path):
        found = datasets.load_from_disk(str(path))
        parts = found if isinstance(found, datasets.DatasetDict) else {None: found}
        parts = {PARTITION_OF.get(str(name).lower(), name): of for name, of in parts.items()}
        first = next(iter(parts.values()))
        bytes_a_row = sum((of.dataset_size or of.data.nbytes) for of in parts.values()) / max(
            1, sum(map(len, parts.values()))
        )
    columns = Columns(path, first.features.arrow_schema, x, y)
    feature = first.features.get(columns.chosen.y) if columns.chosen.y else None

    def blocks() -> Iterator[Block]:
        for part, of in parts.items():
            begin, most = 0, len(of)
            with read_from(path):
                tables = of.select_columns(columns.names).with_format("arrow").iter(rows_at_once(bytes_a_row))
                for table in tables:
                    block = columns.block(path, table, begin, most, part, size, mode)
                    begin += len(table)
                    yield block

    return Found(
        blocks(),
        sum(map(len, parts.values())),
        columns.said,
        list(feature.names) if isinstance(feature, datasets.ClassLabel) else None,
    )
