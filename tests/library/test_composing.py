"""The datasets and loaders of feedgpu in torch's own combinations, and in those of others.

What a combination yields is what it yields over a plain dataset of the same samples: in DataLoader, in its
workers and in PrefetchLoader; with default_collate and with functions of one's own.
"""

import warnings
from itertools import product
from random import Random

import pytest
import torch
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    default_collate,
    random_split,
)

from feedgpu import (
    Augmented,
    ConcatPacked,
    EpochSampler,
    PackedDataset,
    PrefetchLoader,
    Visit,
    load_notation,
)
from feedgpu.images import ImageDataset
from feedgpu.prepare import pack_samples
from my_classes import Dataset

N = 24
IDs = [f"{i}.png" for i in range(N)]
LABELS = {ID: i for i, ID in enumerate(IDs)}


class Plain(torch.utils.data.Dataset):
    "The samples of another dataset, each as it is alone"

    def __init__(self, dataset):
        self.samples = [dataset[i] for i in range(len(dataset))]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    "Pictures, the same as .pt files and as a pack; in `dicts` a pack of dicts without targets"
    root = tmp_path_factory.mktemp("composing")
    for i, ID in enumerate(IDs):
        Image.new("RGB", (9, 8), (i, 2 * i, 255 - i)).save(root / ID)
    images = ImageDataset(IDs, LABELS, root, 8)
    samples = [(ID, *images[i]) for i, ID in enumerate(IDs)]
    for ID, X, _ in samples:
        torch.save(X.contiguous(), root / f"{ID}.pt")
    pack_samples({"train": samples, "validation": [("v", *images[0])]}, root / "pack")
    dicts = [(ID, {"a": X, "b": X.sum((1, 2))}) for ID, X, _ in samples]
    pack_samples({"train": dicts, "validation": [("v", dicts[0][1])]}, root / "dicts")
    return root


def packed(root, which="pack", **how):
    partition, labels = load_notation(root / which, None)
    return PackedDataset(partition["train"], labels, root / which, **how)


KINDS = {
    "files": lambda root, **how: Dataset(IDs, LABELS, root, **how),
    "pack": packed,
    "images": lambda root, **how: ImageDataset(IDs, LABELS, root, 8, **how),
    "dicts": lambda root, **how: packed(root, "dicts", **how),
    "packs": lambda root: ConcatPacked([Half(root, 0), Half(root, 1)]),
}
MAKE = {
    "DataLoader": DataLoader,
    "workers": lambda *how, **more: DataLoader(*how, num_workers=1, timeout=60, **more),
    "PrefetchLoader": PrefetchLoader,
    "threads": lambda *how, **more: PrefetchLoader(*how, threads=3, **more),
}


