"""Several processes that train together: each visits its share of an epoch, or is told that it would not.

The processes of a group are numbered: `rank` is the number of this one, from 0, `ranks` how many there are.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, WeightedRandomSampler

WHOLE = (RandomSampler, SequentialSampler, WeightedRandomSampler)  # and ours that have `ranks`, which is None


def refuse_ranks(rank: int | None, ranks: int | None) -> None:
    "Raises ValueError for a share that there is not"
    if rank is None and ranks is None:
        return
    if rank is None or ranks is None:
        raise ValueError("rank and ranks go together: give both, or neither for all samples")
    if not 0 <= rank < ranks:
        raise ValueError(f"rank must be at least 0 and less than ranks, they are {rank} and {ranks}")


def refuse_whole(loader: Any) -> None:
    "Raises RuntimeError if each of several processes would get all samples; one's own sampler is trusted"
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()) or (ranks := group.get_world_size()) < 2:
        return
    order = loader.batch_sampler
    if type(order) is BatchSampler:
        order = order.sampler
    if type(order) in WHOLE or getattr(order, "ranks", ranks) is None:
        raise RuntimeError(
            f"each of the {ranks} processes would get all samples: give PrefetchLoader a sampler that shares "
            f"them out, EpochSampler(size, rank=rank, ranks={ranks}) or torch's DistributedSampler; or "
            "EpochSampler(size, rank=0, ranks=1), if each is to get all"
        )


def set_epoch(loader: Any, epoch: int) -> None:
    "Tells the loader's order of samples in which epoch it is, if it has a `set_epoch`"
    for order in (loader.batch_sampler, loader.sampler):
        if setter := setter_of(order):
            setter(epoch)
            return


def reach_epochs(order: Any) -> None:
    """Lets torch's own batch sampler pass on the epoch to its sampler.

    Hugging Face's Trainer, when it resumes in the middle of an epoch, knows nothing but the batch sampler.
    """
    if type(order) is BatchSampler and (setter := getattr(order.sampler, "set_epoch", None)):
        order.set_epoch = setter  # type: ignore[attr-defined]


def setter_of(order: Any) -> Callable[[int], Any] | None:
    "The `set_epoch` of a sampler, or of the one that it wraps"
    while order is not None:
        setter: Callable[[int], Any] | None = getattr(order, "set_epoch", None)
        if setter is not None:
            return setter
        inner = getattr(order, "batch_sampler", None)
        order = getattr(order, "sampler", None) if inner is None else inner
    return None
