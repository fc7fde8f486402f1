"""feedgpu/verdicts.py has a verdict on whatever an answer does, and never fails."""

import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch

import feedgpu.checks  # noqa: F401  puts the chapters' checks into `check`
from feedgpu import verdicts
from feedgpu.verdicts import Right, check, exercise


@pytest.fixture(autouse=True)
def own_exercises(monkeypatch):
    """Checks that a test makes are gone after it."""
    monkeypatch.setattr(verdicts, "check", SimpleNamespace())


def verdict(answer, judge=lambda answer: None if answer() == 6 else f"expected 6, you gave {answer()}"):
    def six(answer):
        "twice three"
        return judge(answer)

    exercise(six)
    return verdicts.check.six(answer)


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
    "… six: not started. Replace the `raise` above and run both cells.": not_started,
    "… six: not started. Replace the `...` above and run both cells.": ...,
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
    assert repr(verdict(ANSWERS[sentence])).startswith(sentence)


def test_what_was_measured_follows_the_tick():
    assert repr(verdict(None, lambda answer: Right("It took 3 s"))) == "✓ six: twice three. It took 3 s"


def test_what_comes_after_a_verdict_is_not_stopped(monkeypatch):
    monkeypatch.setattr(verdicts, "SECONDS", 0.2)
    verdict(lambda: 6)
    time.sleep(0.3)


def test_in_a_thread_there_is_no_alarm():
    shown = []
    thread = threading.Thread(target=lambda: shown.append(repr(verdict(lambda: 6))))
    thread.start()
    thread.join()
    assert shown == ["✓ six: twice three"]


def test_a_verdict_is_one_line_of_text_and_of_html():
    shown = verdict(lambda: "<b>\n7</b>")
    assert repr(shown) == "✗ six: expected 6, you gave <b> 7</b>"
    assert shown._repr_html_().count("<") == 2 and "&lt;b&gt; 7" in shown._repr_html_()


def test_strict_accepts_the_right_answer_alone(monkeypatch):
    monkeypatch.setenv("FEEDGPU_STRICT", "1")
    assert repr(verdict(lambda: 6)).startswith("✓")
    for answer in (lambda: 7, not_started, ..., exits):
        with pytest.raises(AssertionError, match=r"[✗…] six: "):
            verdict(answer)


def test_every_check_says_what_a_right_answer_did():
    for name, checked in vars(check).items():
        assert checked.__doc__ and "\n" not in checked.__doc__, name


JUNK = [None, 3, "x", [], not_started, lambda *_, **__: None, lambda *_, **__: [], Unshowable(), Unshowable]


@pytest.mark.parametrize("name", vars(check))
def test_junk_is_not_right(name):
    shown = [repr(getattr(check, name)(junk)) for junk in JUNK]
    assert [text for text in shown if not text.startswith((f"✗ {name}: ", f"… {name}: "))] == []
