"""A dataset is packed whole or not at all, and checked sample by sample."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy
import pytest
import torch

import feedgpu.prepare.packing
import feedgpu.prepare.writing
from feedgpu import DatasetError, PackedDataset, load_notation, read_sample
from feedgpu.command import main
from feedgpu.packed import Pack, same
from feedgpu.prepare import check, pack, synthetic, write
from feedgpu.prepare.commit import sole_writer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FILES = ["IDs.npy", "labels.npy", "manifest.json", "samples.npy"]


def noise(seed=0, shape=(1, 4, 4)):
    return synthetic(20, shape, "float32", classes=2, seed=seed)


def holds(root, source):
    "Whether the pack in `root` is of `source`, to the last value"
    IDs = [ID for IDs in source.partition.values() for ID in IDs]
    rows = PackedDataset(IDs, source.labels, root)
    return len(Pack(root).rows) == len(IDs) and all(
        same(rows[i][0], source.read(ID)) for i, ID in enumerate(IDs)
    )


@pytest.fixture
def root(tmp_path):
    write(noise(), tmp_path / "data")
    return tmp_path / "data"


def test_files_of_a_pack_are_those_of_numpy(root):
    pack(root)
    folder = root / "packed"
    assert sorted(file.name for file in folder.iterdir()) == FILES and not (root / ".packing").exists()
    partition, labels = load_notation(root)
    IDs = partition["train"] + partition["validation"]
    samples = numpy.load(folder / "samples.npy", allow_pickle=False)
    assert samples.shape == (20, 1, 4, 4) and samples.dtype == numpy.float32
    assert all(torch.equal(torch.from_numpy(X), noise().read(ID)) for X, ID in zip(samples, IDs, strict=True))
    assert [ID.decode() for ID in numpy.load(folder / "IDs.npy").tolist()] == IDs
    assert numpy.load(folder / "labels.npy").tolist() == [labels[ID] for ID in IDs]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["samples"] == 20 and manifest["shape"] == [1, 4, 4] and manifest["dtype"] == "float32"


def test_the_command(root, capsys):
    assert main(["pack", "--data", str(root)]) == 0
    assert re.fullmatch(rf"{root}/packed: 20 samples in [\d,]+ bytes\.\n", capsys.readouterr().out)
    assert main(["pack", "--data", str(root / "none")]) == 1
    assert capsys.readouterr().err == f"there is no dataset in {root}/none: it has no partition.json\n"


def test_packing_again_takes_what_is_there_now(root):
    pack(root)
    X = torch.full((1, 4, 4), 7.0)
    torch.save(X, root / "id-1.pt")
    pack(root)
    assert torch.equal(PackedDataset(["id-1"], {"id-1": 0}, root)[0][0], X)


def test_a_new_dataset_takes_the_old_pack_away(root):
    pack(root)
    write(noise(seed=1), root, force=True)
    assert not (root / "packed").exists() and check(root) == []


def test_a_pack_elsewhere_only_loses_its_link(root, tmp_path):
    pack(root)
    (root / "packed").rename(tmp_path / "elsewhere")
    (root / "packed").symlink_to(tmp_path / "elsewhere")
    assert holds(root, noise())
    write(noise(seed=1), root, force=True)
    assert not (root / "packed").exists() and sorted(os.listdir(tmp_path / "elsewhere")) == FILES


# What is refused


@pytest.mark.parametrize(
    "value, says",
    [
        (b"torn", "'id-9': .*id-9.pt cannot be read: it is empty, cut short"),
        (
            torch.zeros(1, 4, 4, dtype=torch.float64),
            "'id-1' is float32 of shape 1×4×4, but 'id-9' is float64",
        ),
        (torch.zeros(4, 4), "'id-9' is float32 of shape 4×4"),
        (torch.zeros(1, 4, 4).to_sparse(), "'id-9': .* it holds a sparse tensor"),
        (os.getcwd, "'id-9': .*asks to run posix.getcwd, which is refused"),
    ],
    ids=["torn", "dtype", "dimensions", "sparse", "code"],
)
def test_a_sample_that_cannot_be_packed_is_named_and_the_old_pack_stays(root, value, says):
    pack(root)
    if isinstance(value, bytes):
        (root / "id-9.pt").write_bytes(value)
    else:
        torch.save(value, root / "id-9.pt")
    with pytest.raises(DatasetError, match=says):
        pack(root)
    torch.save(noise().read("id-9"), root / "id-9.pt")
    assert holds(root, noise()) and not (root / ".packing").exists()


def test_samples_that_are_gone_cannot_be_packed_again(root):
    pack(root)
    (root / "id-9.pt").unlink()
    with pytest.raises(DatasetError, match="1 ID without a file .*: 'id-9'"):
        pack(root)
    assert holds(root, noise())


def test_something_else_of_that_name_is_left_alone(root):
    (root / "packed").mkdir()
    (root / "packed/mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="packed is no pack, and a pack would take its place: move it"):
        pack(root)
    assert (root / "packed/mine.txt").exists()


def test_a_second_writer_is_refused(root):
    with sole_writer(root), pytest.raises(DatasetError, match="another process is writing"):
        pack(root)


# What check says of it


def test_check_reads_a_pack_whose_files_are_gone(root, capsys):
    pack(root)
    for file in root.glob("*.pt"):
        file.unlink()
    assert check(root) == [] and main(["check", "--data", str(root)]) == 0
    assert "20 samples, all float32 of shape 1×4×4, 64 bytes each, are in order: " in capsys.readouterr().out


def test_check_compares_the_samples_that_are_there(root):
    pack(root)
    (root / "id-3.pt").unlink()
    torch.save(torch.zeros(1, 4, 4), root / "id-9.pt")
    (found,) = check(root)
    assert found.startswith(f"sample 'id-9': {root}/id-9.pt is no longer what was packed; pack again with")


def test_check_finds_what_has_changed_in_a_pack(root):
    pack(root)
    file = root / "packed/samples.npy"
    values = bytearray(file.read_bytes())
    values[-1] ^= 1
    file.write_bytes(values)
    found = check(root)
    assert f"{root}/packed has changed since it was written" in found[0] and len(found) == 2
    os.truncate(file, 99)
    (found,) = check(root)
    assert "samples.npy has 99 bytes" in found


def test_check_names_IDs_that_came_later(root):
    pack(root)
    partition, labels = load_notation(root)
    torch.save(torch.zeros(1, 4, 4), root / "late.pt")
    (root / "partition.json").write_text(
        json.dumps({**partition, "train": [*partition["train"], "late", "lost"]})
    )
    (root / "labels.json").write_text(json.dumps(labels | {"late": 0, "lost": 0}))
    assert check(root) == [
        f"1 ID without a file {root}/<ID>.pt: 'lost'",
        f"1 ID not in the pack: 'late'; pack again with feedgpu pack --data {root}",
    ]


# Killed, stopped, out of space


def run_killed(dies, steps, root):
    "Packs and dies before step number `steps`; False if it was through before"
    changing = [(os, name) for name in ("mkdir", "replace", "rmdir", "unlink", "fsync")]
    return dies(steps, lambda: pack(root), *changing, (feedgpu.prepare.packing, "read_sample"))


def test_killed_before_each_step(tmp_path, dies):
    seen = []
    for steps in count():
        root = tmp_path / str(steps)
        write(noise(), root)
        pack(root)
        write_over(root)
        if not run_killed(dies, steps, root):
            break
        seen.append(state(root))
        pack(root)
        assert state(root) == "new" and not (root / ".packing").exists()
    assert [name for i, name in enumerate(seen) if i == 0 or name != seen[i - 1]] == ["old", "none", "new"]
    assert len(seen) > 20


def test_killed_while_a_new_dataset_takes_the_pack_away(tmp_path, dies):
    changing = [(os, name) for name in ("mkdir", "replace", "rmdir", "unlink")]
    for steps in count():
        root = tmp_path / str(steps)
        write(noise(), root)
        pack(root)
        if not dies(steps, lambda root=root: write(noise(seed=1), root, force=True), *changing):
            break
        there = (root / "partition.json").exists()
        assert not there or check(root) == []
        write(noise(seed=1), root, force=True)
        pack(root)
        assert holds(root, noise(seed=1)) and check(root) == []
    assert steps > 20


def test_an_old_pack_comes_back_if_packing_again_fails(root, dies):
    pack(root)
    assert any(not survives(root, steps, dies) for steps in range(20, 60))
    assert not (root / "packed").exists()
    (root / "id-2.pt").write_bytes(b"torn")
    with pytest.raises(DatasetError, match="'id-2'"):
        pack(root)
    torch.save(noise().read("id-2"), root / "id-2.pt")
    assert holds(root, noise())


def survives(root, steps, dies):
    "Whether a pack is left by a run that dies there; leaves the folder as it leaves it"
    run_killed(dies, steps, root)
    return (root / "packed").exists()


def write_over(root):
    "Other samples under the same IDs, as a user's own script writes them"
    for ID in noise().labels:
        torch.save(noise(seed=1).read(ID), root / f"{ID}.pt")


def state(root):
    "none, old or new: each whole, anything else fails"
    if not (root / "packed").exists():
        return "none"
    pack_there = Pack(root)
    rows = pack_there.rows
    for name, seed in (("old", 0), ("new", 1)):
        if all(same(pack_there.sample(rows[ID]), noise(seed).read(ID)) for ID in rows):
            return name
    raise AssertionError("a mixture")


def test_ctrl_c_leaves_the_old_pack(tmp_path):
    root = tmp_path / "data"
    write(synthetic(3000, (1, 4, 4)), root)
    pack(root)
    before = (root / "packed/manifest.json").read_bytes()
    command = [sys.executable, "-m", "feedgpu", "pack", "--data", root]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not any(root.glob(".packing/new/samples.npy")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1].strip() == f"Stopped by Ctrl-C: {root} is as it was, or new and whole."
    assert process.returncode == 130
    assert (root / "packed/manifest.json").read_bytes() == before and not (root / ".packing").exists()


def test_a_full_disk_leaves_the_old_pack(root, monkeypatch):
    pack(root)

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def close(self):
            self.stream.close()

        def write(self, values):
            if self.stream.tell() > 500:
                raise OSError(28, "No space left on device", self.stream.name)
            return self.stream.write(values)

    monkeypatch.setattr(feedgpu.prepare.writing, "open", lambda *how: Full(open(*how)), raising=False)
    with pytest.raises(DatasetError, match="No space left on device: free some space; the pack .* untouched"):
        pack(root)
    assert holds(root, noise()) and not (root / ".packing").exists()


def test_memory_does_not_grow_with_the_dataset(tmp_path):
    code = """
