"""Several packs read as one dataset."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import torch

from .field import Array
from .memory import Gathered
from .notation import DatasetError
from .packed import PackedDataset, is_plain
from .sample import fields, with_fields


class ConcatPacked(torch.utils.data.ConcatDataset[Any]):
    """Several PackedDatasets as one, one after the other: each batch is gathered at once from all of them.

    Raises DatasetError if their samples or their targets are of different kinds.
    """

    def __init__(self, datasets: Iterable[PackedDataset]) -> None:
        super().__init__(datasets)
        self.parts: list[PackedDataset] = self.datasets  # type: ignore[assignment]
        first = kind_in_words(self.parts[0])
        for other in self.parts[1:]:
            if kind_in_words(other) != first:
                raise DatasetError(
                    f"the packs in {self.parts[0].root} and {other.root} hold different kinds of samples or "
                    f"targets: {first}, and {kind_in_words(other)}"
                )

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        "Generates the samples of one batch"
        places = numpy.asarray(indices)
        places = numpy.where(places < 0, places + len(self), places)
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            wrong = indices[int(((places < 0) | (places >= len(self))).argmax())]
            raise IndexError(f"index {wrong} is out of bounds for {len(self):,} samples")
        begins = numpy.array([0, *self.cumulative_sizes])
        of = numpy.searchsorted(begins, places, "right") - 1
        batches = [
            (torch.from_numpy(here), self.parts[part].__getitems__((places[here] - begins[part]).tolist()))
            for part in dict.fromkeys(of.tolist())
            for here in [numpy.flatnonzero(of == part)]
        ]
        if not all(isinstance(batch, Gathered) for _, batch in batches):
            samples = {
                place: one for here, batch in batches for place, one in zip(here.tolist(), batch, strict=True)
            }
            return [samples[place] for place in range(len(places))]
        if len(batches) == 1:
            only: Sequence[Any] = batches[0][1]
            return only
        Xs = [(here, batch.X) for here, batch in batches]
        first = Xs[0][1]
        parts = [
            together([(here, list(fields(X).values())[i]) for here, X in Xs], len(places))
            for i in range(len(fields(first)))
        ]
        y = None
        if batches[0][1].y is not None:
            y = together([(here, batch.y) for here, batch in batches], len(places))
        return Gathered(with_fields(first, parts), y)

    @property
    def lengths(self) -> Array:
        "The first dimension of each sample (of its first field)"
        return numpy.concatenate([part.lengths for part in self.parts])


def together(parts: list[tuple[torch.Tensor, torch.Tensor]], rows: int) -> torch.Tensor:
    "One tensor of `rows` rows, of (the places of some, these rows)"
    whole = torch.empty((rows, *parts[0][1].shape[1:]), dtype=parts[0][1].dtype)
    for places, values in parts:
        whole.index_copy_(0, places, values)
    return whole


def kind_in_words(dataset: PackedDataset) -> str:
    "Of its samples and targets, in words"
    each = ", ".join(
        f"{field.name}: {field.dtype}"
        + ("" if field.offsets is not None else f" of shape {'×'.join(map(str, field.values.shape[1:]))}")
        for field in dataset.pack.fields
    )
    y = "no targets" if dataset.y is None else "whole numbers" if is_plain(dataset.y) else "numbers"
    return f"{dataset.pack.form}s of {each}, with {y}"
