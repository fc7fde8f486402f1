"""What a pack has besides values, gathered while samples come: IDs, targets, partition; a few bytes each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from ..ids import decoded, encoded
from ..notation import LEADS_OUT, DatasetError, sentence
from ..order import hashed_seeds
from ..packed import targets
from .writing import write_manifest

Array = numpy.ndarray[Any, Any]
AT_ONCE = 2**16  # samples whose IDs are Python objects at one time


@dataclass
class Block:
    """Some samples of a source, in their order.

    `IDs`: N strings, or N bytes as `numbered` makes them. `X`: their values, each field N×…; or a list of N
    samples. `y`: N or N×… numbers, N strings (the names of classes), or None. `part`: the name of their
    partition, or N names, or None if it is to be drawn. `file`: a .npy file that holds X and nothing else.
    """

    IDs: list[str] | Array
    X: Any
    y: Any = None
    part: str | list[str] | None = None
    file: Path | None = None


def numbered(begin: int, end: int, most: int, prefix: str = "") -> Array:
    "IDs of the rows begin … end - 1 of a source with `most` rows: their numbers, all of one width"
    width = len(str(max(0, most - 1)))
    numbers = numpy.arange(begin, end)
    letters = numpy.empty((len(numbers), len(prefix.encode()) + width), numpy.uint8)
    letters[:, : len(prefix.encode())] = numpy.frombuffer(prefix.encode(), numpy.uint8)
    for place in range(width):
        letters[:, -1 - place] = numbers // 10**place % 10 + ord("0")
    return letters.view(f"S{letters.shape[1]}")[:, 0]


def name_of(ID: Any) -> str:
    return decoded(bytes(ID)) if isinstance(ID, bytes) else ID


class Written:
    "IDs, targets and partition of the samples that were written, a few bytes each"

    def __init__(self, folder: Path, target: str | None, seed: int | None) -> None:
        self.folder, self.target, self.seed = folder, target, seed
        self.IDs: list[Array] = []
        self.y: list[Array] = []
        self.keys: list[Array] = []  # by which a partition is drawn
        self.parts: list[Array] = []
        self.number_of: dict[str | None, int] = {}  # each partition's, in the order in which they came
        self.names: dict[str, int] = {}  # of classes
        self.first: tuple[str, str] | None = None  # an ID and the kind of its target

    def add(self, block: Block) -> None:
        "The IDs, targets and partition of a block; a large one in pieces, for lists of them take memory"
        for begin in range(0, len(block.IDs), AT_ONCE):
            piece = slice(begin, begin + AT_ONCE)
            y = None if block.y is None else block.y[piece]
            part = block.part[piece] if isinstance(block.part, list) else block.part
            self._add(Block(block.IDs[piece], None, y, part))

    def _add(self, block: Block) -> None:
        if isinstance(block.IDs, list):
            for ID in block.IDs:
                if not isinstance(ID, str) or LEADS_OUT.search(ID):
                    raise DatasetError(
                        f"{str(ID)[:60]!r} is no ID: an ID is a string that could name a file inside the "
                        "folder, without .. and of at most 1,000 letters"
                    )
            IDs = numpy.array([encoded(ID) for ID in block.IDs])
        else:
            IDs = block.IDs
        self.IDs.append(IDs)
        parts = [block.part] * len(IDs) if not isinstance(block.part, list) else block.part
        codes = {part: self.number_of.setdefault(part, len(self.number_of)) for part in dict.fromkeys(parts)}
        if len(self.number_of) > 255:
            raise DatasetError(f"there are more than 255 partitions: {', '.join(map(str, codes))[:100]} …")
        self.parts.append(numpy.array([codes[part] for part in parts], numpy.uint8))
        if self.seed is not None:
            self.keys.append(hashed_seeds(self.seed, IDs.tolist()))
        self._add_targets(IDs, block.y)

    def _add_targets(self, IDs: Array, y: Any) -> None:
        ID = decoded(bytes(IDs[0]))
        kind = "none"
        if y is not None and self.target != "none":
            kind, values = self._kind_of(IDs, y)
            self.y.append(values)
        if self.first is None:
            self.first = ID, kind
        if kind != self.first[1]:
            raise DatasetError(
                f"targets must be of one kind: that of {self.first[0]!r} is {KINDS.get(self.first[1])}, "
                f"that of {ID!r} is {KINDS.get(kind)}"
            )

    def _kind_of(self, IDs: Array, y: Any) -> tuple[str, Array]:
        "Of targets, and the targets as numbers"
        if isinstance(y, (list, tuple)):
            y = [one.tolist() if isinstance(one, numpy.ndarray) else one for one in y]
            strings = [isinstance(one, str) for one in y]
            if all(strings) and y:
                return "name", self._codes(y)
            names = [decoded(ID) for ID in IDs.tolist()]
            if any(strings):
                odd = names[strings.index(not strings[0])]
                raise DatasetError(
                    f"targets must be of one kind: that of {names[0]!r} is {y[0]!r}, that of {odd!r} is of "
                    "another type"
                )
            values = targets(names, dict(zip(names, y, strict=True)))
            assert values is not None
        else:
            values = numpy.asarray(y)
            if values.dtype.kind in "UO":
                return "name", self._codes(values.tolist())
            if values.dtype.kind == "S":
                return "name", self._codes([decoded(one) for one in values.tolist()])
            if values.shape[:1] != (len(IDs),) or values.dtype.kind not in "biuf":
                raise DatasetError(
                    f"targets must be numbers or names for {len(IDs):,} samples, but they are "
                    f"{values.dtype} of shape {'×'.join(map(str, values.shape))}"
                )
        if values.shape[1:] == (1,) and values.dtype.kind in "biu":
            values = values[:, 0]  # a column of classes
        return self._checked(IDs, values)

    def _checked(self, IDs: Array, values: Array) -> tuple[str, Array]:
        several = values.ndim > 1
        whole = values.dtype.kind in "biu"
        if self.target == "class" and not whole and not several and (values == numpy.floor(values)).all():
            values, whole = values.astype(numpy.int64), True  # 2.0 is class 2
        if several or self.target == "number" or (not whole and self.target != "class"):
            values = values.astype(numpy.float32)
            wrong = ~numpy.isfinite(values.reshape(len(values), -1)).all(1)
            what = "is infinite or not a number"
        elif whole:
            values = values.astype(numpy.int64)
            wrong = values < 0
            what = "is no class, which is a whole number from 0 up: say --target number to learn numbers"
        else:
            wrong = values != numpy.floor(values)
            what = "is no class, which is a whole number from 0 up: say --target number to learn numbers"
        if wrong.any():
            row = int(wrong.argmax())
            raise DatasetError(f"the target of {decoded(bytes(IDs[row]))!r}, {values[row]}, {what}")
        if several:
            return f"{'×'.join(map(str, values.shape[1:]))} numbers", values
        return "class" if values.dtype == numpy.int64 else "number", values

    def _codes(self, names: Iterable[Any]) -> Array:
        "Of the names of classes, numbered as they come"
        if self.target == "number":
            raise DatasetError("the targets are names, and --target number asks for numbers")
        each = (self.names.setdefault(str(name), len(self.names)) for name in names)
        return numpy.fromiter(each, numpy.int64)

    def end(
        self, manifest: dict[str, Any], given: Mapping[str, Iterable[str]] | None
    ) -> tuple[dict[str, int], list[str] | None]:
        "Writes all that is not values; returns the samples of each partition, and the names of the classes"
        IDs = numpy.concatenate(self.IDs)
        y = numpy.concatenate(self.y) if self.y else None
        order = numpy.argsort(IDs, kind="stable")
        again = numpy.flatnonzero(IDs[order[1:]] == IDs[order[:-1]])
        if len(again):
            raise DatasetError(
                sentence("more than once", list(map(decoded, IDs[order[again]].tolist())))
                + ": an ID names one sample"
            )
        names = sorted(self.names) or None
        if names and y is not None:
            y = numpy.argsort(numpy.array([self.names[name] for name in names]))[y]
        codes, counts = self._partition(IDs, order, y, given)
        numpy.save(self.folder / "partition.npy", codes)
        if (numpy.diff(order) != 1).any():
            numpy.save(self.folder / "order.npy", order.astype(numpy.int32) if len(order) < 2**31 else order)
        write_manifest(self.folder, manifest, IDs, y)
        return counts, names

    def _partition(
        self, IDs: Array, order: Array, y: Array | None, given: Mapping[str, Iterable[str]] | None
    ) -> tuple[Array, dict[str, int]]:
        "The number of each sample's partition, and {partition: its samples}"
        if given is not None:
            names, codes = list(given), codes_given(IDs, order, given)
        else:
            names, codes = [str(name) for name in self.number_of], numpy.concatenate(self.parts)
            if None in self.number_of and len(self.number_of) > 1:
                row = int((codes == self.number_of[None]).argmax())
                raise DatasetError(f"sample {decoded(bytes(IDs[row]))!r} is in no partition, and others are")
            if None in self.number_of:
                names = ["train"]
            if "train" in names and "validation" not in names:
                within = codes == names.index("train")
                classes = y[within] if y is not None and y.ndim == 1 and y.dtype == numpy.int64 else None
                names.append("validation")
                codes[within] = numpy.where(
                    drawn(classes, numpy.concatenate(self.keys)[within]), len(names) - 1, codes[within]
                )
                if len(names) > 2:
                    print("No samples are said to be for validation: a fifth of train is drawn for it.")
        usual = [name for name in ("train", "validation", "test") if name in names]
        first = [*usual, *[name for name in names if name not in usual]]
        codes = numpy.array([first.index(name) for name in names], numpy.uint8)[codes]
        counts = {name: int((codes == code).sum()) for code, name in enumerate(first)}
        for name in ["train", "validation"] if self.y or len(names) > 1 else names:
            if not counts.get(name):
                raise DatasetError(
                    f"there is no sample for {name!r}, and a dataset needs some to train and some to validate"
                )
        return codes, counts


KINDS = {"none": "missing", "class": "a class", "number": "a number", "name": "a name"}


def drawn(y: Array | None, keys: Array) -> Array:
    "Which samples are for validation: those that `split` draws, of all classes or of all samples as one"
    classes = numpy.zeros(len(keys), numpy.int64) if y is None else y
    order = numpy.lexsort((keys, classes))
    _, begins, sizes = numpy.unique(classes[order], return_index=True, return_counts=True)
    numbers = numpy.minimum(numpy.maximum(1, numpy.rint(sizes / 5).astype(numpy.int64)), sizes - 1)
    place = numpy.arange(len(keys)) - numpy.repeat(begins, sizes)
    chosen = numpy.zeros(len(keys), bool)
    chosen[order] = place < numpy.repeat(numbers, sizes)
    return chosen


def codes_given(IDs: Array, order: Array, given: Mapping[str, Iterable[str]]) -> Array:
    "The number of each sample's partition, as the user says them"
    codes = numpy.full(len(IDs), 255, numpy.uint8)
    for code, (name, listed) in enumerate(given.items()):
        wanted = list(listed)
        if not wanted:
            raise DatasetError(f"partition {name!r} is empty")
        places = numpy.searchsorted(IDs, numpy.array([encoded(ID) for ID in wanted]), sorter=order)
        rows = order[numpy.minimum(places, len(IDs) - 1)]
        if absent := [ID for ID, row in zip(wanted, rows, strict=True) if bytes(IDs[row]) != encoded(ID)]:
            raise DatasetError(sentence(f"of partition {name!r} not among the samples", absent))
        if (codes[rows] != 255).any() or len(set(rows.tolist())) < len(rows):
            twice = [ID for ID, row in zip(wanted, rows, strict=True) if codes[row] != 255] or wanted
            raise DatasetError(sentence("in more than one partition, or twice in one", twice))
        codes[rows] = code
    if (codes == 255).any():
        left = list(map(decoded, IDs[codes == 255].tolist()))
        raise DatasetError(sentence("in no partition", left))
    return codes
