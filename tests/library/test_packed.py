"""feedgpu/packed.py: a packed dataset gives what its files gave, to every loader, or says what is wrong."""

import gc
import itertools
import json
import multiprocessing
import os
import pickle
import shutil

import numpy
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from feedgpu import DatasetError, PackedDataset, load_notation
from feedgpu import packed as packed_module
from feedgpu.field import Field
from feedgpu.packed import Pack
from feedgpu.prepare import pack
from feedgpu.prepare.writing import header
from my_classes import Dataset

START_METHODS = multiprocessing.get_all_start_methods()


@pytest.fixture
def packed(dataset):
    "A dataset that was packed: its folder, its partition and its labels"

    def make(**how):
        root, partition, labels = dataset(**how)
        pack(root)
        return root, partition, labels

    return make


def equal(ones, others):
    "Whether two lists of pairs of tensors or numbers are equal, types included"
    if len(ones) != len(others):
        return False
    pairs = [(a, b) for one, other in zip(ones, others, strict=True) for a, b in zip(one, other, strict=True)]
    return all(
        type(a) is type(b) and (torch.equal(a, b) and a.dtype == b.dtype if torch.is_tensor(a) else a == b)
        for a, b in pairs
    )


def both(root, partition, labels, **how):
    return [kind(partition["train"], labels, root, **how) for kind in (Dataset, PackedDataset)]


# What it gives


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.float32, torch.float16, torch.int64, torch.bool, torch.bfloat16, torch.complex64],
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3,), (), (2, 0)], ids=str)
def test_samples_are_those_of_the_files(packed, dtype, shape):
    files, rows = both(*packed(shape=shape, dtype=dtype))
    assert len(rows) == len(files) == 12
    assert equal([rows[i] for i in range(12)], [files[i] for i in range(12)])
    assert equal([rows[-1], rows[-12]], [files[-1], files[0]])
    assert equal(list(DataLoader(rows, 5)), list(DataLoader(files, 5)))
    with pytest.raises(IndexError):
        rows[12]


def test_values_that_are_no_numbers_stay(dataset):
    root, partition, labels = dataset(shape=(2,))
    torch.save(torch.tensor([float("nan"), -0.0]), root / "id-1.pt")
    pack(root)
    X, _ = PackedDataset(partition["train"], labels, root)[0]
    assert X[0].isnan() and X[1].signbit()


COMPLEX = torch.complex(torch.arange(6.0), torch.arange(6.0) - 2).view(2, 3)


RARE = {
    "complex32": lambda X: X.to(torch.complex32),
    "its conjugate": lambda X: X.to(torch.complex32).conj(),
    "conjugate": torch.conj,
    "negative": lambda X: X.conj().imag,
    "complex128": lambda X: X.to(torch.complex128),
    "transposed": lambda X: X.T.conj(),
    "row": lambda X: X.conj()[0],
}


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("kind", RARE)
@pytest.mark.parametrize("unequal", [False, True])
def test_numbers_of_rare_kinds_and_views_that_are_not_computed_yet(dataset, kind, unequal):
    root, partition, labels = dataset()
    X = RARE[kind](COMPLEX)
    for i, ID in enumerate(labels):
        torch.save(X[: i % 2 + 1] if unequal else X, root / f"{ID}.pt")
    pack(root)
    rows = PackedDataset(partition["train"], labels, root)
    for i in range(12):
        Y, wanted = rows[i][0], X[: i % 2 + 1] if unequal else X
        assert Y.dtype == X.dtype and Y.shape == wanted.shape and not Y.is_conj() and not Y.is_neg()
        if X.dtype == torch.complex32:  # which torch cannot compare
            Y, wanted = Y.to(torch.complex64), wanted.to(torch.complex64)
        assert torch.equal(Y, wanted.resolve_conj().resolve_neg())


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_the_files(packed, workers):
    how = {"batch_size": 5, "num_workers": workers}
    files, rows = both(*packed(training=23))
    orders = [
        list(DataLoader(one, shuffle=True, generator=torch.Generator().manual_seed(1), **how))
        for one in (files, rows)
    ]
    assert equal(*orders)
    # Repeated and unsorted indices, in a subset, in a chain of datasets, with a sampler of its own
    order = [4, 4, 0, 22, 3, 4, 1]
    assert equal(list(DataLoader(rows, sampler=order, **how)), list(DataLoader(files, sampler=order, **how)))
    for put in (lambda one: Subset(one, order), lambda one: ConcatDataset([one, Subset(one, order)])):
        assert equal(list(DataLoader(put(rows), **how)), list(DataLoader(put(files), **how)))


