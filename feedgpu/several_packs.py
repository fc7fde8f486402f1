"""Several packs read as one dataset."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import torch

from .field import Array, Field
from .memory import BatchMemory, Gathered, is_batch, whole_batch
from .notation import DatasetError
from .packed import PackedDataset, is_plain, widened


class ConcatPacked(torch.utils.data.ConcatDataset[Any]):
    """Several PackedDatasets as one, one after the other: each batch is gathered at once from all of them.

    Samples of one shape are mapped side by side, so that several packs are as fast as one (on Linux and
    macOS). Raises DatasetError if their samples or their targets are of different kinds.
    """

    def __init__(self, datasets: Iterable[PackedDataset]) -> None:
        super().__init__(datasets)
        self.parts: list[PackedDataset] = self.datasets  # type: ignore[assignment]
        self._joined: Joined | None = None
        first = kind_in_words(self.parts[0])
        for other in self.parts[1:]:
            if kind_in_words(other) != first:
                raise DatasetError(
                    f"the packs in {self.parts[0].root} and {other.root} hold different kinds of samples or "
                    f"targets: {first}, and {kind_in_words(other)}"
                )

    def __getitem__(self, index: Any) -> Any:
        "Generates one sample of data"
        return whole_batch(self, index) if is_batch(index) else super().__getitem__(index)  # type: ignore[no-untyped-call]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        "Generates the samples of one batch"
        if not self.gathers:
            return self._of_each(numpy.asarray(indices))
        if self._joined is None:
            self._joined = Joined(self.parts)
        return self._joined.gather(numpy.asarray(indices))

    def _of_each(self, places: Array) -> list[Any]:
        "Each dataset makes its own samples, those of one batch together"
        refuse_beyond(places, len(self))
        places = numpy.where(places < 0, places + len(self), places)
        of = numpy.searchsorted(self.cumulative_sizes, places, "right")
        samples: list[Any] = [None] * len(places)
        for part in numpy.unique(of).tolist():
            here = numpy.flatnonzero(of == part)
            begin = self.cumulative_sizes[part] - len(self.parts[part])
            made = self.parts[part].__getitems__((places[here] - begin).tolist())
            for place, sample in zip(here.tolist(), made, strict=True):
                samples[place] = sample
        return samples

    @property
    def gathers(self) -> int:
        "As that of PackedDataset"
        return self.parts[0].gathers if all(part.gathers for part in self.parts) else 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_joined": None}

    @property
    def lengths(self) -> Array:
        "The first dimension of each sample (of its first field)"
        return numpy.concatenate([part.lengths for part in self.parts])


def refuse_beyond(places: Array, size: int) -> None:
    if len(places) and not -size <= places.min() <= places.max() < size:
        wrong = places[int(((places < -size) | (places >= size)).argmax())]
        raise IndexError(f"index {wrong} is out of bounds for {size:,} samples")


class Joined:
    "The packs of several datasets in one process"

    def __init__(self, parts: list[PackedDataset]) -> None:
        self.parts, self.pack = parts, parts[0].pack
        self.begins = numpy.cumsum([0, *map(len, parts)])
        self.memory = BatchMemory()
        self.y = (
            None
            if parts[0].y is None
            else numpy.concatenate([part.y for part in parts if part.y is not None])
        )
        try:
            self.fields = [
                Field.joined(list(of)) for of in zip(*[part.pack.fields for part in parts], strict=True)
            ]
        except OSError:  # they are gathered one after the other, and then put together
            self.fields = []
        self.rows = [
            numpy.concatenate([part.rows + first for part, first in zip(parts, field.firsts, strict=True)])
            for field in self.fields
        ]

    def gather(self, places: Array) -> Gathered:
        refuse_beyond(places, len(self))
        X: list[Any] = [
            field.gather(rows[places], shared=True)
            for field, rows in zip(self.fields, self.rows, strict=True)
        ]
        if not self.fields:
            X = self.put_together(numpy.where(places < 0, places + len(self), places))
        y = None if self.y is None else torch.from_numpy(widened(self.y[places]))
        return Gathered(self.pack.with_fields(X), y)

    def __len__(self) -> int:
        return int(self.begins[-1])

    def put_together(self, places: Array) -> list[torch.Tensor]:
        of = numpy.searchsorted(self.begins, places, "right") - 1
        batches = []
        for part in numpy.unique(of).tolist():
            here = numpy.flatnonzero(of == part)
            rows = self.parts[part].rows[places[here] - self.begins[part]]
            batches.append((here, self.parts[part].pack.gather(rows)))
        found = []
        for i, field in enumerate(self.pack.fields):
            whole = self.memory.empty((len(places), *field.values.shape[1:]), field.stored, shared=True)
            values = whole.numpy()
            for here, gathered in batches:  # NumPy's is twice as fast as torch's index_copy_
                values[here] = gathered[i].view(field.stored).numpy()
            found.append(whole.view(field.dtype))
        return found


def kind_in_words(dataset: PackedDataset) -> str:
    "Of its samples and targets, in words"
    each = ", ".join(
        f"{field.name}: {field.dtype}"
        + ("" if field.offsets is not None else f" of shape {'×'.join(map(str, field.values.shape[1:]))}")
        for field in dataset.pack.fields
    )
    y = "no targets" if dataset.y is None else "whole numbers" if is_plain(dataset.y) else "numbers"
    return f"{dataset.pack.form}s of {each}, with {y}"
