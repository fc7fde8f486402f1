"""Any sample and any target: the same from files and from a pack, from all loaders and start methods."""

import json

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, StackDataset, default_collate

from feedgpu import ConcatPacked, DatasetError, PackedDataset, PrefetchLoader, load_notation
from feedgpu.prepare import check, pack
from feedgpu.prepare.layout import Source, write
from my_classes import Dataset

IDs = [f"id-{i}" for i in range(10)]
PARTITION = {"train": IDs[:7], "validation": IDs[7:]}


def picture(i: int) -> torch.Tensor:
    return torch.full((3, 4, 4), i, dtype=torch.uint8)


SAMPLES = {
    "a tensor": picture,
    "a tuple": lambda i: (picture(i), torch.tensor([i / 2, 1.0])),
    "one in a tuple": lambda i: (picture(i),),
    "a dict": lambda i: {"image": picture(i), "mask": picture(i)[0] > 3, "at": torch.tensor(i)},
}
TARGETS = {
    "a class": lambda i: i % 3,
    "a number": lambda i: i / 4,
    "several": lambda i: [i % 2, 1, 0.5],
    "none": None,
}
kinds = pytest.mark.parametrize(
    ("sample", "target"), [(s, t) for s in SAMPLES for t in TARGETS if s == "a tensor" or t != "several"]
)


def written(root, sample="a tensor", target="a class"):
    labels = {ID: TARGETS[target](i) for i, ID in enumerate(IDs)} if TARGETS[target] else None
    write(Source(PARTITION, labels, None, lambda ID: SAMPLES[sample](IDs.index(ID))), root)
    return load_notation(root)


def same(a, b) -> bool:
    "Whether two samples or batches are equal, and of one form"
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@kinds
def test_is_the_same_packed_or_not(tmp_path, sample, target):
    partition, labels = written(tmp_path, sample, target)
    pack(tmp_path)
    files = Dataset(partition["train"], labels, tmp_path)
    rows = PackedDataset(partition["train"], labels, tmp_path)
    given = files[3]
    X = given if labels is None else given[0]
    assert same(X, SAMPLES[sample](3))
    if target == "a class":
        assert given[1] == 0 and type(given[1]) is int
    elif labels is not None:
        assert given[1].dtype == torch.float32 and given[1].tolist() == TARGETS[target](3)
    assert all(same(files[i], rows[i]) for i in range(7))
    usual = list(DataLoader([files[i] for i in range(7)], 3))
    for dataset in (files, rows):
        assert all(map(same, usual, DataLoader(dataset, 3)))
        assert all(map(same, usual, PrefetchLoader(dataset, 3)))
        assert all(map(same, DataLoader(dataset, 3, num_workers=1), usual))
    assert check(tmp_path) == []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_under_every_start_method(tmp_path, method):
    partition, labels = written(tmp_path, "a dict", "a number")
    pack(tmp_path)
    how = {"num_workers": 1, "multiprocessing_context": method}
    usual = list(DataLoader(Dataset(partition["train"], labels, tmp_path), 3))
    for make in (Dataset, PackedDataset):
        assert all(map(same, usual, DataLoader(make(partition["train"], labels, tmp_path), 3, **how)))


def test_an_array_of_targets(tmp_path):
    partition, _ = written(tmp_path)
    pack(tmp_path)
    y = numpy.arange(14).reshape(7, 2) / 2
    (batch,) = DataLoader(PackedDataset(partition["train"], y, tmp_path), 7)
    assert batch[1].dtype == torch.float32 and torch.equal(batch[1], torch.from_numpy(y).float())
    with pytest.raises(DatasetError, match="or numbers for 7 IDs, but they are an array of float64 of sh"):
        PackedDataset(partition["train"], y[:6, 0], tmp_path)


def test_a_collate_fn_of_ones_own_is_asked(tmp_path):
    "Of unequal samples, from files and from a pack; and default_collate names two of them"
    partition, labels = written(tmp_path)
    torch.save(torch.zeros(3, 4, 5, dtype=torch.uint8), tmp_path / "id-2.pt")
    pack(tmp_path)
    for make, name in ((Dataset, "'id-2'"), (PackedDataset, "'row 2'")):
        dataset = make(partition["train"], labels, tmp_path)
        asked = list(DataLoader(dataset, 7, collate_fn=lambda samples: [X.shape[-1] for X, y in samples]))
        assert asked == [[4, 4, 5, 4, 4, 4, 4]]
        (kept,) = DataLoader(dataset, 7, collate_fn=list, num_workers=1)
        assert same(kept, [dataset[i] for i in range(7)])
        some = [sample for i, sample in enumerate(dataset.__getitems__(range(7))) if i != 2]
        assert default_collate(some)[0].shape == (6, 3, 4, 4)
        with pytest.raises(DatasetError, match=f"must be alike: .* but {name} is uint8 of shape 3×4×5"):
            list(DataLoader(dataset, 7))


def test_functions_that_ask_for_a_list(tmp_path):
    partition, _ = written(tmp_path, target="none")
    pack(tmp_path)
    dataset = PackedDataset(partition["train"], None, tmp_path)
    for loader in (PrefetchLoader, DataLoader):
        kinds = list(loader(dataset, 7, collate_fn=lambda samples: isinstance(samples, list)))
        assert kinds == [True]
    (stacked,) = PrefetchLoader(dataset, 7, collate_fn=torch.stack)  # written in C, it asks for nothing else
    assert same(stacked, torch.stack([picture(i) for i in range(7)]))


