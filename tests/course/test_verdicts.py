"""There is a verdict on whatever an answer does, and never fails."""

import ast
import subprocess
import sys
import threading
import time

import pytest
import torch
from syntax import ROOT

from feedgpu.course import verdicts
from feedgpu.course.verdicts import CHAPTER_OF, Right, exercise, verdict


@pytest.fixture(autouse=True)
def own_exercises():
    """The exercise that a test makes is gone after it."""
    yield
    vars(verdict).pop("six", None)


def of(answer, judge=lambda answer: None if answer() == 6 else f"expected 6, you gave {answer()}"):
    def six(answer):
        "twice three"
        return judge(answer)

    exercise(six)
    return verdict.six(answer)


# Verdicts


def not_started():
    raise NotImplementedError


def half_there():
    return torch.utils.data.Dataset()[0]


def recurses():
    return recurses()


def exits():
    sys.exit(3)


def interrupted():
    raise KeyboardInterrupt


def loops():
    while True:
        time.sleep(0.01)


def loops_and_catches():
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            time.sleep(0.01)
        except Exception:
            pass


class Unshowable:
    def __repr__(self):
        raise ValueError("no words")


ANSWERS = {
    "✓ six: twice three": lambda: 6,
    "✗ six: expected 6, you gave 7": lambda: 7,
    "… six: not started. Delete the `raise` above, write your answer and run both cells.": not_started,
    "… six: not started. Delete the `...` above, write your answer and run both cells.": ...,
    "✗ six: your answer led to NotImplementedError: Subclasses of Dataset should": half_there,
    "✗ six: your answer led to ZeroDivisionError": lambda: 1 / 0,
    "✗ six: your answer led to RecursionError": recurses,
    "✗ six: your answer led to SystemExit: 3": exits,
    "✗ six: your answer led to KeyboardInterrupt": interrupted,
    "✗ six: your answer led to TypeError: 'int' object is not callable": 6,
    "✗ six: your answer led to TypeError: 'NoneType'": None,
    "✗ six: your answer led to ValueError: no words": lambda: Unshowable(),
    "✗ six: your answer led to RuntimeError: Boolean value of Tensor": lambda: torch.zeros(2),
    "✗ six: no answer after 0.2 s": loops,
    "✗ six: no answer after 0.2 s. Is": loops_and_catches,
}


@pytest.mark.parametrize("sentence", ANSWERS)
def test_a_verdict_never_raises(sentence, monkeypatch):
    monkeypatch.setattr(verdicts, "SECONDS", 0.2)
    assert repr(of(ANSWERS[sentence])).startswith(sentence)


def test_what_was_measured_follows_the_tick():
    assert repr(of(None, lambda answer: Right("It took 3 s"))) == "✓ six: twice three. It took 3 s"


def test_what_comes_after_a_verdict_is_not_stopped(monkeypatch):
    monkeypatch.setattr(verdicts, "SECONDS", 0.2)
    of(lambda: 6)
    time.sleep(0.3)


def test_in_a_thread_there_is_no_alarm():
    shown = []
    thread = threading.Thread(target=lambda: shown.append(repr(of(lambda: 6))))
    thread.start()
    thread.join()
    assert shown == ["✓ six: twice three"]


def test_a_verdict_is_one_line_of_text_and_of_html():
    shown = of(lambda: "<b>\n7</b>")
    assert repr(shown) == "✗ six: expected 6, you gave <b> 7</b>"
    assert shown._repr_html_().count("<") == 2 and "&lt;b&gt; 7" in shown._repr_html_()


def test_strict_accepts_the_right_answer_alone(monkeypatch):
    monkeypatch.setenv("FEEDGPU_STRICT", "1")
    assert repr(of(lambda: 6)).startswith("✓")
    for answer in (lambda: 7, not_started, ..., exits):
        with pytest.raises(AssertionError, match=r"[✗…] six: "):
            of(answer)


# The exercises of the chapters


def test_every_exercise_is_found_by_its_name():
    "CHAPTER_OF says in which file; a name that is in no chapter is an error that lists those that are"
    judges = {
        (node.name, file.stem.removeprefix("chapter_"))
        for file in (ROOT / "feedgpu" / "course" / "exercises").glob("chapter_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(one).startswith("exercise") for one in node.decorator_list)
    }
    assert judges == set(CHAPTER_OF.items())
    assert dir(verdict) == sorted(CHAPTER_OF)
    with pytest.raises(AttributeError, match="no exercise 'waiting'; there are waiting_share, batches"):
        getattr(verdict, "waiting")  # noqa: B009


def test_the_exercises_of_other_chapters_are_not_imported():
    program = (
        "import sys\nfrom feedgpu.course import verdict\nverdict.batches\nprint(*sys.modules, sep='\\n')"
    )
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert [name for name in modules.split() if ".exercises." in name] == [
        "feedgpu.course.exercises.chapter_01"
    ]


@pytest.mark.parametrize("name", CHAPTER_OF)
def test_every_exercise_says_what_a_right_answer_did(name):
    said = getattr(verdict, name).__doc__
    assert said and "\n" not in said


JUNK = [None, 3, "x", [], not_started, lambda *_, **__: None, lambda *_, **__: [], Unshowable(), Unshowable]


@pytest.mark.parametrize("name", CHAPTER_OF)
def test_junk_is_not_right(name):
    shown = [repr(getattr(verdict, name)(junk)) for junk in JUNK]
    assert [text for text in shown if not text.startswith((f"✗ {name}: ", f"… {name}: "))] == []
