"""The logbook keeps guesses and the running table, and prints them so that runs compare equal."""

import json
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from run_notebooks import without_noise
from syntax import ROOT

from feedgpu.course import logbook


@pytest.fixture(autouse=True)
def own_logbook(monkeypatch, tmp_path):
    """Each test has a kernel and a file of its own."""
    monkeypatch.setenv("FEEDGPU_LOGBOOK", str(tmp_path / "logbook"))
    monkeypatch.setattr(logbook, "guesses", {})


def said(capsys, guess, value, unit="", exact=True):
    logbook.predict("it", guess, unit).measured(value, exact)
    return capsys.readouterr().out.rstrip("\n")


EXACT = {
    (13_000, 12_289_506, "bytes"): "you said 13,000 bytes, it is 12,289,506 bytes: off by 945×",
    (7, 7, "files"): "you said 7 files, it is 7 files: right",
    (2.0, torch.tensor(3), ""): "you said 2.00, it is 3: off by 1.5×",
    (100, 104, "files"): "you said 100 files, it is 104 files: off by 4.0 %",
    (np.int64(10), np.float32(0.5), ""): "you said 10, it is 0.500: off by 20×",
    (4, 1, "epochs"): "you said 4 epochs, it is 1 epoch: off by 3",
    (1, 30, "batches"): "you said 1 batch, it is 30 batches: off by 30×",
    (0, 5, "files"): "you said 0 files, it is 5 files: off by 5",
    (5, 0, ""): "you said 5, it is 0: off by 5",
    (-2, 3, ""): "you said -2, it is 3: off by 5",
    (0, 0, ""): "you said 0, it is 0: right",
    (50, 44, "%"): "you said 50 %, it is 44 %: off by 6 points",
    (None, 3, "files"): "you made no guess, it is 3 files",
    (..., 3, ""): "you made no guess, it is 3",
    ("two workers", "one", ""): "you said two workers, it is one: not right",
    ("one", "one", ""): "you said one, it is one: right",
    ("Shorter", "shorter", ""): "you said Shorter, it is shorter: right",
    (3.0, 3, "×"): "you said 3.00 ×, it is 3 ×: right",
    (True, False, ""): "you said True, it is False: not right",
    ("many", 3, ""): "you said many, it is 3: not a number to compare",
    (float("nan"), 3, ""): "you said nan, it is 3: not a number to compare",
    (float("inf"), 3, ""): "you said inf, it is 3: not a number to compare",
    ((1, 2), 3, ""): "you said (1, 2), it is 3: not a number to compare",
}


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_a_guess_beside_what_was_counted(capsys, case):
    assert said(capsys, *case) == EXACT[case]


@pytest.mark.parametrize("guess", [2, 0, None, "much"], ids=str)
@pytest.mark.parametrize("unit", ["ms", "samples/s", "MB/s", "%", "", "bytes"])
def test_what_a_machine_decides_is_noise(capsys, guess, unit):
    values = [0.000123, 0.07, 1, 2.0, 2.05, 3.0, 43.2, 945, 12_289_506.7, torch.tensor(0.5)]
    seen = set()
    for value in values:
        text = said(capsys, guess, value, unit, exact=False)
        logbook.scores()
        seen.add(without_noise(text + capsys.readouterr().out))
    assert len(seen) == 1


def test_a_count_is_no_noise(capsys):
    texts = [without_noise(said(capsys, 2, value, "bytes")) for value in (3, 4)]
    assert texts[0] != texts[1]


def test_the_scores_say_what_a_machine_chose(capsys):
    for choice, off in (("longer", "not right"), ("shorter", "right")):
        said(capsys, "shorter", choice, exact=False)
        logbook.scores()
        assert capsys.readouterr().out.splitlines()[-1].endswith(f"   {choice}: {off}")


def test_a_guess_shows_itself(capsys):
    assert repr(logbook.predict("bytes in a file", 1_200, "bytes")) == "bytes in a file: 1,200 bytes"
    assert repr(logbook.predict("bytes in a file", ..., "bytes")) == "bytes in a file: no guess"
    assert capsys.readouterr().out == ""


def test_what_stands_in_the_stored_notebook_is_no_guess(capsys):
    said(capsys, ..., 3)
    logbook.scores()
    assert " no guess " in capsys.readouterr().out.splitlines()[-1]
    logbook.calibration()
    assert capsys.readouterr().out == "No number was guessed so far.\n"


def test_scores(capsys):
    for what, guess, value, exact in (("a", 2, 6, True), ("bb", 10, 5, True), ("c", 1.0, 8.5, False)):
        logbook.predict(what, guess, "ms").measured(value, exact)
    logbook.predict("not measured", 3)
    capsys.readouterr()
    logbook.scores()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        "prediction you said it is off by".split(),
        "a 2 ms 6 ms 4".split(),
        "bb 10 ms 5 ms 5".split(),
        "c 1.00 ms ≈ 8.50 ms ≈ 8.5×".split(),
    ]


