"""my_classes.py: the samples and their errors, the order, the meter, the quick check."""

import ast
import builtins
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import my_classes
from my_classes import (
    Dataset,
    DatasetError,
    EpochSampler,
    Meter,
    available_cpus,
    cgroup_quota,
    ctrl_c_deferred,
    file_of,
    find_faults,
    hashed_seed,
    load_notation,
    save_whole,
    sentence,
)


def test_what_is_copied_imports_nothing_but_torch_numpy_and_the_standard_library():
    "my_images.py, the one for image files, needs a decoder too"
    files = list(Path(my_classes.__file__).parent.glob("my_*.py"))
    others = {file.stem: set() for file in files}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                others[file.stem] |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                others[file.stem].add(node.module.partition(".")[0])
        others[file.stem] -= set(sys.stdlib_module_names)
    assert others.pop("my_images") - set(others) == {"torch", "numpy", "PIL", "simplejpeg"}
    assert set().union(*others.values()) - set(others) == {"torch", "numpy"}


def error_of(loader):
    """The sentence with which a loader ends.

    Without its traceback the error is no longer part of a circle that holds the loader's iterator. Left to
    the garbage collector, that would take 5 s to end its workers.
    """
    try:
        list(loader)
    except DatasetError as error:
        return str(error.with_traceback(None))


# The samples


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
    "dictionary": (lambda file: torch.save({"X": torch.zeros(2)}, file), "it holds a dict, not a tensor"),
    "array": (lambda file: torch.save(numpy.zeros(2), file), "it asks to run numpy"),
    "code": (lambda file: torch.save(Evil(), file), "it asks to run posix.mkdir, which is refused"),
    "bare pickle": (write_evil, "which is refused"),
    "folder": (lambda file: (file.unlink(), file.mkdir()), "Is a directory"),
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


OUTSIDE = [
    "../id",
    "/id",
    "a/../../id",
    "a/..",
    "..",
    "",
    "C:id",
    "C:\\id",
    "\\id",
    "..\\id",
    "a\0b",
    3,
    None,
]


@pytest.mark.parametrize("ID", OUTSIDE)
def test_an_ID_never_leads_out_of_the_folder(ID):
    with pytest.raises(DatasetError, match="is no ID"):
        file_of(ID)
    with pytest.raises(DatasetError, match="is no ID"):
        Dataset([ID], {ID: 0})[0]


@pytest.mark.parametrize("ID", ["a/b", "a..b", "..a", "a.b.c", "a b", "ä/ß", "a/...", "id-1"])
def test_other_IDs_name_a_file_in_the_folder(ID):
    assert file_of(ID, "data") == Path(f"data/{ID}.pt")


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
    training_set.like = "id-1", training_set[0][0]
    with pytest.raises(DatasetError, match="'id-1' is float32 .* but 'id-2' is float64"):
        list(DataLoader(training_set, batch_size=1))


class Padded(Dataset):
    __getitems__ = None


def test_a_padding_collate_can_have_unequal_samples(dataset):
    root, partition, labels = dataset()
    torch.save(torch.zeros(2, 8, 8), root / "id-2.pt")
    loader = DataLoader(Padded(partition["train"], labels, root), batch_size=4, collate_fn=len)
    assert list(loader) == [4, 4, 4]


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


# The meter


def test_the_meter_splits_the_time(monkeypatch):
    clock = itertools.accumulate([0, 5, 1, 2, 1, 4])  # wait 5, compute 1, wait 2, compute 1, end 4
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    meter = Meter()
    assert list(meter("ab")) == ["a", "b"]
    assert meter.waiting == [5, 2, 4] and meter.computing == [1, 1]
    assert meter.seconds == 13 and meter.waiting_share == 11 / 13


def test_the_meter_accounts_for_the_wall_time():
    meter = Meter()
    start = time.perf_counter()
    for _ in meter(iter(range(3))):
        time.sleep(0.01)
    wall = time.perf_counter() - start
    assert len(meter.waiting) == 4 and len(meter.computing) == 3
    assert min(meter.computing) >= 0.01
    assert sum(meter.waiting) + sum(meter.computing) == pytest.approx(meter.seconds)
    assert meter.seconds <= wall


def test_the_meter_can_be_left_early_and_used_again():
    meter = Meter()
    assert meter.waiting_share == 0
    for _ in meter(range(3)):
        break
    assert len(meter.waiting) == 1
    assert list(meter([])) == [] and len(meter.waiting) == 1


