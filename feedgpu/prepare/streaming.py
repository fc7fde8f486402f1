"""Packs samples as they come, without a file for each: the dataset is the pack alone."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from ..notation import DatasetError, Partition, load_notation
from ..sample import dense, fields, refuse_other, with_fields
from ..system import progress_of
from .commit import INCOMING, listed_in, suffix_of
from .layout import one_thread, refuse_overwriting, replaced, write_json
from .writing import PackWriter
from .written import Block, Written, name_of

Array = numpy.ndarray[Any, Any]
TOGETHER = 4096  # samples that come one by one, and whose IDs and targets are stored at once


Samples = Iterable[tuple[Any, ...] | Block]


def pack_samples(
    samples: Samples | Mapping[str, Samples],
    root: str | Path = "data",
    partition: Mapping[str, Iterable[str]] | None = None,
    seed: int = 0,
    force: bool = False,
    target: str | None = None,
    classes: list[str] | None = None,
    total: int | None = None,
    origin: Path | None = None,
) -> tuple[Partition, Any]:
    """Packs samples into the folder `root` as they come, and returns `(partition, labels)`.

        partition, labels = pack_samples(((ID, X, y) for …), "data")
        training_set = PackedDataset(partition["train"], labels, "data")

    `samples`: yields `(ID, X, y)`, or `(ID, X)` for samples without targets. X is a tensor, an array, or a
    tuple or dict of them; y a class (a whole number from 0 up, or a name), a number or a list of numbers.
    Or {partition: such an iterable}.

    `partition`: {name: IDs}; without it, a fifth of each class is drawn from `seed` for validation. `force`:
    overwrite the dataset that is there. `target`: "class", "number" or "none", whatever y's type says.
    `classes`: their names. `total`: how many samples there will be, for the progress bar. `origin`: a folder
    that is read, in which nothing may be written.

    Memory holds one sample, or one block, at a time; besides, for each sample its ID (as many bytes as the
    longest has), its target (4 to 8) and 9 bytes for the partition.

    Raises DatasetError, and then leaves the folder as it was, if samples are of different kinds, if two have
    one ID, if targets are of mixed kinds or not finite, and as `write` does.
    """
    root = Path(root)

    def staged() -> None:
        packed = root / "packed"
        if packed.exists() and not (packed / "manifest.json").is_file():
            raise DatasetError(f"{packed} is no pack, and a pack would take its place: move it away")
        if not force:
            refuse_overwriting(root, [])
        folder = root / INCOMING / "packed"
        folder.mkdir(parents=True)
        old = suffix_of(root, listed_in(root / "partition.json"))
        write_json({"new": ".pt", "old": old}, root / INCOMING / "suffixes.json")
        written = Written(folder, target, None if partition else seed)
        with PackWriter(folder) as writer, one_thread(), progress_of("Packing", total, " samples") as went:
            for block in blocks_of(samples):
                written.add(block)
                add_samples(writer, block)
                went(len(block.IDs))
            if not writer.samples:
                raise DatasetError("there is no sample to pack")
            manifest = writer.manifest()
        counts, names = written.end(manifest, partition)
        if names or classes:
            write_json(names or classes, root / INCOMING / "classes.json")
        write_json(None, root / INCOMING / "labels.json")
        write_json({"packed": counts}, root / INCOMING / "partition.json")

    replaced(root, origin, staged)
    return load_notation(root, suffix=None)


def blocks_of(samples: Samples | Mapping[str, Samples]) -> Iterator[Block]:
    "What a source yields, in blocks"
    if isinstance(samples, Mapping):
        for part, those in samples.items():
            for block in blocks_of(those):
                block.part = part
                yield block
        return
    held = Block([], [], [])
    bare = None
    for one in samples:
        if isinstance(one, Block):
            yield one
            continue
        if not isinstance(one, tuple) or len(one) not in (2, 3):
            raise DatasetError(f"a sample must come as (ID, X, y) or (ID, X), not as a {type(one).__name__}")
        if bare not in (None, len(one)):
            raise DatasetError(f"targets must be of one kind, but {one[0]!r} is among those that have none")
        bare = len(one)
        assert isinstance(held.IDs, list)
        held.IDs.append(one[0])
        held.X.append(copied(one[1]))  # a generator may fill the same memory again for its next sample
        held.y.append(copied(one[2]) if len(one) == 3 else None)
        if len(held.IDs) == TOGETHER or sum_of_bytes(one[1]) * len(held.IDs) > 2**24:
            yield held if bare == 3 else Block(held.IDs, held.X)
            held = Block([], [], [])
    if len(held.IDs):
        yield held if bare == 3 else Block(held.IDs, held.X)


def copied(X: Any) -> Any:
    "With memory of its own, as far as it consists of tensors and arrays"
    if isinstance(X, numpy.ndarray):
        return X.copy()
    if isinstance(X, torch.Tensor):
        return X.detach().clone()
    if type(X) in (tuple, list):
        return type(X)(map(copied, X))
    return {name: copied(one) for name, one in X.items()} if type(X) is dict else X


def sum_of_bytes(X: Any) -> int:
    "Of a sample, about"
    parts = X.values() if isinstance(X, dict) else X if isinstance(X, tuple) else [X]
    return sum(int(getattr(one, "nbytes", 0)) for one in parts)


def add_samples(writer: PackWriter, block: Block) -> None:
    "Writes the values of a block"
    first = name_of(block.IDs[0])
    if block.file is not None and not writer.samples:
        writer.link(first, block.X, block.file)
        return
    X = stacked(block.X) if isinstance(block.X, list) else block.X
    if X is not None:
        writer.add_rows(first, as_sample(first, X))
    else:
        for ID, one in zip(block.IDs, block.X, strict=True):
            writer.add(name_of(ID), as_sample(name_of(ID), one))


def stacked(Xs: list[Any]) -> Any:
    "Samples as one block, which takes less time than one after the other; None if they are not alike"
    first = Xs[0]
    if isinstance(first, (tuple, dict)):
        if any(type(X) is not type(first) or list(fields(X)) != list(fields(first)) for X in Xs):
            return None
        columns = [stacked(list(column)) for column in zip(*(fields(X).values() for X in Xs), strict=True)]
        return None if any(one is None for one in columns) else with_fields(first, columns)
    if isinstance(first, numpy.ndarray):
        alike = all(
            isinstance(X, numpy.ndarray) and X.dtype == first.dtype and X.shape == first.shape for X in Xs
        )
        return numpy.stack(Xs) if alike else None
    if isinstance(first, torch.Tensor) and not (first.is_quantized or first.is_nested):
        alike = all(
            isinstance(X, torch.Tensor)
            and X.dtype == first.dtype
            and X.shape == first.shape
            and X.layout is torch.strided
            for X in Xs
        )
        return torch.stack(Xs) if alike else None
    return None


def as_sample(ID: str, X: Any) -> Any:
    "A sample as a pack can hold it: of dense tensors on the CPU"
    try:
        if isinstance(X, (dict, tuple)):
            X = with_fields(X, [as_tensor(one) for one in fields(X).values()])
        else:
            X = as_tensor(X)
        refuse_other(X)
        return with_fields(X, [dense(one).cpu().contiguous() for one in fields(X).values()])
    except (TypeError, ValueError) as error:
        raise DatasetError(f"sample {ID!r} cannot be packed: {error}") from error


def as_tensor(X: Any) -> Any:
    "Of an array, in the byte order of this machine"
    if isinstance(X, numpy.ndarray):
        array = numpy.ascontiguousarray(X, X.dtype.newbyteorder("=")).reshape(X.shape)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    return X
