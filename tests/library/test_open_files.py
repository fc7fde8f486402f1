"""What the library has opened it closes: under -W error::ResourceWarning, at the end no file is open more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures_on_disk import save, scene

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BEFORE = """
import gc, os, sys
from pathlib import Path
import torch
from torch.utils.data import DataLoader
from feedgpu import DatasetError, EpochSampler, PackedDataset, PrefetchLoader, load_notation, save_whole
from feedgpu.images import ImageDataset
from feedgpu.manifest import read_manifest
from feedgpu.prepare import check, pack
from my_classes import Dataset

def opened():
    gc.collect()
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0

def main(root, pictures):
    partition, labels = load_notation(root)
    IDs = partition["train"]
"""
AFTER = """
main(Path(sys.argv[1]), Path(sys.argv[1]).parent / "pictures")  # what is opened for good is now
before = opened()
main(Path(sys.argv[1]), Path(sys.argv[1]).parent / "pictures")
assert opened() == before, (opened(), before)
"""
PICTURES = """
    IDs = sorted(file.name for file in pictures.iterdir())
    images = ImageDataset(IDs, dict.fromkeys(IDs, 0), pictures, (8, 8), seed=0)
    images.threads = 2
"""
WAYS = {
    "samples": """
    files = Dataset(IDs, labels, root)
    list(files)
    list(DataLoader(files, 5))
    list(DataLoader(files, 5, num_workers=2))
    list(PrefetchLoader(files, 5, shuffle=True))
""",
    "samples that are none": """
    (root / "empty.pt").write_bytes(b"")
    (root / "text.pt").write_bytes(b"text")
    (root / "pickle.pt").write_bytes(bytes.fromhex("80044b012e"))
    (root / "dict.pt").unlink(missing_ok=True)
    torch.save({}, root / "dict.pt")
    for ID in ("empty", "text", "pickle", "dict", "gone"):
        try:
            Dataset([ID], {ID: 0}, root)[0]
        except DatasetError:
            continue
        raise AssertionError(ID)
""",
    "a pack": """
    pack(root)
    read_manifest(root)
    rows = PackedDataset(IDs, labels, root)
    list(rows)
    list(DataLoader(rows, 5))
    list(DataLoader(rows, 5, num_workers=2))
    list(PrefetchLoader(rows, 5, shuffle=True))
    assert check(root) == []
""",
    "a pack that is none": """
    pack(root)
    file = root / "packed/samples.npy"
    whole = file.read_bytes()
    for content in (whole[:300], whole.replace(b"(16, 1, 8, 8)", b"(8, 1, 16, 8)")):
        file.write_bytes(content)
        try:
            PackedDataset(IDs, labels, root)
        except DatasetError:
            continue
        raise AssertionError
    file.write_bytes(whole)
""",
    "loops that are left early": """
    pack(root)
    rows = PackedDataset(IDs, labels, root)
    for _ in PrefetchLoader(rows, 2):
        break
    iterator = iter(PrefetchLoader(rows, 2))
    next(iterator)
    del iterator
    for _ in DataLoader(rows, 2, num_workers=1):
        break
""",
    "images": PICTURES
    + """
    list(images)
    list(DataLoader(images, 5, num_workers=1))
    list(PrefetchLoader(images, 5, sampler=EpochSampler(len(IDs))))
    for _ in PrefetchLoader(images, 2):
        break
""",
    "images that are none": PICTURES
    + """
    for content in (b"", b"text", *[(pictures / ID).read_bytes()[:200] for ID in IDs[:2]]):
        (root / "bad").write_bytes(content)
        try:
            ImageDataset(["bad"], {"bad": 0}, root, (8, 8))[0]
        except DatasetError:
            continue
        raise AssertionError(content)
""",
    "a file saved whole": """
    save_whole([1], root / "a.pt")
    try:
        save_whole(lambda: None, root / "a.pt")
    except AttributeError:
        pass
""",
}


@pytest.mark.parametrize("what", WAYS)
def test_no_file_is_left_open(dataset, tmp_path, what):
    root, _, _ = dataset()
    for i in range(9):
        save(scene(20 + i, 30, i), tmp_path / "pictures" / f"{i}.{'png' if i % 2 else 'jpg'}")
    run = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", BEFORE + WAYS[what] + AFTER, str(root)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    # A warning in a destructor cannot be raised: it is printed as an exception that was ignored
    assert "ResourceWarning" not in run.stderr and "Exception ignored" not in run.stderr
