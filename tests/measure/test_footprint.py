"""The footprint of processes: shared pages counted once, those of this process apart."""

import mmap
import os
import subprocess
import sys

import psutil
import pytest
import torch

from feedgpu.measure.footprint import Footprint, family, footprint, growth, in_dev_shm

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is shared")
MB = 1_000_000


def test_what_a_process_allocates_is_private():
    before = footprint().private
    held = bytearray(os.urandom(50 * MB))
    assert 45 * MB < footprint().private - before < 60 * MB
    assert len(held) == 50 * MB


@linux
def test_what_is_mapped_is_told_apart(tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(40 * MB))
    before = footprint()
    with (
        open(tmp_path / "file", "rb") as stream,
        mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert sum(mapped[::4096]) > 0  # every page is read
        assert footprint().mapped_files - before.mapped_files > 35 * MB


@linux
def test_shared_memory_is_counted():
    before = in_dev_shm()
    held = torch.zeros(40 * MB, dtype=torch.uint8).share_memory_()
    held += 1  # every page is written
    assert in_dev_shm() - before > 30 * MB
    assert Footprint(1, 7, 3).without_files == 4


@linux
def test_workers_are_counted_and_what_they_share_is_counted_once():
    held = bytearray(os.urandom(60 * MB))
    alone = sum(family().values(), Footprint()).pss
    ready, child = os.pipe(), None
    try:
        child = os.fork()
        if child == 0:
            os.write(ready[1], b"!")
            os.read(os.pipe()[0], 1)  # for ever
        os.read(ready[0], 1)
        members = family()
        assert child in members and next(iter(members)) == os.getpid()
        both = sum(members.values(), Footprint()).pss
        assert both - alone < 30 * MB, "the bytes of the parent are shared, not copied"
        assert sum(psutil.Process(pid).memory_info().rss for pid in members) - alone > 50 * MB
    finally:
        if child:
            os.kill(child, 9)
            os.waitpid(child, 0)
        for end in ready:
            os.close(end)
    assert len(held) == 60 * MB


def test_growth_sees_what_a_loop_keeps():
    kept = []
    new = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # bytes() might take memory that earlier tests have left

    def keep():
        kept.append(mmap.mmap(-1, 5 * MB, flags=new))
        kept[-1].write(os.urandom(5 * MB))

    taken = growth((keep() for _ in range(6)), every=2)
    assert len(taken) == 4
    assert taken[-1].private - taken[0].private > 25 * MB


def test_a_process_that_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(psutil.Error):
        footprint(process.pid)
