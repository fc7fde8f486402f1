"""my_classes.py: the article's Dataset, its samples and their errors."""

import ast
import os
import pickle
import sys
import traceback
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import my_classes
from feedgpu import DatasetError, PrefetchLoader
from feedgpu.notation import find_faults
from my_classes import Dataset


def test_it_imports_nothing_but_the_package_torch_numpy_and_the_standard_library():
    found = set()
    for node in ast.walk(ast.parse(Path(my_classes.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    assert found - set(sys.stdlib_module_names) == {"feedgpu", "numpy", "torch"}


def error_of(loader):
    """The sentence with which a loader ends.

    Without its traceback the error is no longer part of a circle that holds the loader's iterator. Left to
    the garbage collector, that would take 5 s to end its workers.
    """
    try:
        list(loader)
    except DatasetError as error:
        return str(error.with_traceback(None))


def test_works_as_in_the_article(dataset, monkeypatch):
    root, partition, labels = dataset()
    monkeypatch.chdir(root.parent)
    training_set = Dataset(partition["train"], labels)
    assert len(training_set) == 12
    for index, ID in enumerate(partition["train"]):
        X, y = training_set[index]
        assert torch.equal(X, torch.load(root / f"{ID}.pt", weights_only=True)) and y == labels[ID]
    batches = list(DataLoader(training_set, batch_size=5, num_workers=2))
    assert [len(X) for X, _ in batches] == [5, 5, 2]
    assert torch.cat([y for _, y in batches]).tolist() == [labels[ID] for ID in partition["train"]]


class Arrays(Dataset):
    suffix = ".npy"

    def load(self, file):
        return torch.from_numpy(numpy.load(file))


def double(X):
    return 2 * X


def test_another_format_takes_three_lines(tmp_path):
    numpy.save(tmp_path / "a.npy", numpy.arange(3))
    X, y = Arrays(["a"], {"a": 1}, tmp_path, transform=double)[0]
    assert X.tolist() == [0, 2, 4] and y == 1
    with pytest.raises(DatasetError, match=r"sample 'b': .*b\.npy cannot be read: there is no such file"):
        Arrays(["b"], {"b": 1}, tmp_path)[0]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_works_under_every_start_method(dataset, method):
    root, partition, labels = dataset()
    training_set = Dataset(partition["train"], labels, root, transform=double)
    loader = DataLoader(training_set, batch_size=4, num_workers=1, multiprocessing_context=method)
    expected = DataLoader(training_set, batch_size=4)
    for (X, y), (expected_X, expected_y) in zip(loader, expected, strict=True):
        assert torch.equal(X, expected_X) and torch.equal(y, expected_y)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


def write_truncated(file):
    file.write_bytes(file.read_bytes()[:-100])


def write_evil(file):
    file.write_bytes(pickle.dumps(Evil(), protocol=2))


BAD_FILES = {
    "missing": (Path.unlink, "there is no such file"),
    "empty": (lambda file: file.write_bytes(b""), "it is empty, cut short or not written by torch.save"),
    "truncated": (write_truncated, "it is empty, cut short or not written by torch.save"),
    "text": (lambda file: file.write_text("hello"), "it is empty, cut short or not written by torch.save"),
    "dictionary": (
        lambda file: torch.save({"epoch": 3}, file),
        "it holds a dict whose 'epoch' is of type int, not a tensor",
    ),
    "list": (
        lambda file: torch.save([torch.zeros(2)], file),
        "it holds a list, not a tensor, nor",
    ),
    "array": (lambda file: torch.save(numpy.zeros(2), file), "it asks to run numpy"),
    "code": (lambda file: torch.save(Evil(), file), "it asks to run posix.mkdir, which is refused"),
    "bare pickle": (write_evil, "which is refused"),
    "folder": (lambda file: (file.unlink(), file.mkdir()), "it is a folder"),
}


@pytest.mark.parametrize("fault", BAD_FILES)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_file_is_named_with_its_ID(dataset, monkeypatch, fault, num_workers):
    root, partition, labels = dataset()
    monkeypatch.chdir(root)
    spoil, words = BAD_FILES[fault]
    spoil(root / "id-7.pt")
    loader = DataLoader(Dataset(partition["train"], labels, root), batch_size=4, num_workers=num_workers)
    error = error_of(loader)
    assert error.startswith(f"sample 'id-7': {root / 'id-7.pt'} cannot be read: ")
    assert words in error and "\n" not in error
    assert not Path("evil-was-here").exists()


def test_every_damaged_byte_gives_a_sentence_or_a_tensor(dataset):
    root, partition, labels = dataset()
    whole = (root / "id-1.pt").read_bytes()
    training_set = Dataset(partition["train"], labels, root)
    for position in range(0, len(whole), 31):
        (root / "id-1.pt").write_bytes(
            whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]
        )
        try:
            assert isinstance(training_set[0][0], torch.Tensor)
        except DatasetError as error:
            assert "id-1" in str(error)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_missing_label_is_named(dataset, num_workers):
    root, partition, labels = dataset()
    del labels["id-3"]
    loader = DataLoader(Dataset(partition["train"], labels, root), batch_size=4, num_workers=num_workers)
    assert error_of(loader).startswith(f"sample 'id-3', read from {root / 'id-3.pt'}, has no label")


@pytest.mark.parametrize("ID", ["../id", "/id", "C:\\id", "", "a\0b", 3, None])
def test_an_ID_never_leads_out_of_the_folder(ID):
    with pytest.raises(DatasetError, match="is no ID"):
        Dataset([ID], {ID: 0})[0]


def test_a_linked_folder_is_followed(dataset):
    root, partition, labels = dataset()
    (root / "link").symlink_to(root)
    assert (
        find_faults({"train": ["link/id-1"], "validation": ["id-2"]}, {"link/id-1": 0, "id-2": 0}, root) == []
    )
    assert Dataset(["link/id-1"], {"link/id-1": 5}, root)[0][1] == 5


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, range(12))])
def test_unequal_samples_of_a_batch_are_named(dataset, num_workers, wrap):
    root, partition, labels = dataset()
    torch.save(torch.zeros(1, 8, 9), root / "id-6.pt")
    data = wrap(Dataset(partition["train"], labels, root))
    expected = "'id-5' is float32 of shape 1×8×8, but 'id-6' is float32 of shape 1×8×9"
    assert expected in error_of(DataLoader(data, batch_size=4, num_workers=num_workers))


