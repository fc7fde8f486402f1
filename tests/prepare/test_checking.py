"""What is wrong with a dataset, found by reading all of it."""

import json
import os
import shutil

import pytest
import torch

from feedgpu import load_notation
from feedgpu.command import main
from feedgpu.prepare import check, synthetic, write


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole") / "data"
    write(synthetic(20, (1, 2, 2), "float32", classes=2), root)
    return root


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "data")


X = torch.arange(4.0).view(1, 2, 2)


def test_nothing_is_wrong(root):
    (root / "README.md").write_text("mine")
    (root / ".hidden").mkdir()
    (root / ".hidden/x.pt").touch()
    assert check(root) == []


def test_no_dataset(tmp_path, capsys):
    assert main(["check", "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"there is no dataset in {tmp_path}: it has no partition.json\n"


@pytest.mark.parametrize(
    "value, fault",
    [
        (torch.zeros(1, 3, 2), "it is float32 of shape 1×3×2, but 'id-1' is float32 of shape 1×2×2"),
        (X.double(), "it is float64 of shape 1×2×2, but 'id-1' is float32 of shape 1×2×2"),
        (X.log() * 0, "1 of its 4 values are infinite or not a number"),
        (X.repeat(5, 1, 1)[:1], "its file holds 80 bytes for a tensor of 16: save X.clone()"),
        (X.to_sparse(), "it holds a sparse tensor, which a batch cannot: save a dense one"),
        ([X], "cannot be read: it holds a list, not a tensor"),
        (os.getcwd, "cannot be read: it asks to run posix.getcwd, which is refused"),
    ],
    ids=["shape", "dtype", "not finite", "view", "sparse", "list", "code"],
)
def test_a_faulty_sample_is_named(root, value, fault):
    torch.save(value, root / "id-9.pt")
    (found,) = check(root)
    assert found.startswith("sample 'id-9': ") and fault in found


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.bool, torch.bfloat16, torch.float8_e4m3fn, torch.complex64]
)
def test_all_dtypes_can_be_checked(root, dtype):
    for ID in load_notation(root)[1]:
        torch.save(X.to(dtype).clone(), root / f"{ID}.pt")
    assert check(root) == []


def test_all_faulty_samples_are_named(root, capsys):
    for ID in load_notation(root)[1]:
        (root / f"{ID}.pt").write_bytes(b"torn")
    assert main(["check", "--data", str(root)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "20 samples: cannot be read: it is empty, cut short or not written by torch.save: 'id-1', 'id-2', "
        "'id-4', 'id-5', 'id-6' and 15 more"
    ]


def test_files_that_are_not_there(root):
    (root / "id-3.pt").unlink()
    (root / "id-4.pt").unlink()
    (root / "id-4.pt").symlink_to("nowhere")
    assert check(root) == [
        f"1 ID without a file {root}/<ID>.pt: 'id-3'",
        f"sample 'id-4': {root}/id-4.pt cannot be read: there is no such file",
    ]


def test_faults_of_the_lists(root):
    partition, labels = load_notation(root)
    partition["train"] += ["../id-1", 7, partition["validation"][0]]
    labels["id-5"] = -1
    del labels["id-6"]
    (root / "partition.json").write_text(json.dumps(partition))
    (root / "labels.json").write_text(json.dumps(labels))
    found = "\n".join(check(root))
    for fault in (
        "type than a string: 7",
        "leading out",
        "more than one partition",
        "without a label: 'id-6'",
        "'id-5'",
    ):
        assert fault in found


def test_files_that_no_id_names(root):
    (root / "sub").mkdir()
    for name in ("a.pt", "sub/b.pt", "c.txt"):
        (root / name).touch()
    assert check(root) == ["no ID names 2 of the .pt files: a.pt, sub/b.pt"]


def test_samples_may_lie_behind_links(root):
    shared = root.parent / "shared"
    shared.mkdir()
    (root / "id-1.pt").rename(shared / "id-1.pt")
    (root / "id-1.pt").symlink_to(shared / "id-1.pt")
    (root / "sub").symlink_to(root)  # and a loop does no harm
    assert check(root) == []


@pytest.mark.parametrize(
    "text, fault",
    [
        ('["a"]', "names 1 classes, but the labels need 2"),
        ('{"a": 0}', "is no list of names"),
        ("[0, 1]", "is no list of names"),
        ("[", "cannot be read"),
        ('["a", "b", "c"]', None),
    ],
)
def test_names_of_classes(root, text, fault):
    (root / "classes.json").write_text(text)
    assert [fault in found for found in check(root)] == ([True] if fault else [])