def test_a_batch_that_a_subclass_has_changed(tmp_path):
    class Changed(PackedDataset):
        def __getitems__(self, indices):
            samples = super().__getitems__(indices)
            samples[0] = samples[1]
            return samples

    partition, labels = written(tmp_path)
    pack(tmp_path)
    changed = Changed(partition["train"], labels, tmp_path)
    for loader in (
        PrefetchLoader(changed, 7),
        DataLoader(changed, 7),
        PrefetchLoader(ConcatPacked([changed]), 7),
    ):
        ((X, y),) = loader
        assert y.tolist() == [1, 1, 2, 0, 1, 2, 0] and torch.equal(X[0], X[1])


class Named(Dataset):
    def __getitem__(self, index):
        return *super().__getitem__(index), self.list_IDs[index]


class Scaled(PackedDataset):
    def __getitem__(self, index):
        X, y = super().__getitem__(index)
        return X.float() / 255, y


def test_a_subclass_returns_what_it_likes(tmp_path):
    partition, labels = written(tmp_path)
    pack(tmp_path)
    X, y, names = next(iter(DataLoader(Named(partition["train"], labels, tmp_path), 3)))
    assert X.shape == (3, 3, 4, 4) and y.tolist() == [0, 1, 2] and list(names) == IDs[:3]
    X, y = next(iter(DataLoader(Scaled(partition["train"], labels, tmp_path), 3)))
    assert X.dtype == torch.float32 and y.tolist() == [0, 1, 2]


def test_stacked_datasets(tmp_path):
    partition, labels = written(tmp_path)
    pack(tmp_path)
    rows = PackedDataset(partition["train"], labels, tmp_path)
    batch = next(iter(DataLoader(StackDataset(one=rows, other=rows), 4)))
    assert same(batch["one"], batch["other"]) and batch["one"][0].shape == (4, 3, 4, 4)


SPOILT = {
    "without a field": (
        {"image": picture(2), "at": torch.tensor(2)},
        "it has image, at, but 'id-0' has image, mask, at: samples must have the same fields",
    ),
    "another shape": (
        {"image": picture(2), "mask": torch.zeros(4, dtype=torch.bool), "at": torch.tensor(2)},
        "in field 'mask' it is bool of shape 4, but 'id-0' is bool of shape 4×4",
    ),
    "infinite": (
        {"image": picture(2).float() / 0, "mask": picture(2)[0] > 3, "at": torch.tensor(2)},
        "in field 'image' 48 of its 48 values are infinite or not a number",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_check_and_pack_name_the_field(tmp_path, kind):
    written(tmp_path, "a dict")
    sample, says = SPOILT[kind]
    torch.save(sample, tmp_path / "id-2.pt")
    assert any(fault.startswith("sample 'id-2': ") and says in fault for fault in check(tmp_path))
    with pytest.raises(DatasetError, match="samples of one pack must have .*'id-0' is .*but .*'id-2' is"):
        pack(tmp_path)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0.5, 1, 2.5], "1 ID whose target is no number with a point, as the others are: 'id-1'"),
        ([0.5, float("nan"), 2.5], "1 ID whose target is infinite or not a number: 'id-1'"),
        ([[1, 0], [1], [0, 1]], "1 ID whose target is no list of 2 numbers, as the others are: 'id-1'"),
        ([[1, 0], 1, [0, 1]], "1 ID whose target is no list of 2 numbers, as the others are: 'id-1'"),
        ([[1, 0], [1, float("inf")], [0, 1]], "1 ID whose target is infinite or not a number: 'id-1'"),
        ([1, None, 2], "1 ID with a label that is not an integer of at least 0: 'id-1'"),
        (["a", "b", "c"], "3 IDs with a label that is not an integer of at least 0"),
    ],
)
def test_targets_of_mixed_kinds_are_named(tmp_path, labels, says):
    for ID in IDs[:3]:
        torch.save(torch.zeros(2), tmp_path / f"{ID}.pt")
    (tmp_path / "partition.json").write_text(json.dumps({"train": IDs[:2], "validation": IDs[2:3]}))
    (tmp_path / "labels.json").write_text(json.dumps(dict(zip(IDs, labels, strict=False))))
    with pytest.raises(DatasetError, match=says):
        load_notation(tmp_path)


def test_samples_without_targets_need_not_be_divided(tmp_path):
    source = Source({"test": IDs}, None, None, lambda ID: picture(IDs.index(ID)))
    assert write(source, tmp_path) == ({"test": IDs}, None) == load_notation(tmp_path)
    pack(tmp_path)
    (batch,) = DataLoader(PackedDataset(IDs, None, tmp_path), 10)
    assert batch.shape == (10, 3, 4, 4) and check(tmp_path) == []


def test_a_label_that_is_a_date(tmp_path):
    written(tmp_path)
    labels = json.loads((tmp_path / "labels.json").read_text()) | {"id-4": 20190512}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    assert check(tmp_path) == [
        "the label of 'id-4' is 20190512: number the classes from 0 up, or write 20190512.0 if it is no class"
    ]


def test_image_files_in_place_of_tensors(tmp_path):
    "Read as if they were tensors: what to do"
    (tmp_path / "partition.json").write_text('{"train": ["a.png"], "validation": ["b.png"]}')
    (tmp_path / "labels.json").write_text('{"a.png": 0, "b.png": 1}')
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="its samples are image files: read them with feedgpu.images"):
        load_notation(tmp_path)
