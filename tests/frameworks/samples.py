"""A small packed dataset, whose labels say which sample it is; and what the scenes make of it."""

from pathlib import Path

import torch
from torch import nn

from feedgpu import EpochSampler, PackedDataset, PrefetchLoader, load_notation
from feedgpu.prepare import Source, pack, write

SIZE, HELD_OUT, BATCH = 21, 6, 4
SEED = 5


def write_samples(root: Path) -> Path:
    "SIZE samples to train, HELD_OUT to validate: id-7 is X = [7, 3.5], y = 7"
    IDs = [f"id-{i}" for i in range(SIZE + HELD_OUT)]
    labels = {ID: i for i, ID in enumerate(IDs)}
    partition = {"train": IDs[:SIZE], "validation": IDs[SIZE:]}
    write(Source(partition, labels, None, lambda ID: torch.tensor([labels[ID], labels[ID] / 2])), root)
    pack(root)
    return root


def rows(root, part="train"):
    partition, labels = load_notation(root)
    return PackedDataset(partition[part], labels, root)


def loader(root, part="train", **how):
    return PrefetchLoader(rows(root, part), **({} if "batch_sampler" in how else {"batch_size": BATCH}) | how)


def shared(root, ranks, rank, part="train", **how):
    "A loader whose sampler shares the samples out, if there are several processes"
    share = {"rank": rank, "ranks": ranks} if ranks > 1 else {}
    return loader(root, part, sampler=EpochSampler(len(rows(root, part)), SEED, **share), **how)


def expected(ranks, rank, epochs=2, size=SIZE):
    "The orders of EpochSampler, epoch by epoch"
    sampler, found = EpochSampler(size, SEED, rank=rank, ranks=ranks), []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found.append([int(visit) for visit in sampler])
    return found


def every_sample_once(epochs):
    return [sorted(order) for order in epochs] == [[*range(SIZE)]] * 2


def a_share_each(one, other):
    "Whether two ranks have as many samples in each epoch, and all of them together"
    pairs = list(zip(one, other, strict=True))
    whole = all({*a} | {*b} == {*range(SIZE)} and len(a) == len(b) < 0.6 * SIZE for a, b in pairs)
    return whole and len(pairs) == 2 and one[0] != one[1]


SAYS = (
    "RuntimeError: each of the 2 processes would get all samples: give PrefetchLoader a sampler that shares "
    "them out, EpochSampler(size, rank=rank, ranks=2) or torch's DistributedSampler; or "
    "EpochSampler(size, rank=0, ranks=1), if each is to get all"
)  # what each process is told, if its loop would go over all samples


class Net(nn.Module):
    "The same at the start in every process"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(2, SIZE + HELD_OUT)

    def forward(self, x):
        return self.linear(x)
