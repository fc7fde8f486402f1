"""The page cache: cold is verified, or said not to be."""

import mmap
import os
import sys
from pathlib import Path

import pytest

from feedgpu.measure import page_cache
from feedgpu.measure.page_cache import NotCold, evict, resident, warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can empty and look into it")


@pytest.fixture
def files(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(os.urandom(500_000))
    (tmp_path / "empty").touch()
    if not evictable(tmp_path / "a"):
        pytest.skip("this file system keeps its files in memory")
    return [tmp_path / name for name in ("a", "b", "empty")]


def evictable(file: Path) -> bool:
    try:
        evict([file])
    except NotCold:
        return False
    return True


def test_what_was_evicted_is_gone_and_what_was_read_is_there(files):
    warm(files)
    assert resident(files) == 1
    evict(files)
    assert resident(files) == 0
    warm(files[:1])
    assert 0.4 < resident(files) < 0.6


def test_a_mapped_file_stays_and_that_is_said(files):
    warm(files)
    with open(files[0], "rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert len(bytes(mapped)) == 500_000  # every page is in use
        with pytest.raises(NotCold, match="% of the bytes stayed in the page cache"):
            evict(files)


def test_files_in_memory_stay_and_that_is_said(tmp_path):
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("no /dev/shm")
    file = shm / f"feedgpu-test-{os.getpid()}"
    try:
        file.write_bytes(b"x" * 100_000)
        with pytest.raises(NotCold, match="100 % of the bytes stayed"):
            evict([file])
    finally:
        file.unlink(missing_ok=True)


def test_without_the_call_it_says_so(files, monkeypatch):
    monkeypatch.delattr(page_cache.os, "posix_fadvise")
    with pytest.raises(NotCold, match="has no call"):
        evict(files)


def test_nothing_is_not_resident():
    assert resident([]) == 0
