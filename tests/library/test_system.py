"""feedgpu/system.py: CPUs, files written whole, a Ctrl-C that waits, a progress bar."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
import torch

from feedgpu import available_cpus, save_whole, system
from feedgpu.system import cgroup_quota, ctrl_c_deferred, ctrl_c_heard, progress

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
        monkeypatch.setattr(system, "cgroup_quota", lambda quota=quota: quota)
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


# Files


def test_a_file_is_saved_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.pt"
    save_whole({"a": 1}, file)
    with pytest.raises(AttributeError):
        save_whole(lambda: None, file)
    assert torch.load(file, weights_only=True) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_whoever_is_killed_while_saving_leaves_the_file_that_was_there(tmp_path, dies):
    file = tmp_path / "a.pt"
    save_whole([1], file)
    for steps in range(2):
        assert dies(steps, lambda: save_whole([2], file), (os, "fsync"), (os, "replace"))
        assert torch.load(file, weights_only=True) == [1]
    assert not dies(2, lambda: save_whole([2], file), (os, "fsync"), (os, "replace"))
    assert torch.load(file, weights_only=True) == [2]


def test_a_link_is_never_followed_or_replaced(tmp_path):
    (tmp_path / "theirs").write_text("precious")
    for name in ("a.pt", "b.pt.unfinished"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="it is a link to .*theirs: name that file"):
        save_whole([1], tmp_path / "a.pt")
    save_whole([1], tmp_path / "b.pt")
    assert (tmp_path / "theirs").read_text() == "precious"
    assert {file.name for file in tmp_path.iterdir()} == {"a.pt", "b.pt", "b.pt.unfinished", "theirs"}


def test_the_old_file_stays_under_another_name(tmp_path):
    file = tmp_path / "a.pt"
    assert save_whole([1], file, keep=True) is None
    assert save_whole([2], file, keep=True) == tmp_path / "a-1.pt"
    assert save_whole([3], file, keep=True) == tmp_path / "a-2.pt"
    found = [torch.load(tmp_path / name, weights_only=True) for name in ("a-1.pt", "a-2.pt", "a.pt")]
    assert found == [[1], [2], [3]]


def test_where_the_disk_is_full_it_says_so_and_leaves_all_as_it_was(tmp_path):
    """In a process of its own that may write no more than 64 KB to a file"""
    program = f"""
import resource, signal, sys, torch
from pathlib import Path
from feedgpu import save_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = Path({str(tmp_path)!r}) / "a.pt"
save_whole([1], file)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
try:
    save_whole(torch.zeros(1 << 20), file, keep=True)
except OSError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "File too large\n", done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pt"]
    assert torch.load(tmp_path / "a.pt", weights_only=True) == [1]


def test_two_processes_that_save_one_file_leave_one_whole(tmp_path):
    program = "import sys, torch\nfrom pathlib import Path\nfrom feedgpu import save_whole\n"
    program += "for i in range(200): save_whole(torch.full((2000,), int(sys.argv[1])), Path(sys.argv[2]))"
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen([*command, str(i), str(tmp_path / "a.pt")]) for i in (1, 2)]
    seen = 0
    while any(process.poll() is None for process in both):
        if (tmp_path / "a.pt").exists():
            X = torch.load(tmp_path / "a.pt", weights_only=True)
            assert X.shape == (2000,) and len(X.unique()) == 1
            seen += 1
    assert [process.returncode for process in both] == [0, 0] and seen
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pt"]


# Ctrl-C


def test_a_ctrl_c_is_deferred_to_the_end_of_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), ctrl_c_deferred():
        signal.raise_signal(signal.SIGINT)
        done.append("the block")
    assert done == ["the block"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_without_a_ctrl_c_nothing_is_raised_and_the_handler_is_the_one_before():
    before = signal.getsignal(signal.SIGINT)
    with ctrl_c_deferred():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_may_defer_too_and_change_nothing():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with ctrl_c_deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


# A progress bar


@pytest.mark.parametrize("installed", [True, False])
def test_where_nobody_watches_things_come_in_silence(monkeypatch, capfd, installed):
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(progress(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_where_somebody_watches_there_is_a_bar(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress("abc", "letters", unit=" letters", leave=True)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == "" and "letters: 100%" in err and "3/3" in err


def test_where_ctrl_c_is_ignored_it_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ctrl_c_deferred():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_the_program_is_called_at_the_end():
    called = []
    before = signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
    try:
        with ctrl_c_deferred(), ctrl_c_deferred():
            signal.raise_signal(signal.SIGINT)
            assert called == []
        assert called == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_is_not_lost_where_the_block_fails():
    with pytest.raises(KeyboardInterrupt), ctrl_c_deferred():
        signal.raise_signal(signal.SIGINT)
        raise OSError("the disk is full")


class Struck:
    "Something that goes, and while it goes a Ctrl-C strikes"

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_is_not_lost_in_a_finalizer():
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), ctrl_c_heard():
        thing = Struck()
        del thing  # here Python drops the first KeyboardInterrupt
        began = time.monotonic()
        time.sleep(20)
        pytest.fail("it was lost")
    assert sys.unraisablehook is hook
    assert time.monotonic() - began < 10, "a sleep must not outlast it"


def test_what_else_a_finalizer_raises_is_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
    with ctrl_c_heard():
        thing = type("Thing", (), {"__del__": lambda self: 1 / 0})()
        del thing
    assert told == [ZeroDivisionError]


def test_a_ctrl_c_that_ends_the_process_is_heard_in_the_block_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), ctrl_c_heard():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_that_a_library_raises_in_its_place_is_a_ctrl_c():
    with pytest.raises(KeyboardInterrupt), ctrl_c_heard():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise TypeError("expected str, bytes or os.PathLike object")
    with pytest.raises(TypeError), ctrl_c_heard():
        raise TypeError("without a Ctrl-C")
    with pytest.raises(KeyboardInterrupt), ctrl_c_heard(), suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # caught, and nothing raised in its place


@pytest.mark.parametrize("own", [signal.SIG_IGN, lambda *_: None])
def test_a_handler_of_the_program_is_left_as_it_is(own):
    before = signal.signal(signal.SIGINT, own)
    try:
        with ctrl_c_heard():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
