"""feedgpu/order.py: order and draws are functions of (seed, epoch, ID), whoever asks for them."""

import itertools
import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from feedgpu import Augmented, DatasetError, EpochSampler, PackedDataset, PrefetchLoader, Visit, draws
from feedgpu.order import hashed_seed
from feedgpu.prepare import pack
from my_classes import Dataset

ROOT = Path(__file__).resolve().parents[2]

SAMPLES, EPOCHS = 24, 3


def number(X, random):
    "In place of a picture that is changed: what was drawn for it"
    return torch.tensor([random.random(), random.random()])


def augmented(root, labels, IDs, kind=Dataset, seed=0):
    return Augmented(kind(IDs, labels, root), IDs, number, seed)


def drawn(loader, sampler, epochs=range(EPOCHS)):
    "{(epoch, label): what was drawn}; each label is that of one sample"
    found = {}
    for epoch in epochs:
        sampler.set_epoch(epoch)
        for X, y in loader:
            assert not {(epoch, label) for label in y.tolist()} & set(found)
            found |= {(epoch, label): tuple(x) for label, x in zip(y.tolist(), X.tolist(), strict=True)}
    return found


@pytest.fixture
def numbered(dataset):
    root, partition, _ = dataset(training=SAMPLES)
    IDs = partition["train"]
    labels = {ID: i for i, ID in enumerate([*IDs, *partition["validation"]])}
    (root / "labels.json").write_text(json.dumps(labels))
    return root, labels, IDs


@pytest.fixture
def alone(numbered):
    "What is drawn in a plain loop over IDs: nothing of a loader is in it"
    root, labels, IDs = numbered
    return {
        (epoch, labels[ID]): tuple(number(None, draws(0, ID, Visit(0, epoch))).tolist())
        for epoch in range(EPOCHS)
        for ID in IDs
    }


def loader_of(dataset, batch_size, workers, start=None, persistent=False, kind=DataLoader):
    sampler = EpochSampler(len(dataset))
    how = {"num_workers": workers, "persistent_workers": persistent, "multiprocessing_context": start}
    return kind(dataset, batch_size, sampler=sampler, **how), sampler


# spawn and forkserver start a Python that imports torch, in seconds: once each, with the rest at its worst
GRID = [
    *itertools.product([1, 5, 24], [0], [None], [False], [DataLoader, PrefetchLoader]),
    *itertools.product([1, 5, 24], [1, 2], ["fork"], [False, True], [DataLoader]),
    *itertools.product([5], [2], ["spawn", "forkserver"], [True], [DataLoader]),
]


@pytest.mark.parametrize(("batch_size", "workers", "start", "persistent", "kind"), GRID)
def test_the_grid(numbered, alone, batch_size, workers, start, persistent, kind):
    root, labels, IDs = numbered
    if start and start not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {start}")
    dataset = augmented(root, labels, IDs)
    found = drawn(*loader_of(dataset, batch_size, workers, start, persistent, kind))
    assert found == alone and len(found) == SAMPLES * EPOCHS
    assert len(set(found.values())) == SAMPLES * EPOCHS


@pytest.mark.parametrize("kind", [DataLoader, PrefetchLoader])
def test_of_a_packed_dataset_too(numbered, alone, kind):
    root, labels, IDs = numbered
    pack(root)
    assert drawn(*loader_of(augmented(root, labels, IDs, PackedDataset), 5, 0, kind=kind)) == alone


@pytest.mark.parametrize(("workers", "kind"), [(0, DataLoader), (2, DataLoader), (0, PrefetchLoader)])
def test_of_two_iterators_in_two_epochs_at_once(numbered, alone, workers, kind):
    root, labels, IDs = numbered
    loader, sampler = loader_of(augmented(root, labels, IDs), 5, workers, kind=kind)
    iterators, batches = [], []
    for epoch in (0, 2):
        sampler.set_epoch(epoch)
        iterators.append(iter(loader))
        batches.append((epoch, next(iterators[-1])))
    sampler.set_epoch(1)  # comes too late for both
    for pair in zip(*iterators, strict=True):
        batches += zip((0, 2), pair, strict=True)
    found = {
        (epoch, label): tuple(x)
        for epoch, (X, y) in batches
        for label, x in zip(y.tolist(), X.tolist(), strict=True)
    }
    assert found == {key: value for key, value in alone.items() if key[0] != 1}


def test_after_a_resume_in_another_process(numbered, alone):
    root, labels, IDs = numbered
    code = (
        "import json, sys; from test_order import *\n"
        "root, labels, IDs = json.load(sys.stdin)\n"
        "loader = loader_of(augmented(root, labels, IDs), 7, 1, persistent=True)\n"
        "print([[*key, *value] for key, value in drawn(*loader, epochs=range(1, EPOCHS)).items()])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([str(root), labels, IDs]),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])},
    )
    found = {(epoch, label): tuple(value) for epoch, label, *value in json.loads(run.stdout)}
    assert found == {key: value for key, value in alone.items() if key[0] > 0}


def test_numbers_of_other_kinds_are_the_same_numbers(numbered, alone):
    root, labels, IDs = numbered
    sampler = EpochSampler(SAMPLES, seed=numpy.int64(0))
    dataset = augmented(root, labels, IDs, seed=torch.tensor(0))
    assert drawn(DataLoader(dataset, 5, sampler=sampler), sampler, numpy.arange(EPOCHS)) == alone


