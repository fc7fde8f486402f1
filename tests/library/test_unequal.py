"""feedgpu/unequal.py: nothing is lost in padding, and batches of similar length are those of their epoch."""

import json

import numpy
import pytest
import torch
from torch.utils.data import DataLoader

from feedgpu import (
    DatasetError,
    EpochSampler,
    PackedDataset,
    PrefetchLoader,
    SimilarLengths,
    load_notation,
    padded,
)
from feedgpu.prepare import pack
from my_classes import Dataset


@pytest.fixture
def sounds(tmp_path):
    "60 samples of 1 to 200 rows of two numbers, which are their own label and place; the folder"
    generator = torch.Generator().manual_seed(0)
    labels = {f"id-{i}": i for i in range(60)}
    for ID, y in labels.items():
        length = int(torch.randint(1, 201, (), generator=generator))
        X = torch.stack([torch.full((length,), float(y)), torch.arange(length).float()], 1)
        torch.save(X, tmp_path / f"{ID}.pt")
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    (tmp_path / "partition.json").write_text(
        json.dumps({"train": list(labels)[:50], "validation": list(labels)[50:]})
    )
    return tmp_path


def check(loader):
    "All samples are there whole, and what is behind them is 0"
    seen = []
    for X, mask, lengths, y in loader:
        assert (
            X.shape == (len(y), lengths.max(), 2) and mask.shape == X.shape[:2] and mask.dtype == torch.bool
        )
        assert torch.equal(mask.sum(1), lengths) and not X[~mask].any()
        for x, length, label in zip(X, lengths.tolist(), y.tolist(), strict=True):
            assert (x[:length, 0] == label).all() and torch.equal(x[:length, 1], torch.arange(length).float())
        seen += y.tolist()
    assert sorted(seen) == list(range(50))


@pytest.mark.parametrize("kind", [Dataset, PackedDataset])
@pytest.mark.parametrize(("make", "workers"), [(DataLoader, 0), (DataLoader, 2), (PrefetchLoader, 0)])
@pytest.mark.parametrize("similar", [False, True])
def test_nothing_is_lost(sounds, kind, make, workers, similar):
    pack(sounds)
    partition, labels = load_notation(sounds)
    dataset = kind(partition["train"], labels, sounds)
    lengths = PackedDataset(partition["train"], labels, sounds).lengths
    assert lengths.tolist() == [len(torch.load(sounds / f"{ID}.pt")) for ID in partition["train"]]
    order = {"batch_sampler": SimilarLengths(lengths, 8)} if similar else {"batch_size": 8}
    check(make(dataset, collate_fn=padded, num_workers=workers, **order))


def test_lengths_of_equal_samples(dataset):
    root, partition, labels = dataset()
    pack(root)
    assert PackedDataset(partition["train"], labels, root).lengths.tolist() == [1] * 12


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (torch.zeros(3, 3), "one is float32 of shape 2×2, another float32 of shape 3×3"),
        (torch.zeros(3, 2, dtype=torch.int32), "another int32 of shape 3×2"),
        (torch.tensor(1.0), r"another float32 of shape \(\)"),
    ],
)
def test_what_differs_in_more_is_refused(other, said):
    with pytest.raises(DatasetError, match=said):
        padded([(torch.zeros(2, 2), 0), (other, 1)])


def test_empty_samples_are_padded_too():
    X, mask, lengths, y = padded([(torch.zeros(0), 0.5), (torch.ones(2), 1.5)])
    assert X.tolist() == [[0, 0], [1, 1]] and mask.tolist() == [[False] * 2, [True] * 2]
    assert lengths.tolist() == [0, 2] and y.tolist() == [0.5, 1.5]


def test_a_batch_can_be_pinned_and_unpacked_by_name():
    batch = padded([(torch.zeros(1), 0), (torch.ones(2), 1)])
    assert batch.X is batch[0] and batch._replace(y=None).mask is batch.mask


# The order


LENGTHS = torch.randint(1, 500, (403,), generator=torch.Generator().manual_seed(1))


def batches(epoch=0, **how):
    sampler = SimilarLengths(LENGTHS, 16, **how)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("pool", [1, 4, 1000])
@pytest.mark.parametrize("drop_last", [False, True])
def test_each_sample_comes_once(pool, drop_last):
    found = batches(pool=pool, drop_last=drop_last)
    assert len(found) == len(SimilarLengths(LENGTHS, 16, drop_last=drop_last)) == (25 if drop_last else 26)
    visits = [visit for batch in found for visit in batch]
    assert len(set(visits)) == len(visits) == (400 if drop_last else 403)
    assert {len(batch) for batch in found} == ({16} if drop_last else {16, 3})
    assert {visit.epoch for visit in visits} == {0}


def test_what_is_dropped_is_left_to_chance():
    left_out = [
        set(range(403)) - {visit for batch in batches(epoch, pool=1000, drop_last=True) for visit in batch}
        for epoch in range(40)
    ]
    assert {len(left) for left in left_out} == {3} and len(set().union(*left_out)) > 80


def test_no_samples_are_no_batch():
    assert list(SimilarLengths([], 4)) == list(SimilarLengths([1, 2], 4, drop_last=True)) == []
    with pytest.raises(DatasetError, match="leave samples out of list_IDs"):
        padded([])


def test_the_order_is_a_function_of_seed_and_epoch():
    assert batches(3, seed=2) == batches(3, seed=2)
    assert len({str(batches(epoch, seed=seed)) for seed in range(3) for epoch in range(3)}) == 9
    assert {visit.epoch for batch in batches(3) for visit in batch} == {3}


def test_a_larger_pool_pads_less():
    def share(pool):
        places = sum(len(batch) * LENGTHS[list(batch)].max().item() for batch in batches(pool=pool))
        return 1 - LENGTHS.sum().item() / places

    shares = [share(pool) for pool in (1, 4, 1000)]
    assert shares[0] > 0.4 and shares[0] > 2 * shares[1] > 4 * shares[2]


def test_the_batches_are_not_in_the_order_of_their_lengths():
    first = [LENGTHS[batch[0]].item() for batch in batches(pool=1000)]
    assert first != sorted(first) and len(set(first)) > 20


def test_weights_are_those_of_the_epoch_sampler():
    weights = torch.where(LENGTHS < 100, 10.0, 1.0)
    found = batches(2, seed=3, weights=weights, pool=4)
    sampler = EpochSampler(403, 3, weights)
    sampler.set_epoch(2)
    as_drawn = sorted((int(visit), visit.epoch, visit.before) for visit in sampler)
    assert sorted((int(visit), visit.epoch, visit.before) for batch in found for visit in batch) == as_drawn
    assert max(before for _, _, before in as_drawn) > 2
    for batch in found:
        assert (inside := LENGTHS[list(batch)].tolist()) == sorted(inside)
    with pytest.raises(ValueError, match="403 lengths and 402 weights"):
        batches(weights=weights[1:])


def test_two_epochs_at_once_and_numbers_that_make_no_batch():
    sampler = SimilarLengths(LENGTHS, 16)
    first = iter(sampler)
    sampler.set_epoch(1)
    assert list(first) == batches(0) != list(sampler) == batches(1)
    for how in ({"batch_size": 0}, {"batch_size": 4, "pool": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            SimilarLengths(LENGTHS, **how)


def test_lengths_may_be_a_list_or_an_array():
    numbers = [3, 1, 2]
    orders = {str(list(SimilarLengths(kind(numbers), 2))) for kind in (list, torch.tensor, numpy.array)}
    assert len(orders) == 1