import resource, sys
from feedgpu.command import main
main(["pack", "--data", sys.argv[1]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for samples in (100, 1000):
        root = tmp_path / str(samples)
        write(synthetic(samples, (3, 224, 224)), root)
        done = subprocess.run(
            [sys.executable, "-c", code, root], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    # MiB; the 900 more samples are 130 MiB
    assert peaks[1] - peaks[0] < 20


def test_what_a_killed_pack_has_left_is_not_put_beside_another_dataset(root, dies):
    "Killed between its two renames, then another dataset, then a pack that ends in an error"
    pack(root)
    renames = iter(range(100))
    while True:
        steps = next(renames)
        if not dies(steps, lambda: pack(root), (os, "replace")):
            break
        if (root / ".packing" / "replaced").exists():
            break
    write(synthetic(20, (1, 4, 4), seed=5), root, force=True)
    assert not (root / ".packing").exists()
    (root / "id-1.pt").write_bytes(b"torn")
    with pytest.raises(DatasetError, match="'id-1'"):
        pack(root)
    assert not (root / "packed").exists()


def test_a_name_that_is_no_utf_8_is_packed(root):
    partition, labels = load_notation(root)
    ID = os.fsdecode(b"caf\xe9")
    torch.save(torch.zeros(1, 4, 4), root / f"{ID}.pt")
    (root / "partition.json").write_text(json.dumps({**partition, "train": [*partition["train"], ID]}))
    (root / "labels.json").write_text(json.dumps(labels | {ID: 0}))
    pack(root)
    assert PackedDataset([ID], {ID: 3}, root)[0][1] == 3


def test_a_flipped_value_is_found_by_its_checksum(root):
    file = root / "id-1.pt"
    data = bytearray(file.read_bytes())
    X = read_sample(file)
    place = bytes(data).index(X.numpy().tobytes())
    data[place] ^= 1
    file.write_bytes(data)
    assert not torch.equal(read_sample(file), X)  # torch.load does not look
    (found,) = check(root)
    assert found.startswith("sample 'id-1': ") and "is damaged: " in found and "(CRC)" in found
