"""feedgpu/ranks.py: of several processes each gets its share of the samples, or is told that it would not."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from feedgpu import EpochSampler, PrefetchLoader, SimilarLengths

SIZE = 11
NUMBERS = TensorDataset(torch.arange(SIZE))
SHARING = {
    "plain": lambda **share: EpochSampler(SIZE, 3, **share),
    "weighted": lambda **share: EpochSampler(SIZE, 3, [1.0] * 5 + [0.0] * 6, **share),
}


@pytest.fixture
def of_two(monkeypatch):
    "As in a group of two processes"
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)


def order_of(loader):
    return [int(i) for (X,) in loader for i in X]


@pytest.mark.parametrize("kind", SHARING)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 11, 30])
def test_the_ranks_share_the_visits_as_with_torchs_sampler(kind, ranks):
    whole, samplers = SHARING[kind](), [SHARING[kind](rank=rank, ranks=ranks) for rank in range(ranks)]
    for epoch in range(2):
        for sampler in (whole, *samplers):
            sampler.set_epoch(epoch)
        visits = [*whole]
        for rank, sampler in enumerate(samplers):
            theirs = DistributedSampler(visits, ranks, rank, shuffle=False)
            found = [*sampler]
            assert found == [visits[i] for i in theirs] and len(found) == len(sampler) == len(theirs)
        seen = [(int(one), one.epoch, one.before) for sampler in samplers for one in sampler]
        assert {(int(one), one.epoch, one.before) for one in visits} <= set(seen)
        assert len(set(seen)) == len(seen)  # whoever comes once more draws anew


def test_nothing_to_share():
    assert [*EpochSampler(0, rank=1, ranks=2)] == [] == [*EpochSampler(0)]


@pytest.mark.parametrize(
    ("share", "says"),
    [
        ({"rank": 0}, "rank and ranks go together"),
        ({"ranks": 2}, "rank and ranks go together"),
        ({"rank": 2, "ranks": 2}, "rank must be at least 0 and less than ranks, they are 2 and 2"),
        ({"rank": -1, "ranks": 2}, "they are -1 and 2"),
        ({"rank": 0, "ranks": 0}, "they are 0 and 0"),
    ],
)
def test_a_share_that_there_is_not(share, says):
    for make in (SHARING["plain"], lambda **share: SimilarLengths([1, 2], 1, **share)):
        with pytest.raises(ValueError, match=says):
            make(**share)


def test_similar_lengths_share_too():
    samplers = [SimilarLengths(range(SIZE), 2, rank=rank, ranks=2) for rank in range(2)]
    batches = [[*sampler] for sampler in samplers]
    assert [len(found) for found in batches] == [len(sampler) for sampler in samplers] == [3, 3]
    seen = Counter(i for found in batches for batch in found for i in batch)
    assert set(seen) == {*range(SIZE)} and seen.total() == 12


class Own(torch.utils.data.Sampler):
    "A sampler of the user's own"

    def __iter__(self):
        return iter([1, 2])

    def __len__(self):
        return 2


WHOLE = {
    "none": dict,
    "shuffle": lambda: {"shuffle": True},
    "sequential": lambda: {"sampler": SequentialSampler(NUMBERS)},
    "random": lambda: {"sampler": RandomSampler(NUMBERS)},
    "weighted": lambda: {"sampler": WeightedRandomSampler([1.0] * SIZE, 5)},
    "ours": lambda: {"sampler": EpochSampler(SIZE)},
    "ours, in batches": lambda: {"batch_sampler": BatchSampler(EpochSampler(SIZE), 2, False)},
    "lengths": lambda: {"batch_sampler": SimilarLengths(range(SIZE), 2)},
}
SHARED = {
    "ours": lambda: {"sampler": EpochSampler(SIZE, rank=1, ranks=2)},
    "ours, all": lambda: {"sampler": EpochSampler(SIZE, rank=0, ranks=1)},
    "torch's": lambda: {"sampler": DistributedSampler(NUMBERS, 2, 1)},
    "lengths": lambda: {"batch_sampler": SimilarLengths(range(SIZE), 2, rank=1, ranks=2)},
    "one's own": lambda: {"sampler": Own()},
    "a list": lambda: {"sampler": [1, 2]},
    "batches": lambda: {"batch_sampler": [[1, 2], [3]]},
}


@pytest.mark.parametrize("how", WHOLE)
def test_all_samples_for_each_process_are_refused(how, of_two, monkeypatch):
    loader = PrefetchLoader(NUMBERS, **WHOLE[how]())
    says = r"^each of the 2 processes would get all samples: .*EpochSampler\(size, rank=rank, ranks=2\) or to"
    with pytest.raises(RuntimeError, match=says):
        list(loader)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    assert order_of(loader)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    assert order_of(loader)
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert order_of(loader)


@pytest.mark.parametrize("how", SHARED)
def test_a_share_of_them_is_not(how, of_two):
    how = SHARED[how]()
    (order,) = how.values()
    found = order_of(PrefetchLoader(NUMBERS, **how))
    assert found == [i for one in order for i in (one if isinstance(one, list) else [one])]


class Wrapper:
    "As accelerate wraps a batch sampler"

    def __init__(self, inner):
        self.batch_sampler = inner

    def __iter__(self):
        return iter(self.batch_sampler)


@pytest.mark.parametrize(
    "put",
    [
        lambda order: {"sampler": order, "batch_size": 3},
        lambda order: {"batch_sampler": BatchSampler(order, 3, False)},
        lambda order: {"batch_sampler": Wrapper(BatchSampler(order, 3, False))},
        lambda order: {"batch_sampler": SimilarLengths([1] * SIZE, 3, seed=5)},
    ],
)
@pytest.mark.parametrize(
    "as_it_is", [lambda one: one, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_set_epoch_reaches_the_order(put, as_it_is):
    sampler = EpochSampler(SIZE, seed=5)
    loader = as_it_is(PrefetchLoader(NUMBERS, **put(sampler)))
    found = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        found.append(order_of(loader))
        sampler.set_epoch(epoch)
        if not isinstance(loader.batch_sampler, SimilarLengths):
            assert found[-1] == [*sampler]
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("how", [{}, {"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}])
def test_an_order_that_knows_no_epoch_is_left_alone(how):
    loader = PrefetchLoader(NUMBERS, **how)
    loader.set_epoch(3)
    assert order_of(loader)
