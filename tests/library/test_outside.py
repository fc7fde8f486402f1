"""Files from outside are opened in one place, and what failed is said in words."""

import ast
import os
from pathlib import Path

import numpy
import pytest
from syntax import ROOT

from feedgpu import outside

# Whoever opens a file by other means would wait for a pipe, or read a device for ever.
OPENS = {
    "open",
    "io.open",
    "os.open",
    "numpy.load",
    "np.load",
    "torch.load",
    "Image.open",
    "json.load",
    "wave.open",
}
METHODS = {"read_text", "read_bytes", "open"}
ALLOWED = {
    "feedgpu/outside.py": {"os.open", "numpy.load"},  # the place itself
    "feedgpu/sample.py": {"torch.load"},  # of a stream that it has opened there
    "feedgpu/decode.py": {"Image.open"},  # of bytes
    "feedgpu/system.py": {"open", "read_text"},  # writes; reads what the system says of itself
    "feedgpu/prepare/layout.py": {"open"},  # writes
    "feedgpu/prepare/writing.py": {"open"},  # writes
    "feedgpu/prepare/files.py": {"open"},  # writes a copy
    "feedgpu/prepare/arrays.py": {"open"},  # of a member of an archive that was opened there
    "feedgpu/prepare/records.py": {"open"},  # tar of a stream; LMDB, which opens its files itself
    "feedgpu/prepare/commit.py": {"os.open"},  # of a folder, to lock it
}
FILES = sorted([*(ROOT / "feedgpu").glob("*.py"), *(ROOT / "feedgpu" / "prepare").glob("*.py")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_file_is_opened_elsewhere(file):
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            ours = called.startswith(("outside.", "read_bytes"))
            if called in OPENS or (
                isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and not ours
            ):
                found.add(called if called in OPENS else node.func.attr)
    assert found <= ALLOWED.get(file.relative_to(ROOT).as_posix(), set())


def test_a_file_is_read_to_its_end(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    found = os.stat(tmp_path / "a")
    for size in (0, 10, 99_999, 100_000, 200_000):  # it has grown since, or shrunk; or nobody knew its size
        told = os.stat_result((*found[:6], size, *found[7:]))
        with monkeypatch.context() as context:
            context.setattr(os, "fstat", lambda handle, told=told: told)
            assert outside.read_bytes(tmp_path / "a") == b"x" * 100_000


@pytest.mark.parametrize("read", [outside.opened, outside.read_bytes, outside.read_json, outside.read_array])
def test_nobody_waits_for_what_is_no_file(tmp_path, read):
    handles = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="^it is a pipe or a device$"):
            read(tmp_path / "pipe")
    if Path("/dev/zero").exists():
        (tmp_path / "zero").symlink_to("/dev/zero")
        with pytest.raises(ValueError, match="^it is a pipe or a device$"):
            read(tmp_path / "zero")
    with pytest.raises(ValueError, match="^it is a folder$"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
    assert handles is None or len(os.listdir("/proc/self/fd")) == handles


def test_json_is_nested_only_so_deeply(tmp_path):
    (tmp_path / "a").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        outside.read_json(tmp_path / "a")


def test_an_array_is_a_npy_file_and_no_other(tmp_path):
    numpy.savez(tmp_path / "a.npz", numpy.arange(3))
    numpy.save(tmp_path / "b.npy", numpy.arange(3))
    numpy.save(tmp_path / "c.npy", numpy.array([{}], object), allow_pickle=True)
    for file in ("a.npz", "c.npy"):
        with pytest.raises(ValueError):
            outside.read_array(tmp_path / file)
        with pytest.raises(ValueError):
            outside.read_array(tmp_path / file, mmap_mode="r")
    assert outside.read_array(tmp_path / "b.npy").tolist() == [0, 1, 2]
    assert outside.read_array(tmp_path / "b.npy", mmap_mode="r").tolist() == [0, 1, 2]
