"""accelerate: what becomes of a PrefetchLoader in an Accelerator's hands, alone and with two processes."""

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.data_loader import BatchSamplerShard
from samples import BATCH, SEED, SIZE, Net, loader, rows, shared
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader

from feedgpu import EpochSampler, PrefetchLoader


def orders(batches, epochs=2):
    found = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        found.append([i for _, y in batches for i in y.tolist()])
    return found


def trained(batches, **how):
    "Two epochs as accelerate's documents have them: what the network saw, its weights and the steps taken"
    accelerator, net = Accelerator(cpu=True, **how), Net()
    net, optimizer, prepared = accelerator.prepare(net, torch.optim.SGD(net.parameters(), 0.01), batches)
    seen, steps = [], 0
    for epoch in range(2):
        prepared.set_epoch(epoch)
        seen.append([])
        for x, y in prepared:
            with accelerator.accumulate(net):
                accelerator.backward(cross_entropy(net(x), y))
                optimizer.step()
                steps += accelerator.sync_gradients
                optimizer.zero_grad()
            seen[-1] += y.tolist()
    weights = [X.tolist() for X in net.parameters()]
    return {"seen": seen, "weights": weights, "steps": steps, "as it was": prepared is batches}


def a_share_each(root, rank, ranks):
    return trained(shared(root, ranks, rank))


def whole(root, rank, ranks):
    return trained(loader(root, sampler=EpochSampler(SIZE, SEED)))


def whole_shuffled(root, rank, ranks):
    return trained(loader(root, shuffle=True))


def torchs_loader(root, rank, ranks):
    "For comparison: accelerate makes it anew, with a BatchSamplerShard"
    return trained(DataLoader(rows(root), BATCH, sampler=EpochSampler(SIZE, SEED)))


def shard_of_batches(root, rank, ranks):
    "accelerate's own way of sharing, given to our loader"
    order = BatchSamplerShard(BatchSampler(EpochSampler(SIZE, SEED), BATCH, False), ranks, rank)
    return orders(loader(root, batch_sampler=order))


def made_anew(root, rank, ranks):
    "prepare_data_loader takes whatever has the attributes of a DataLoader"
    prepared = Accelerator(cpu=True).prepare_data_loader(loader(root, sampler=EpochSampler(SIZE, SEED)))
    return {"seen": orders(prepared), "ours": isinstance(prepared, PrefetchLoader)}


def accumulated(root, rank, ranks):
    "Three batches an epoch, of which two make a step"
    batches = shared(root, ranks, rank, "validation", batch_size=2 // ranks)
    return trained(batches, gradient_accumulation_steps=2)["steps"]


def accumulated_by_torch(root, rank, ranks):
    batches = DataLoader(rows(root, "validation"), 2 // ranks)
    return trained(batches, gradient_accumulation_steps=2)["steps"]


def skipped(root, rank, ranks):
    batches = shared(root, ranks, rank)
    batches.set_epoch(1)
    return [i for _, y in skip_first_batches(batches, 2) for i in y.tolist()]


def gathered(root, rank, ranks):
    accelerator, seen = Accelerator(cpu=True), []
    for _, y in accelerator.prepare(shared(root, ranks, rank)):
        seen += accelerator.gather_for_metrics(y).tolist()
    return seen


SHARING = [a_share_each, torchs_loader]
BESIDE = [shard_of_batches, made_anew, accumulated, accumulated_by_torch, skipped, gathered]
SCENES = [*SHARING, whole, whole_shuffled, *BESIDE]
