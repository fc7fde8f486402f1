"""Samples of unequal length, such as sounds and texts: batches of similar ones, padded to one length.

    training_set = PackedDataset(partition["train"], labels)
    order = SimilarLengths(training_set.lengths, batch_size=64)
    training_generator = DataLoader(training_set, batch_sampler=order, collate_fn=padded)
    for local_batch, mask, lengths, local_labels in training_generator:

A Dataset does not know the lengths of its samples: collect them once, or pack it.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

from .notation import DatasetError
from .order import EpochSampler, Visit
from .sample import describe


class Padded(NamedTuple):
    "A batch of N samples, of which the longest has L elements along their first dimension"

    X: torch.Tensor  # N×L×…, 0 behind the end of each sample
    mask: torch.Tensor  # N×L, bool: True where a value belongs to the sample
    lengths: torch.Tensor  # N, int64
    y: torch.Tensor  # N


def padded(samples: list[tuple[torch.Tensor, int]]) -> Padded:
    """A collate_fn for samples `(X, y)` whose first dimensions differ.

    Raises DatasetError for samples that differ in anything else, and for no samples at all.
    """
    if not samples:
        raise DatasetError("a batch without samples: leave samples out of list_IDs, not out of batches")
    first = samples[0][0]
    for X, _ in samples:
        if X.dim() == 0 or X.shape[1:] != first.shape[1:] or X.dtype != first.dtype:
            raise DatasetError(
                "samples of one batch may differ in their first dimension and in nothing else: "
                f"one is {describe(first)}, another {describe(X)}"
            )
    lengths = torch.tensor([len(X) for X, _ in samples])
    X = pad_sequence([X for X, _ in samples], batch_first=True)
    mask = torch.arange(X.shape[1]) < lengths[:, None]
    return Padded(X, mask, lengths, default_collate([y for _, y in samples]))


class SimilarLengths(torch.utils.data.Sampler[list[Visit]]):
    """A batch sampler whose batches have samples of similar lengths, so that little is padded.

    `lengths`: one of each sample. The visits of an epoch are those of EpochSampler(size, seed, weights, rank,
    ranks). They are cut into pools of `pool` batches, each pool is sorted, and the batches are shuffled: a
    function of (seed, epoch). A larger pool pads less, and leaves less to chance: with all samples in one,
    the same meet in each epoch. `drop_last`: leaves out, at random, what is over when the batches are full.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        pool: int = 50,
        drop_last: bool = False,
        weights: Sequence[float] | torch.Tensor | None = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        if weights is not None and len(weights) != len(lengths):
            raise ValueError(f"there are {len(lengths):,} lengths and {len(weights):,} weights")
        if batch_size < 1 or pool < 1:
            raise ValueError(f"batch_size and pool must be at least 1, they are {batch_size} and {pool}")
        self.lengths = [int(length) for length in lengths]
        self.visits = EpochSampler(len(lengths), seed, weights, rank, ranks)
        self.sampler = self.visits  # by this name Lightning looks for what has a set_epoch
        self.ranks = ranks
        self.batch_size, self.pool, self.drop_last = batch_size, pool, drop_last

    def set_epoch(self, epoch: int) -> None:
        self.visits.set_epoch(epoch)

    def __len__(self) -> int:
        "Batches of an epoch"
        whole, rest = divmod(len(self.visits), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[Visit]]:
        visits, seed = list(self.visits), self.visits.epoch_seed
        if self.drop_last:  # before sorting: chance picks the samples that are dropped
            visits = visits[: len(self) * self.batch_size]
        batches: list[list[Visit]] = []
        for pool in in_parts(visits, self.pool * self.batch_size):
            batches += in_parts(sorted(pool, key=self.lengths.__getitem__), self.batch_size)
        Random(seed).shuffle(batches)
        return iter(batches)


def in_parts(visits: list[Visit], size: int) -> list[list[Visit]]:
    "Into parts of that size; the last one may be smaller"
    return [visits[start : start + size] for start in range(0, len(visits), size)]