@pytest.mark.parametrize("method", START_METHODS)
def test_workers_however_they_start(packed, method):
    files, rows = both(*packed())
    rows[0]  # what is open here need not be sent
    loader = DataLoader(rows, 5, num_workers=1, multiprocessing_context=method)
    assert equal(list(loader), list(DataLoader(files, 5)))


def negative(X):
    return -X


def test_a_transform_is_applied_to_each_sample(packed):
    files, rows = both(*packed(), transform=negative)
    assert equal([rows[3]], [files[3]])
    assert equal(list(DataLoader(rows, 5)), list(DataLoader(files, 5)))


def test_a_collate_fn_of_ones_own(packed):
    _, rows = both(*packed())

    def collate(samples):
        return torch.stack([X for X, _ in samples]).mean(0), [y for _, y in samples]

    _, labels = next(iter(DataLoader(rows, 5, collate_fn=collate)))
    assert labels == [0, 1, 2, 0, 1]


def test_the_labels_given_win(packed):
    root, partition, labels = packed()
    rows = PackedDataset(partition["train"], {ID: y + 7 for ID, y in labels.items()}, root)
    assert rows[1][1] == labels[partition["train"][1]] + 7
    halves = PackedDataset(partition["train"], {ID: y / 2 for ID, y in labels.items()}, root)
    files = Dataset(partition["train"], {ID: y / 2 for ID, y in labels.items()}, root)
    assert equal(list(DataLoader(halves, 5)), list(DataLoader(files, 5)))
    large = PackedDataset(partition["train"], dict.fromkeys(labels, 2**40), root)
    assert large[0][1] == 2**40


def test_the_order_of_the_IDs_given_counts(packed):
    root, partition, labels = packed()
    some = partition["validation"][::-1] + partition["train"][3:5]
    assert equal(
        list(DataLoader(PackedDataset(some, labels, root), 3)),
        list(DataLoader(Dataset(some, labels, root), 3)),
    )
    assert len(PackedDataset([], labels, root)) == 0


def test_what_is_changed_in_a_batch_does_not_reach_the_pack(packed):
    _, rows = both(*packed())
    (X, _), (again, _) = rows[0], rows[0]
    X.zero_()
    assert torch.equal(rows[0][0], again) and again.any()
    X, _ = next(iter(DataLoader(rows, 5)))
    X.zero_()
    assert torch.equal(rows[0][0], again)


def test_unequal_shapes(dataset):
    root, partition, labels = dataset(shape=(2,))
    for length, ID in enumerate(labels):
        torch.save(torch.arange(2.0 * length).view(2, length), root / f"{ID}.pt")
    manifest = pack(root)
    assert manifest["shape"] is None
    files, rows = both(root, partition, labels)
    assert equal([rows[i] for i in range(12)], [files[i] for i in range(12)])
    how = {"batch_size": 3, "collate_fn": list, "sampler": [5, 1, 1, 11, 2, 0]}
    for a, b in zip(DataLoader(rows, **how), DataLoader(files, **how), strict=True):
        assert equal(a, b)


def test_a_pack_whose_files_are_gone_is_a_dataset(packed):
    root, partition, labels = packed()
    files, rows = both(root, partition, labels)
    before = list(DataLoader(files, 5))
    for file in root.glob("*.pt"):
        file.unlink()
    assert load_notation(root, suffix=None) == (partition, labels)
    assert equal(list(DataLoader(PackedDataset(partition["train"], labels, root), 5)), before)


def test_names_that_are_hard_to_store(tmp_path):
    IDs = ["a", "ä" * 40, "deep/er/ß.x", "樹", "a b"]
    for i, ID in enumerate(IDs):
        (tmp_path / f"{ID}.pt").parent.mkdir(parents=True, exist_ok=True)
        torch.save(torch.tensor([i]), tmp_path / f"{ID}.pt")
    (tmp_path / "partition.json").write_text(json.dumps({"train": IDs[:3], "validation": IDs[3:]}))
    (tmp_path / "labels.json").write_text(json.dumps(dict.fromkeys(IDs, 0)))
    pack(tmp_path)
    assert [PackedDataset([ID], {ID: 0}, tmp_path)[0][0].item() for ID in IDs] == list(range(5))


