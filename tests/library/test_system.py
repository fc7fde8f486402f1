"""feedgpu/system.py: CPUs, files written whole, a Ctrl-C that waits, a progress bar."""

import os
import signal
import sys
import threading

import pytest
import torch

from feedgpu import available_cpus, save_whole, system
from feedgpu.system import cgroup_quota, ctrl_c_deferred, progress

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
