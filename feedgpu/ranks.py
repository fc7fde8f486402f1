"""Several processes that train one model: each needs a share of the samples, and not all of them."""

from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, WeightedRandomSampler

from .order import EpochSampler
from .unequal import SimilarLengths

OF_ALL = RandomSampler, SequentialSampler, WeightedRandomSampler


def refuse_unshared(batch_sampler: Any) -> None:
    """Raises RuntimeError in a process group where each process would get all samples. A sampler that is not
    torch's or ours is trusted to know its share."""
    ranks = processes()
    sampler = batch_sampler.sampler if type(batch_sampler) is BatchSampler else batch_sampler
    if isinstance(sampler, SimilarLengths):
        sampler = sampler.visits
    whole = type(sampler) in OF_ALL or (isinstance(sampler, EpochSampler) and sampler.ranks == 1)
    if ranks > 1 and whole:
        raise RuntimeError(
            f"each of these {ranks} processes would get all samples: give PrefetchLoader a sampler that "
            "knows its share, torch's DistributedSampler or EpochSampler(len(dataset), seed, "
            f"rank=torch.distributed.get_rank(), ranks={ranks}); or, where each is to have all of them, "
            "sampler=range(len(dataset))"
        )


def processes() -> int:
    "How many train together; 1 without a process group"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1
