"""The time lines of chapter 06's exercise show what its verdict says of them; its list names its causes."""

import re

import nbformat
import pytest
from syntax import ROOT

from feedgpu.course import verdict
from feedgpu.course.exercises.chapter_06 import CAUSES, LOOK, time_lines
from feedgpu.measure.timeline import WORK

NOTEBOOK = ROOT / "notebooks" / "06_is_the_model_waiting.ipynb"
LINES = time_lines()


def rest(line, worker, until):
    "Share of the time, from the worker's first sample to `until`, in which it makes none"
    spans = [s for s in LINES[line].spans if s.who == worker and s.what in WORK and s.start < until]
    begin = min(span.start for span in spans)
    return 1 - sum(min(span.end, until) - span.start for span in spans) / (until - begin)


def test_the_list_of_the_exercise_is_that_of_its_judge():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    listed = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    found = {int(number): words for number, words in re.findall(r"(?m)^(\d)\. ([^:\n]+)", listed)}
    assert found == CAUSES and all(cause in CAUSES for cause, _ in LOOK.values())


def test_the_time_lines_are_the_same_on_every_machine(monkeypatch):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "16")
    assert {line: timeline.seconds for line, timeline in time_lines().items()} == {
        line: timeline.seconds for line, timeline in LINES.items()
    }


def test_workers_without_a_break():
    assert max(rest("A", 0, 0.3), rest("A", 1, 0.3), rest("D", 0, 0.3)) < 0.02
    assert {span.who for span in LINES["D"].spans} == {"main", 0}


def test_a_model_without_a_break():
    waits = [span.seconds for span in LINES["B"].spans if span.what == "waiting" and span.batch > 0]
    assert sum(waits[:-1]) < 0.03 * LINES["B"].seconds and rest("B", 0, 0.25) > 0.3


def test_one_long_batch():
    waits = sorted(s.seconds for s in LINES["C"].spans if s.what == "waiting" and s.start > 0.05)
    assert waits[-1] > 0.06 and sum(waits[:-1]) < 0.02 and min(rest("C", 0, 0.3), rest("C", 1, 0.1)) > 0.3


def test_three_starts():
    starts = [span for span in LINES["E"].spans if span.what == "starting"]
    assert len(starts) == 3 and all(s.end < 0.3 for s in starts)
    batches = [(span.who, span.batch) for span in LINES["E"].spans if span.what == "computing"]
    assert len(set(batches)) == len(batches) == 18


@pytest.mark.parametrize("answer", [(1, 1, 5, 2, 4), [6] * 5, (3, 1, 5, 4, 2)], ids=str)
def test_a_wrong_answer_is_told_where_to_look_and_not_the_cause(answer):
    said = repr(verdict.causes(answer))
    wrong = [line for line, given in zip(LOOK, answer, strict=True) if given != LOOK[line][0]]
    expected = f" {5 - len(wrong)} of 5 are right; look again at {wrong[0]}: {LOOK[wrong[0]][1]}"
    assert said.endswith(expected) and not any(cause in said for cause in CAUSES.values())