# What it costs


def test_it_is_small_to_send(packed):
    root, partition, labels = packed(training=600, validation=1)
    small, large = (PackedDataset(partition["train"][:n], labels, root) for n in (100, 600))
    sizes = [len(pickle.dumps(one)) for one in (small, large)]
    assert sizes[0] <= 100 * 8 + 1024 and sizes[1] <= 600 * 8 + 1024


def test_its_files_are_opened_when_they_are_needed(packed):
    _, rows = both(*packed())
    sent = pickle.loads(pickle.dumps(rows))
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    assert sent._pack is None and len(sent) == 12
    assert torch.equal(sent[0][0], rows[0][0])
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) > descriptors
        del sent
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_batch_that_waited_makes_the_next_one_ask_in_advance(packed, monkeypatch):
    root, partition, labels = packed()
    (mapped,) = Pack(root).fields
    asked, reads = [], iter([0, 0, 5, 9, 9, 9, 9, 9])
    monkeypatch.setattr("feedgpu.field.disk_reads", lambda: next(reads))
    monkeypatch.setattr(os, "posix_fadvise", lambda *how: asked.append(how[1:3]), raising=False)
    size = 8 * 8 * 4
    for waited, rows in ((False, [3, 1]), (True, [2]), (False, [7, 0]), (False, [5])):
        mapped.gather(numpy.array(rows))
        assert mapped.waited == waited
    start = (root / "packed/samples.npy").stat().st_size - 16 * size
    # The first time nobody knows; then after a batch that waited
    assert asked == [(start + row * size, size) for row in (3, 1, 7, 0)]