def Half(root, which):
    partition, labels = load_notation(root / "pack", None)
    return PackedDataset(partition["train"][which * N // 2 :][: N // 2], labels, root / "pack")


def mixed_up(samples):
    "A collate_fn of one's own, as mixup is: each with its neighbour"
    return [(str(a), str(b)) for a, b in zip(samples, samples[1:], strict=False)]


def named(samples):
    return {"batch": default_collate(samples), "many": len(samples)}


COMBINED = {
    "alone": lambda dataset: dataset,
    "Subset": lambda dataset: Subset(dataset, [3, 1, 17, 1, 5]),
    "Subset of a Subset": lambda dataset: Subset(Subset(dataset, range(3, 13)), torch.tensor([3, 1, 7])),
    "random_split": lambda dataset: random_split(dataset, [0.5, 0.5], torch.Generator().manual_seed(1))[1],
    "ConcatDataset": lambda dataset: ConcatDataset([dataset, Subset(dataset, [1, 2])]),
    "StackDataset": lambda dataset: StackDataset(image=dataset, again=dataset),
    "a tuple": lambda dataset: StackDataset(dataset, dataset),
}


def written(batches):
    return [str(batch).replace("Tensor(", "tensor(") for batch in batches]


@pytest.mark.parametrize(("kind", "make", "combined"), product(KINDS, MAKE, COMBINED))
def test_a_combination_yields_what_it_yields_over_plain_samples(root, kind, make, combined):
    dataset = KINDS[kind](root)
    own, plain = (COMBINED[combined](one) for one in (dataset, Plain(dataset)))
    for collate_fn in (None, mixed_up, named):
        expected = written(DataLoader(plain, 4, collate_fn=collate_fn))
        assert written(MAKE[make](own, 4, collate_fn=collate_fn)) == expected


@pytest.mark.parametrize("kind", [*KINDS][1:])  # the article's class has one sample for an index
def test_several_indices_are_a_batch(root, kind):
    dataset = KINDS[kind](root)
    expected = next(iter(DataLoader(Plain(dataset), 4)))
    for index in ([0, 1, 2, 3], slice(4), torch.arange(4), torch.arange(4).numpy()):
        assert written([list_of(dataset[index])]) == written([list_of(expected)])
    in_batches = BatchSampler(SequentialSampler(dataset), 4, False)
    found = DataLoader(dataset, sampler=in_batches, batch_size=None)
    assert written(map(list_of, found)) == written(map(list_of, DataLoader(Plain(dataset), 4)))


def list_of(batch):
    return list(batch.values()) if isinstance(batch, dict) else list(batch)


def darker(X, random):
    assert isinstance(random, Random)
    return (
        {name: darker(one, random) for name, one in X.items()}
        if isinstance(X, dict)
        else X // 2 + int(9 * random.random())
    )


def half(X):
    return {name: half(one) for name, one in X.items()} if isinstance(X, dict) else X // 2


@pytest.mark.parametrize(("kind", "make"), product([*KINDS][:4], MAKE))
def test_transform_and_augment_are_of_every_dataset(root, kind, make):
    "and what they draw is what Augmented draws: of the same sample the same, whatever it lies in"
    plain = KINDS[kind](root)
    assert written(MAKE[make](KINDS[kind](root, transform=half), 5)) == written(
        DataLoader([half(one) if kind == "dicts" else (half(one[0]), one[1]) for one in Plain(plain)], 5)
    )
    found = []
    for dataset in (KINDS[kind](root, augment=darker, seed=4), Augmented(plain, IDs, darker, 4)):
        if kind == "images":
            dataset.seed = None if isinstance(dataset, ImageDataset) else 0  # None: the middle of a picture
        sampler = EpochSampler(N, 1)
        sampler.set_epoch(2)
        found.append(written(MAKE[make](dataset, 5, sampler=sampler)))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["files", "pack", "images"])
def test_what_is_drawn_follows_the_epoch_through_a_subset(root, kind):
    "in PrefetchLoader; with DistributedSampler, too"
    dataset = Augmented(KINDS[kind](root), IDs, darker, 3)
    split = random_split(dataset, [10, 14], torch.Generator().manual_seed(2))[0]

    def epoch(sampler, number, of=split, **how):
        sampler.set_epoch(number)
        return {int(y): str(X) for X, y in PrefetchLoader(of, 1, sampler=sampler, **how)}

    for sampler in (EpochSampler(10, 5), DistributedSampler(split, num_replicas=1, rank=0)):
        for how in ({}, {"threads": 2}):
            zero, one, again = (epoch(sampler, number, **how) for number in (0, 1, 0))
            assert zero == again != one and len(zero) > 1
    drawn = {Visit(i, 1) for i in split.indices}
    assert epoch(EpochSampler(10, 5), 1) == {int(dataset[i][1]): str(dataset[i][0][None]) for i in drawn}


@pytest.fixture
def visits_are_known():
    list(EpochSampler(3))


@pytest.mark.usefixtures("visits_are_known")
@pytest.mark.parametrize(
    "loop",
    {
        "Subset": lambda one: DataLoader(Subset(one, range(8)), 4, sampler=EpochSampler(8)),
        "ConcatDataset": lambda one: DataLoader(ConcatDataset([one, one]), 4, sampler=EpochSampler(2 * N)),
        "prefetched": lambda one: PrefetchLoader(ConcatDataset([one, one]), 4, sampler=EpochSampler(2 * N)),
        "workers": lambda one: DataLoader(one, 4, shuffle=True),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_loop_whose_draws_cannot_be_repeated_is_told(root, loop):
    for kind in ("pack", "images"):
        dataset = Augmented(KINDS[kind](root), IDs, darker)
        with pytest.warns(RuntimeWarning, match="came without its epoch.*not repeatable"):
            list(loop[1](dataset))


@pytest.mark.usefixtures("visits_are_known")
def test_who_looks_at_a_sample_is_not_told(root):
    dataset = Augmented(KINDS["files"](root), IDs, darker)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset[3], dataset.__getitems__([1, 2])
        list(DataLoader(dataset, 4, sampler=EpochSampler(N)))
        list(PrefetchLoader(Subset(dataset, [1, 2]), 2, sampler=EpochSampler(2)))