def test_another_seed_draws_something_else(numbered, alone):
    root, labels, IDs = numbered
    found = drawn(*loader_of(augmented(root, labels, IDs, seed=1), 24, 0))
    assert not set(found.values()) & set(alone.values())


def test_pytorchs_and_pythons_own_generators_are_left_alone(numbered):
    root, labels, IDs = numbered
    states = torch.get_rng_state(), random.getstate()
    augmented(root, labels, IDs)[Visit(3, 1)]
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]


def test_without_an_epoch_nothing_is_repeated(numbered):
    root, labels, IDs = numbered
    dataset = augmented(root, labels, IDs)
    assert len({tuple(dataset[3][0].tolist()) for _ in range(20)}) == 20
    plain = DataLoader(Subset(dataset, range(12)), 12, num_workers=1, persistent_workers=True)
    assert len({tuple(x) for _ in range(3) for X, _ in plain for x in X.tolist()}) == 36


def test_a_visit_is_the_plain_number_and_travels():
    visit = Visit(7, 2, 1)
    assert visit == 7 and [*range(9)][visit] == 7 and torch.arange(9)[visit] == 7
    there = pickle.loads(pickle.dumps(visit))
    assert (there, there.epoch, there.before) == (7, 2, 1) and isinstance(there, Visit)


def test_errors_pass(numbered):
    root, labels, IDs = numbered
    (root / f"{IDs[3]}.pt").unlink()
    with pytest.raises(DatasetError, match="'id-4'.*there is no such file"):
        list(loader_of(augmented(root, labels, IDs), 5, 0)[0])


def test_unequal_results_are_named(numbered):
    root, labels, IDs = numbered
    dataset = augmented(root, labels, IDs)
    dataset.augment = lambda X, random: torch.zeros(random.randrange(1, 50))
    with pytest.raises(DatasetError, match="samples of one batch must be alike: 'id-"):
        list(loader_of(dataset, 24, 0)[0])


# The order


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(50, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    orders = {(seed, epoch): order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert all(sorted(visited) == list(range(50)) for visited in orders.values())
    assert len(set(map(tuple, orders.values()))) == 9
    torch.manual_seed(7)
    assert order(2, 1) == orders[2, 1]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_do_not_change_the_order(dataset, num_workers):
    root, partition, labels = dataset()
    labels = {ID: i for i, ID in enumerate(partition["train"])}
    training_set = Dataset(partition["train"], labels, root)
    orders = []
    for workers in (0, num_workers):
        sampler = EpochSampler(len(training_set), seed=1)
        loader = DataLoader(
            training_set, 5, sampler=sampler, num_workers=workers, persistent_workers=workers > 0
        )
        orders.append([])
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders[-1].append(torch.cat([y for _, y in loader]).tolist())
    assert orders[0] == orders[1]


def test_a_hashed_seed_is_the_same_everywhere():
    assert hashed_seed(0, 1) == 8566881351708354045
    assert 0 <= hashed_seed("a", 1.5) < 2**63


def test_another_process_has_the_same_order():
    code = "from feedgpu import EpochSampler; print(list(EpochSampler(9, 4)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == f"{list(EpochSampler(9, 4))}\n"


# Weights


def test_each_sample_is_drawn_as_often_as_its_weight_says():
    sampler = EpochSampler(8000, seed=1, weights=[1, 0, 3, 4] * 2000)
    counts = Counter(visit % 4 for visit in sampler)
    assert len(sampler) == sum(counts.values()) == 8000 and 1 not in counts
    for index, expected in {0: 1000, 2: 3000, 3: 4000}.items():
        assert abs(counts[index] - expected) < 250  # five standard deviations


def test_a_weighted_epoch_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(40, seed, weights=torch.arange(1, 41))
        sampler.set_epoch(epoch)
        return [(visit, visit.epoch, visit.before) for visit in sampler]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(2)}) == 4


def test_a_sample_that_comes_again_in_its_epoch_draws_anew(numbered):
    root, labels, IDs = numbered
    dataset = augmented(root, labels, IDs)
    sampler = EpochSampler(SAMPLES, weights=[1] + [0] * (SAMPLES - 1))
    numbers = [tuple(dataset[visit][0].tolist()) for visit in sampler]
    assert len(set(numbers)) == SAMPLES
    assert numbers[0] == tuple(number(None, draws(0, IDs[0], Visit(0, 0))).tolist())


@pytest.mark.parametrize("weights", [[1, -1], [0, 0], [float("nan"), 1], [float("inf"), 1], [[1, 2]], []])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be numbers of at least 0"):
        EpochSampler(4, weights=weights)


def test_weights_of_another_number_than_the_samples_are_refused():
    with pytest.raises(ValueError, match="there are 1,000 samples and 3 weights"):
        EpochSampler(1000, weights=[0.2, 0.3, 0.5])


def test_a_million_visits_are_made_in_parts():
    "so that no list of all is held"
    sampler = EpochSampler(1_000_000)
    assert len(list(itertools.islice(sampler, 3000))) == 3000
    visit = next(iter(sampler))
    assert not hasattr(visit, "__dict__") and sys.getsizeof(visit) < 50