def test_the_running_table(capsys):
    logbook.log_share("03", "files", 0.5)
    logbook.log_share("00", "the article", torch.tensor(0.713))
    logbook.log_share("03", "batches by hand", 1)
    logbook.log_share("03", "files", 0.25)
    first = capsys.readouterr().out.splitlines()
    assert first[0] == "chapter 03 · files: the model waits ≈ 50 % of the time"
    assert without_noise(first[0]) == without_noise(first[3])
    logbook.running_table()
    assert capsys.readouterr().out.splitlines() == [
        "00  the article      ██████████████······   71 %",
        "03  files            █████···············   25 %",
        "03  batches by hand  ████████████████████  100 %",
    ]


def test_the_file_outlives_damage_and_the_kernel(capsys):
    logbook.log_share("01", "a", 0.1)
    with open(logbook.file(), "ab") as stream:
        stream.write(b'\xff\x00{"chapter": "02", "wha')  # a kernel was killed here
    logbook.log_share("03", "c", 0.3)
    with open(logbook.file(), "ab") as stream:
        stream.write(b'\n[1]\n{"prediction": 3}\n{"chapter": 4}\n')  # someone else's
    assert [line["chapter"] for line in logbook.lines("waiting_share")] == ["01", "03"]
    logbook.running_table()
    logbook.calibration()
    assert "03  c" in capsys.readouterr().out


def test_two_kernels_write_at_once():
    program = "from feedgpu.course import logbook\nfor i in range(300): logbook.keep({'kernel': %d, 'i': i})"
    kernels = [subprocess.Popen([sys.executable, "-c", program % k]) for k in (1, 2)]
    assert [kernel.wait(60) for kernel in kernels] == [0, 0]
    for k in (1, 2):
        assert [line["i"] for line in logbook.lines("kernel") if line["kernel"] == k] == list(range(300))


def test_git_does_not_see_the_folder():
    logbook.keep({})
    subprocess.run(["git", "init", "-q"], cwd=logbook.file().parent.parent, check=True)
    status = ["git", "status", "--porcelain"]
    assert subprocess.run(status, cwd=logbook.file().parent.parent, capture_output=True).stdout == b""


def test_a_folder_that_cannot_be_written_is_said_and_no_more(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEEDGPU_LOGBOOK", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be written"):
        assert said(capsys, 1, 2) == "you said 1, it is 2: off by 1"
    logbook.running_table()


def test_tests_keep_the_readers_logbook_out(monkeypatch):
    assert ROOT not in logbook.file().parents
    monkeypatch.delenv("FEEDGPU_LOGBOOK")
    assert logbook.file() == ROOT / ".feedgpu" / "logbook.jsonl"


def test_outside_the_course_the_logbook_is_in_the_folder_that_one_works_in(monkeypatch, tmp_path):
    "And never beside the package, which may lie in site-packages"
    monkeypatch.delenv("FEEDGPU_LOGBOOK")
    monkeypatch.setattr(logbook, "course_folder", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert logbook.file() == tmp_path / ".feedgpu" / "logbook.jsonl"


def test_calibration(capsys, monkeypatch):
    logbook.calibration()
    assert capsys.readouterr().out == "No number was guessed so far.\n"
    titles = []
    monkeypatch.setattr(plt, "show", lambda: titles.append(plt.gca().get_title(loc="left")))
    for i, guess in enumerate((1, 20, 300, None, 0, "many")):
        logbook.predict(f"prediction {i}", guess).measured(30)
    logbook.guesses["prediction 0"].measured(60)  # again: the last counts
    logbook.calibration()
    assert titles == ["Half of your 3 guesses are within 10×;\n2 of them are too low"]
    assert json.loads(logbook.file().read_text().split("\n")[1])["guess"] == 1
    plt.close("all")


def test_the_waterfall_has_the_chapters_from_06_on(capsys, monkeypatch):
    logbook.log_share("05", "pytorch_script.py", 0.3)
    logbook.running_waterfall()
    assert capsys.readouterr().out.endswith("No chapter from 06 on has logged its line so far.\n")
    drawn = []
    monkeypatch.setattr(logbook.pictures, "waterfall", lambda stalls, step: drawn.append((stalls, step)))
    for chapter, share in (("06", 0.7), ("08", 0.5), ("07", 0.6), ("06", 0.75)):
        logbook.log_share(chapter, "the loop", share)
    logbook.running_waterfall()
    (stalls, step) = drawn[0]
    assert list(stalls.items()) == [("06 the loop", 0.75), ("07 the loop", 0.6), ("08 the loop", 0.5)]
    assert step == 0.012
