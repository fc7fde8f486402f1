"""IDs and targets of millions of samples, as arrays in place of Python objects.

They are what load_notation returns of a dataset that is a pack alone: `partition["train"]` is an IDList,
`labels` a LabelArray. Both read the mapped files of the pack, so they take no memory of their own but 4 or 8
bytes a sample for the rows of a partition.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy

Array = numpy.ndarray[Any, Any]


NEAR = 8  # rows in which the next ID is looked for, before it is searched


def encoded(ID: str) -> bytes:
    "An ID as a pack stores it"
    return ID.encode("utf-8", "surrogateescape")


def decoded(ID: bytes) -> str:
    return ID.decode("utf-8", "surrogateescape")


class IDList(Sequence[str]):
    """The IDs of some rows of a pack, in this order.

    `IDs`: those of all rows, N bytes of fixed width. `rows`: N whole numbers. `edition`: of the dataset.
    A slice is an IDList again.
    """

    def __init__(self, IDs: Array, rows: Array, edition: Any) -> None:
        self.IDs, self.rows, self.edition = IDs, rows, edition

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "IDList": ...
    def __getitem__(self, index: int | slice) -> "str | IDList":
        if isinstance(index, slice):
            return IDList(self.IDs, self.rows[index], self.edition)
        return decoded(bytes(self.IDs[self.rows[index]]))

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self), 10_000):
            yield from map(decoded, self.IDs[self.rows[begin : begin + 10_000]].tolist())

    def __eq__(self, other: object) -> bool:
        "As a list of the same strings"
        if not isinstance(other, (IDList, list)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(repr(ID) for ID in self[:3]) + ", …" * (len(self) > 3)
        return f"<{len(self):,} IDs: {shown}>"


class LabelArray(Mapping[str, Any]):
    """{ID: target} of a pack, looked up in the next rows and else by bisection.

    `IDs`: N bytes of fixed width. `order`: the rows by their IDs in byte order, or None if that is the order
    in which they stand. `values`: N or N×… numbers. A target is what labels.json would hold: a class as an
    integer, a number as a float, several as a list. `edition`: of the dataset.
    """

    def __init__(self, IDs: Array, order: Array | None, values: Array, edition: Any) -> None:
        self.IDs, self.order, self.array, self.edition = IDs, order, values, edition
        self.next = 0  # the row behind the last one that was asked for: the next one is often near

    def __getitem__(self, ID: str) -> Any:
        wanted = encoded(ID) if isinstance(ID, str) else b""
        for row in range(self.next, min(self.next + NEAR, len(self.IDs))):
            if bytes(self.IDs[row]) == wanted:
                self.next = row + 1
                return self.array[row].tolist()
        place = int(numpy.searchsorted(self.IDs, numpy.bytes_(wanted), sorter=self.order))
        row = place if self.order is None or place == len(self.IDs) else int(self.order[place])
        if row == len(self.IDs) or bytes(self.IDs[row]) != wanted:
            raise KeyError(ID)
        self.next = row + 1
        return self.array[row].tolist()

    def __len__(self) -> int:
        return len(self.IDs)

    def __iter__(self) -> Iterator[str]:
        return iter(IDList(self.IDs, numpy.arange(len(self.IDs)), self.edition))

    def __repr__(self) -> str:
        return f"<targets of {len(self):,} IDs>"
