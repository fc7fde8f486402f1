"""Plain torch.distributed: loops over PrefetchLoader, in each process of a group, and in one alone."""

import os

import torch
from samples import BATCH, SEED, SIZE, Net, loader, rows, shared
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DistributedSampler, SequentialSampler

from feedgpu import EpochSampler, SimilarLengths

if "RANK" in os.environ:
    torch.distributed.init_process_group("gloo")


def orders(loader, epochs=2):
    found = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        found.append([i for _, y in loader for i in y.tolist()])
    return found


def a_share_each(root, rank, ranks):
    return orders(shared(root, ranks, rank))


def torchs_sampler(root, rank, ranks):
    return orders(loader(root, sampler=DistributedSampler(rows(root), ranks, rank, seed=SEED)))


def similar_lengths(root, rank, ranks):
    lengths = [i % 5 for i in range(SIZE)]
    order = SimilarLengths(lengths, BATCH, **({"rank": rank, "ranks": ranks} if ranks > 1 else {}))
    return orders(loader(root, batch_sampler=order))


def all_for_each_if_asked_for(root, rank, ranks):
    return orders(loader(root, sampler=EpochSampler(SIZE, SEED, rank=0, ranks=1)))


def in_order(root, rank, ranks):
    return orders(loader(root))


def shuffled(root, rank, ranks):
    return orders(loader(root, shuffle=True))


def epoch_sampler(root, rank, ranks):
    return orders(loader(root, sampler=EpochSampler(SIZE, SEED)))


def batch_sampler(root, rank, ranks):
    return orders(loader(root, batch_sampler=BatchSampler(SequentialSampler(rows(root)), BATCH, False)))


def similar_lengths_of_all(root, rank, ranks):
    return orders(loader(root, batch_sampler=SimilarLengths([1] * SIZE, BATCH)))


def trained_together(root, rank, ranks):
    "The weights after two epochs: no process waits for another that has fewer batches"
    net = Net()
    if ranks > 1:
        net = torch.nn.parallel.DistributedDataParallel(net)
    optimizer, batches = torch.optim.SGD(net.parameters(), 0.01), shared(root, ranks, rank)
    for epoch in range(2):
        batches.set_epoch(epoch)
        for x, y in batches:
            optimizer.zero_grad()
            cross_entropy(net(x), y).backward()
            optimizer.step()
    return [X.tolist() for X in net.parameters()]


SHARING = [a_share_each, torchs_sampler, similar_lengths]
WHOLE = [in_order, shuffled, epoch_sampler, batch_sampler, similar_lengths_of_all]
SCENES = [*SHARING, *WHOLE, all_for_each_if_asked_for, trained_together]
