"""What chapter 07 builds on: samples counted across processes, and verdicts on scripts under spawn."""

import re
import subprocess
import sys
import threading

import nbformat
import pytest
import torch
from solutions import fence
from syntax import ROOT

from feedgpu.course import verdict
from feedgpu.course.exercises.chapter_07 import end, fault_of
from feedgpu.measure.workloads import Costly, Counted

CHAPTER = ROOT / "notebooks" / "07_how_is_a_worker_born.ipynb"


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_counted_whoever_makes_them(workers):
    counted = Counted(Costly(12))
    loader = torch.utils.data.DataLoader(counted, batch_size=4, num_workers=workers)
    assert len(counted) == 12 and len(list(loader)) == 3
    assert counted.made_at_rest(12, rest=0.05) == counted.made == 12


def test_a_late_worker_is_waited_for():
    counted = Counted(Costly(12))
    later = threading.Timer(0.4, lambda: [counted[index] for index in range(3)])
    later.start()
    assert counted.made_at_rest(rest=0.05) == 0  # who does not know how many to expect
    assert counted.made_at_rest(3, rest=0.05) == 3
    assert counted.made_at_rest(4, rest=0.05, deadline=0.1) == 3
    later.join()


def broken() -> str:
    "The script of the exercise, without the line that says it was not started"
    cells = nbformat.read(CHAPTER, as_version=4).cells
    cell = next(cell for cell in cells if "exercise:portable" in cell.metadata.get("tags", []))
    return cell.source.partition("\n")[2].replace("raise NotImplementedError\n", "")


def mended(script: str, *what: str) -> str:
    if "file" in what:
        script = script.replace('self.stream = open(file, "rb")', "self.file = file")
        script = script.replace("self.stream.", "open(self.file, 'rb').", 1)
        script = script.replace("self.stream", "open(self.file, 'rb')")
        script = re.sub(r" +open\(self.file, 'rb'\).seek\(index\)\n", "", script)
        script = script.replace("read(1)[0]", "read()[index]")
    if "lambda" in what:
        script = script.replace("lambda batch: sum(batch)", "sum")
    if "guard" in what:
        script = script.replace("\nmethod,", '\nif __name__ == "__main__":\n  method,')
        script = re.sub(r"^(scale, how|print)", r"  \1", script, flags=re.MULTILINE)
    return script


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ((), "an open file cannot be sent"),
        (("file",), "a lambda has no name"),
        (("file", "lambda"), "the file starts a worker again"),
        (("file", "lambda", "guard"), "expected 60, it printed '6', so scale is 1 in the worker"),
    ],
)
def test_a_script_is_told_what_spawn_says_against_it(tmp_path, what, says):
    (tmp_path / "numbers.bin").write_bytes(bytes([1, 2, 3]))
    (tmp_path / "script.py").write_text(mended(broken(), *what))
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "script.py", "spawn", "numbers.bin"]
    run = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **streams)
    try:
        assert says in fault_of(run, 60)
    finally:
        end(run)


def test_the_verdict_says_how_each_run_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("feedgpu.course.exercises.chapter_07.start_methods", lambda: ["spawn"])
    cells = nbformat.read(CHAPTER, as_version=4).cells
    cell = next(cell for cell in cells if "solution:portable" in cell.metadata.get("tags", []))
    (tmp_path / "script.py").write_text(fence(cell).partition("\n")[2])
    said = repr(verdict.portable(tmp_path / "script.py"))
    assert said.endswith("The expected sum is 17670: spawn printed it and exited with 0")


def test_what_hides_behind_an_error_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("feedgpu.course.exercises.chapter_07.start_methods", lambda: ["spawn"])
    (tmp_path / "script.py").write_text(mended(broken(), "guard"))
    said = repr(verdict.portable(tmp_path / "script.py"))
    assert "an open file cannot be sent" in said and said.endswith("Your script also still has a lambda")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has fork beside spawn")
def test_a_script_that_ignores_the_method_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr("feedgpu.course.exercises.chapter_07.start_methods", lambda: ["fork", "spawn"])
    script = broken().replace('"multiprocessing_context": method', '"multiprocessing_context": "fork"')
    (tmp_path / "script.py").write_text(script)
    said = repr(verdict.portable(tmp_path / "script.py"))
    assert "spawn: no worker was started by spawn" in said and "right: fork" not in said
