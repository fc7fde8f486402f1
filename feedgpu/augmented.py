"""Samples that are changed at random each time they are visited, and repeatably."""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import torch

from .memory import Gathered, to_stack
from .order import draws
from .threads import Batch, Foreseen, Foresight, Threads


class Augmented(torch.utils.data.Dataset[Any]):
    """The samples of another dataset, each changed at random, and repeatably.

        training_set = Augmented(Dataset(partition["train"], labels), partition["train"], mirror, seed=0)

    `dataset`: any that has the samples of `list_IDs`, in their order. `augment(X, random)` returns the
    changed X; with workers under spawn or forkserver it is a function of a module. `random` is a
    random.Random whose numbers are a function of (seed, epoch, ID), if an EpochSampler gives the index; else
    they differ each time. One Augmented in another needs a seed of its own, or both draw the same.

    A dataset that has threads, as ImageDataset has, runs `augment` in them. The samples of a PackedDataset
    are gathered a batch at once, and then changed one by one.
    """

    def __init__(
        self, dataset: Any, list_IDs: Sequence[str], augment: Callable[[Any, Random], Any], seed: int = 0
    ) -> None:
        "Initialization"
        self.dataset = dataset
        self.list_IDs = list_IDs
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        "Denotes the total number of samples"
        return len(self.list_IDs)

    def __getitem__(self, index: int) -> Any:
        "Generates one sample of data"
        return self._changed(self.dataset[index], index)

    def _changed(self, sample: Any, index: int) -> Any:
        random = draws(self.seed, self.list_IDs[index], index)
        if has_no_targets(self.dataset):
            return self.augment(sample, random)
        X, y = sample
        return self.augment(X, random), y

    def __getitems__(self, indices: list[int]) -> Sequence[Any]:
        "Generates the samples of one batch"
        if isinstance(indices, Foreseen) and (made := indices.wait()) is not None:
            return made
        if self._threads:
            return self._begin(indices).wait()
        if type(self).__getitem__ is Augmented.__getitem__ and getattr(self.dataset, "gathers", False):
            plain: Gathered = self.dataset.__getitems__(indices)
            samples = [self._changed(one, index) for one, index in zip(plain.samples(), indices, strict=True)]
        else:
            samples = [self[index] for index in indices]
        return to_stack(samples, [self.list_IDs[index] for index in indices])

    def foresee(self, batches: Iterable[list[int]]) -> Foresight:
        "As that of ImageDataset, if the dataset has threads"
        return Foresight(self._begin if self._threads else None, batches)

    @property
    def _threads(self) -> Threads | None:
        return getattr(self.dataset, "_threads", None)

    def _begin(self, indices: Sequence[int]) -> Batch:
        assert self._threads
        return Batch(self._threads, self.__getitem__, indices, self.list_IDs.__getitem__)


def has_no_targets(dataset: Any) -> bool:
    "Whether a dataset of this package was made without labels: then its samples are X alone"
    return getattr(dataset, "labels", ...) is None or getattr(dataset, "y", ...) is None