def test_a_file_of_more_than_2_GiB(tmp_path, monkeypatch):
    "Its rows are numbered in 32 bits, its bytes are not. The file has a hole where nothing was written."
    rows, size = 20_000, 150_528
    folder = tmp_path / "packed"
    folder.mkdir()
    head = header(torch.uint8, (rows, size))
    with open(folder / "samples.npy", "wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + rows * size)
        stream.seek(-size, os.SEEK_END)
        stream.write(bytes([7]) * size)
    numpy.save(folder / "labels.npy", numpy.zeros(rows, numpy.int64))
    numpy.save(folder / "IDs.npy", numpy.array([b"%d" % row for row in range(rows)]))
    files = {file.name: file.stat().st_size for file in folder.iterdir()}
    manifest = {
        "version": 1,
        "samples": rows,
        "dtype": "uint8",
        "shape": [size],
        "files": files,
        "digest": "",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *how: asked.append(how[1]), raising=False)
    last = PackedDataset(["19999"], {"19999": 0}, tmp_path)
    assert (last[0][0] == 7).all() and asked[-1] == len(head) + (rows - 1) * size


# What is wrong


def damage(root, **changes):
    file = root / "packed/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cut(root):
    os.truncate(root / "packed/samples.npy", 300)


def other_array(root):
    "Of the same size in bytes, but of other rows"
    file = root / "packed/samples.npy"
    file.write_bytes(file.read_bytes().replace(b"(16, 1, 8, 8)", b"(8, 1, 16, 8)"))


FIELD = {"name": "a", "dtype": "float32", "shape": [1, 8, 8]}


@pytest.mark.parametrize(
    "spoil, says",
    [
        (
            lambda root: shutil.rmtree(root / "packed"),
            "there is no pack in .*: make one with feedgpu pack",
        ),
        (lambda root: (root / "packed/labels.npy").unlink(), "labels.npy is missing: pack again with"),
        (cut, "samples.npy has 300 bytes, its manifest says"),
        (other_array, "is not what its manifest says: pack again"),
        (lambda root: (root / "packed/manifest.json").write_text("{"), "cannot be read"),
        (lambda root: (root / "packed/manifest.json").write_text("[1]"), "is no manifest of a pack"),
        (
            lambda root: damage(root, version=3),
            "is of version 3, and this feedgpu reads up to 2: install",
        ),
        (lambda root: damage(root, version="1"), "is no manifest of a pack"),
        (lambda root: damage(root, version=2), "is no manifest of a pack"),
        *(
            (lambda root, fields=fields: damage(root, version=2, form="dict", fields=fields), "no manifest")
            for fields in (
                [],
                {},
                [1],
                [{"name": "a"}],
                [FIELD, FIELD],
                [FIELD | {"name": ""}],
                [FIELD | {"name": 3}],
            )
        ),
        (lambda root: damage(root, version=2, form="list", fields=[FIELD]), "is no manifest of a pack"),
        (lambda root: damage(root, dtype="load"), "is no manifest of a pack"),
        (lambda root: damage(root, samples=-1), "is no manifest of a pack"),
        (lambda root: damage(root, samples=17), "is not what its manifest says"),
        (lambda root: damage(root, dtype="float64"), "is not what its manifest says"),
        (lambda root: damage(root, shape=[1, 8, 9]), "is not what its manifest says"),
        (lambda root: damage(root, files={"../labels.json": 1}), "is no manifest of a pack"),
        (lambda root: (root / "id-1.pt").write_bytes(b""), "'id-1': .* cannot be read"),
        (
            lambda root: torch.save(torch.ones(1, 8, 8), root / "id-12.pt"),
            "'id-12': .* no longer what was packed",
        ),
    ],
)
def test_a_pack_that_cannot_be_used_says_so(packed, spoil, says):
    root, partition, labels = packed()
    spoil(root)
    with pytest.raises(DatasetError, match=says) as raised:
        PackedDataset(partition["train"], labels, root)
    assert "\n" not in str(raised.value) and str(root) in str(raised.value)


def test_offsets_that_lead_out_of_the_file_are_refused(dataset):
    root, partition, labels = dataset(shape=(2,))
    torch.save(torch.ones(5), root / "id-2.pt")
    pack(root)
    offsets = numpy.load(root / "packed/offsets.npy")
    for change in ([1, 10**9], [-1, 40], [1, -3]):
        wrong = offsets.copy()
        wrong[change[0]] = change[1]
        numpy.save(root / "packed/offsets.npy", wrong)
        with pytest.raises(DatasetError, match="is not what its manifest says"):
            PackedDataset(partition["train"], labels, root)


def test_a_pack_that_is_cut_short_while_it_is_used_does_not_end_the_process(packed):
    _, rows = both(*(there := packed()))
    sent = pickle.loads(pickle.dumps(rows))
    cut(there[0])
    with pytest.raises(DatasetError, match="300 bytes"):
        sent[0]


def test_IDs_and_labels_that_do_not_fit(packed):
    root, partition, labels = packed()
    with pytest.raises(DatasetError, match="2 IDs not in the pack: 'x', 'y'; pack again with feedgpu pack"):
        PackedDataset(["id-1", "x", "y"], labels | {"x": 0, "y": 0}, root)
    with pytest.raises(DatasetError, match="1 ID without a label: 'id-1'"):
        PackedDataset(["id-1"], {}, root)
    with pytest.raises(DatasetError, match="not in the pack: '../id-1'"):
        PackedDataset(["../id-1"], {"../id-1": 0}, root)


@pytest.mark.parametrize("at", [0, 5, 11])
@pytest.mark.parametrize(
    "label",
    [
        *("cat", "3", None, ["1"], [], 1j, 2**63, -(2**63) - 1, numpy.str_("1"), numpy.longdouble(1)),
        *(numpy.array(["1"]), torch.tensor(1.0, requires_grad=True)),
        torch.tensor(1.0, dtype=torch.bfloat16),
    ],
    ids=repr,
)
def test_a_label_that_is_no_number_is_named_wherever_it_is(packed, at, label):
    root, partition, labels = packed()
    bad = partition["train"][at]
    with pytest.raises(DatasetError) as raised:
        PackedDataset(partition["train"], labels | {bad: label}, root)
    assert str(raised.value) == f"labels must be numbers, or lists of them, but that of {bad!r} is {label!r}"


@pytest.mark.parametrize(
    "label",
    [True, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), numpy.int32(3), numpy.array(3), torch.tensor(3)],
    ids=repr,
)
def test_labels_that_are_numbers(packed, label):
    root, partition, labels = packed()
    rows = PackedDataset(partition["train"], labels | {"id-3": label}, root)
    assert rows[2][1] == label
    ((_, y),) = DataLoader(rows, 12)
    assert y[2].item() == label