def test_a_ctrl_c_is_deferred_to_the_end_of_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), ctrl_c_deferred():
        signal.raise_signal(signal.SIGINT)
        done.append("the block")
    assert done == ["the block"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_while_workers_start_is_not_lost():
    class Starting:
        def __iter__(self):
            signal.raise_signal(signal.SIGINT)
            return iter("ab")

    with pytest.raises(KeyboardInterrupt):
        list(Meter()(Starting()))


@pytest.mark.gpu
def test_on_a_gpu_the_meter_sees_the_device_wait_and_not_the_host():
    x = torch.randn(4096, 4096, device="cuda")

    def slow(batches):
        for batch in range(batches):
            torch.cuda.synchronize()
            time.sleep(0.05)
            yield batch

    starved, fed = Meter("cuda"), Meter("cuda")
    for _ in starved(slow(10)):
        x @ x
    for _ in fed(range(10)):
        for _ in range(20):
            x @ x
    assert starved.waiting_share > 0.9 and fed.waiting_share < 0.1


# The notation and its quick check


def test_a_sound_dataset_has_no_faults(dataset):
    root, partition, labels = dataset()
    assert load_notation(root) == (partition, labels)
    assert find_faults(partition, labels, root) == []


def set_partition(root, partition):
    (root / "partition.json").write_text(json.dumps(partition))


NOTATION_FAULTS = {
    "no partition": (
        lambda root: (root / "partition.json").unlink(),
        "there is no dataset in .*no partition.json",
    ),
    "no labels": (
        lambda root: (root / "labels.json").unlink(),
        "labels.json cannot be read: there is no such file",
    ),
    "no JSON": (lambda root: (root / "labels.json").write_text("{"), "labels.json cannot be read: "),
    "no text": (
        lambda root: (root / "labels.json").write_bytes(b"\xff\xfe\xff"),
        "labels.json cannot be read: ",
    ),
    "a list": (lambda root: (root / "labels.json").write_text("[1]"), "labels.json holds a list"),
    "no validation": (
        lambda root: set_partition(root, {"train": []}),
        "needs a list of IDs under 'validation'",
    ),
    "no list": (
        lambda root: set_partition(root, {"train": "id-1", "validation": []}),
        "needs a list of IDs under 'train'",
    ),
    "no samples": (
        lambda root: [file.unlink() for file in root.glob("*.pt")],
        "16 IDs without a file .*<ID>.pt",
    ),
}


@pytest.mark.parametrize("fault", NOTATION_FAULTS)
def test_a_faulty_notation_is_one_sentence(dataset, fault):
    root, _, _ = dataset()
    spoil, words = NOTATION_FAULTS[fault]
    spoil(root)
    with pytest.raises(DatasetError, match=words) as caught:
        load_notation(root)
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)


def test_every_fault_of_a_dataset_is_found(dataset):
    root, partition, labels = dataset()
    partition["train"] += ["../x", "/y", 3, ["l"], "id-1", "gone", "a/gone", "id-13"]
    partition["test"] = []
    labels |= {"id-2": -1, "id-3": True, "id-4": 1.0, "id-5": "1", "gone": 0}
    del labels["id-6"]
    assert dict(find_faults(partition, labels, root)) == {
        "partition 'test' is empty": [],
        "of another type than a string": [3, ["l"]],
        "absolute or leading out of the folder": ["../x", "/y"],
        "more than once in one partition": ["id-1"],
        "in more than one partition": ["id-13"],
        "without a label": ["id-6", "a/gone"],
        "with a label that is not an integer of at least 0": ["id-2", "id-3", "id-4", "id-5"],
        f"without a file {root / '<ID>.pt'}": ["gone", "a/gone"],
    }


def test_a_fault_names_five_IDs_and_how_many():
    assert sentence("without a label", ["a"]) == "1 ID without a label: 'a'"
    assert sentence("x", list("abcdef")) == "6 IDs x: 'a', 'b', 'c', 'd', 'e' and 1 more"
    assert sentence("partition 'train' is empty", []) == "partition 'train' is empty"


def test_the_quick_check_lists_each_folder_once_and_opens_nothing(tmp_path, monkeypatch):
    IDs = [f"folder-{i % 10}/id-{i}" for i in range(5000)]
    for i in range(10):
        (tmp_path / f"folder-{i}").mkdir()
    for ID in IDs:
        (tmp_path / f"{ID}.pt").touch()
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or listdir(folder))
    monkeypatch.setattr(builtins, "open", None)
    monkeypatch.setattr(os, "stat", None)
    assert find_faults({"train": IDs[1:], "validation": IDs[:1]}, dict.fromkeys(IDs, 0), tmp_path) == []
    assert len(listed) == 10


# The machine


def test_the_CPUs_can_be_told(monkeypatch):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "16")
    assert available_cpus() == 16
    monkeypatch.setenv("PYTHON_CPU_COUNT", "default")
    assert available_cpus() >= 1


def test_the_CPUs_are_those_of_the_affinity_and_of_the_quota(monkeypatch):
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    for quota, cpus in ((float("inf"), 8), (16.0, 8), (2.5, 2), (0.5, 1)):
        monkeypatch.setattr(my_classes, "cgroup_quota", lambda quota=quota: quota)
        assert available_cpus() == cpus


def test_a_cgroup_quota_of_a_folder_above_counts(tmp_path):
    groups = tmp_path / "cgroup"
    groups.write_text("0::/a/b\n")
    (tmp_path / "a/b").mkdir(parents=True)
    assert cgroup_quota(groups, tmp_path) == float("inf")
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    (tmp_path / "a/cpu.max").write_text("150000 100000\n")
    assert cgroup_quota(groups, tmp_path) == 1.5
    assert cgroup_quota(tmp_path / "none", tmp_path) == float("inf")


def test_a_cgroup_quota_of_version_1_counts(tmp_path):
    groups = tmp_path / "cgroup"
    groups.write_text("5:cpu,cpuacct:/\n4:memory:/x\n")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert cgroup_quota(groups, tmp_path) == float("inf")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("300000\n")
    assert cgroup_quota(groups, tmp_path) == 3


def test_a_file_is_saved_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.pt"
    save_whole({"a": 1}, file)
    with pytest.raises(AttributeError):
        save_whole(lambda: None, file)
    assert torch.load(file, weights_only=True) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_the_same_dataset_in_another_process_has_the_same_order():
    code = "from my_classes import EpochSampler; print(list(EpochSampler(9, 4)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == f"{list(EpochSampler(9, 4))}\n"