def test_unequal_dtypes_are_named_and_a_single_sample_is_compared_with_like(dataset):
    root, partition, labels = dataset()
    torch.save(torch.zeros(1, 8, 8, dtype=torch.float64), root / "id-2.pt")
    training_set = Dataset(partition["train"], labels, root)
    with pytest.raises(DatasetError, match="'id-2' is float64 of shape 1×8×8"):
        list(DataLoader(training_set, batch_size=4))
    list(DataLoader(training_set, batch_size=1))
    training_set.like = "id-1", training_set[0]
    with pytest.raises(DatasetError, match="'id-1' is float32 .* but 'id-2' is float64"):
        list(DataLoader(training_set, batch_size=1))


def test_a_padding_collate_can_have_unequal_samples(dataset):
    root, partition, labels = dataset()
    torch.save(torch.zeros(2, 8, 8), root / "id-2.pt")
    loader = DataLoader(Dataset(partition["train"], labels, root), batch_size=4, collate_fn=len)
    assert list(loader) == [4, 4, 4]


# Whose fault an error is


class Failing(Dataset):
    "Fails at one sample in the way that it is told"

    error, at = None, "id-7"

    def load(self, file):
        if file.stem == self.at:
            raise self.error
        return super().load(file)


def fails(dataset, error, make, **how):
    "The error with which a loop over a dataset ends whose `load` raises this one, its text and its notes"
    root, partition, labels = dataset()
    failing = Failing(partition["train"], labels, root)
    failing.error = error
    try:
        list(make(failing, 4, **how))
    except Exception as raised:
        text = "".join(traceback.format_exception(raised))
        return raised.with_traceback(None), text, root / "id-7.pt"  # or it holds the workers


LOADERS = {"alone": (DataLoader, 0), "2 workers": (DataLoader, 2), "a thread": (PrefetchLoader, 0)}


@pytest.mark.parametrize("make", LOADERS)
@pytest.mark.parametrize(
    "mistake",
    [NameError("numpi"), TypeError("numpi"), ImportError("numpi"), RuntimeError("numpi"), KeyError("numpi")],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_in_a_load_of_ones_own_keeps_its_type_and_its_line(dataset, make, mistake):
    kind, workers = LOADERS[make]
    error, text, file = fails(dataset, mistake, kind, num_workers=workers)
    assert type(error).__mro__[-4:] == type(mistake).__mro__[-4:] and isinstance(error, type(mistake))
    assert "numpi" in str(error) and "raise self.error" in text
    assert text.count(f"while sample 'id-7' was read from {file}") == 1
    if not workers:
        assert error is mistake


@pytest.mark.parametrize("make", LOADERS)
@pytest.mark.parametrize(
    "damage",
    [ValueError("torn"), EOFError("torn"), zlib.error("torn"), pickle.UnpicklingError("torn")],
    ids=lambda error: type(error).__name__,
)
def test_damage_that_a_load_of_ones_own_finds_is_a_sentence(dataset, make, damage):
    kind, workers = LOADERS[make]
    error, _, file = fails(dataset, damage, kind, num_workers=workers)
    assert type(error) is DatasetError
    assert str(error).startswith(f"sample 'id-7': {file} cannot be read: torn") and "\n" not in str(error)