@pytest.mark.parametrize("label", [0.5, [1], torch.tensor([1]), numpy.float32(0.5)], ids=repr)
def test_labels_of_two_kinds_are_refused(packed, label):
    root, partition, labels = packed()
    with pytest.raises(DatasetError, match="labels must be of one kind, but that of 'id-1' is 0 and that of"):
        PackedDataset(partition["train"], labels | {"id-3": label}, root)


def test_memory_is_used_again(packed, monkeypatch):
    _, rows = both(*packed(training=40))
    taken, empty = [], numpy.empty
    monkeypatch.setattr(numpy, "empty", lambda *how: taken.append(how) or empty(*how))
    for _ in DataLoader(rows, 4):
        pass
    assert 1 <= len(taken) <= 3  # for ten batches


@pytest.mark.parametrize(
    "hold",
    [
        lambda X: X,
        lambda X: X[1:, 0],
        lambda X: X.numpy(),
        lambda X: X.view(torch.int32)[2],
        lambda X: X.detach(),
    ],
    ids=["batch", "view", "array", "other type", "alias"],
)
def test_memory_that_somebody_holds_is_not_used_again(packed, hold):
    _, rows = both(*packed(training=40))
    held = [hold(X) for X, _ in DataLoader(rows, 4)]
    copies = [torch.as_tensor(one).clone() for one in held]
    for _ in range(3):
        for X, _ in DataLoader(rows, 4):
            X.fill_(7)
    assert all(torch.equal(torch.as_tensor(one), copy) for one, copy in zip(held, copies, strict=True))


# A pack is one thing for as long as somebody reads it


def test_a_dataset_that_was_sent_refuses_another_pack(packed):
    root, partition, labels = packed()
    sent = pickle.dumps(PackedDataset(partition["train"], labels, root))
    assert torch.equal(pickle.loads(sent)[3][0], PackedDataset(partition["train"], labels, root)[3][0])
    for ID in partition["train"]:
        torch.save(torch.ones(1, 8, 8), root / f"{ID}.pt")
    pack(root)
    with pytest.raises(DatasetError, match="packed was packed anew while this dataset was in use"):
        pickle.loads(sent)[3]


def test_a_pack_that_is_swapped_while_it_is_opened_is_opened_again(packed, monkeypatch):
    root, partition, labels = packed()
    real, left = Field._fits, [1]

    def swapped(self, *known):
        if left and left.pop():
            for ID in partition["train"]:
                torch.save(torch.ones(1, 8, 8), root / f"{ID}.pt")
            pack(root)
        return real(self, *known)

    monkeypatch.setattr(Field, "_fits", swapped)
    assert torch.equal(Pack(root).sample(0), torch.ones(1, 8, 8))


def test_a_pack_that_is_swapped_for_ever_is_said(packed, monkeypatch):
    root, *_ = packed()
    manifests = itertools.count()
    real = packed_module.read_manifest
    monkeypatch.setattr(
        packed_module, "read_manifest", lambda root: real(root) | {"digest": str(next(manifests))}
    )
    with pytest.raises(DatasetError, match="is being replaced: try again when feedgpu pack has ended"):
        Pack(root)


def test_unequal_samples_are_refused_where_they_must_be_alike(packed):
    root, partition, labels = packed()
    torch.save(torch.zeros(1, 8, 9), root / "id-2.pt")
    pack(root)
    dataset = PackedDataset(partition["train"], labels, root)
    assert len(dataset.__getitems__([0, 1])) == 2
    dataset.like = "id-1", dataset[0]
    with pytest.raises(DatasetError, match="samples of one batch must be alike: 'id-1' is .* is .* 1×8×9"):
        dataset.__getitems__([0, 1])


def test_a_file_that_goes_while_the_pack_is_opened_is_a_sentence(packed, monkeypatch):
    "Between its mapping and the opening of its handle, as another pack comes in its place"

    def gone(file):
        raise FileNotFoundError(2, "No such file or directory", str(file))

    monkeypatch.setattr("feedgpu.field.handle_of", gone)
    with pytest.raises(DatasetError, match="samples.npy cannot be read: there is no such file"):
        Pack(packed()[0])
