"""Every exercise of the chapters has a solution that holds; tools/solutions.py finds those that do not."""

import re
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from run_notebooks import all_notebooks
from solutions import has_exercises, problems, structure_problems

NOTEBOOKS = [path for path in all_notebooks() if has_exercises(path)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_solutions_hold(path):
    assert problems(path) == []


# The tool itself: sound exercises pass, and every planted fault is found.


def exercise_cells(name, left_open, solution):
    """An exercise, its verdict and its solution, as a chapter has them."""
    cells = [
        new_code_cell(left_open),
        new_code_cell(f"verdict.{name}({name})"),
        new_markdown_cell(
            f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n\n</details>"
        ),
    ]
    cells[0].metadata.tags = [f"exercise:{name}"]
    cells[2].metadata.tags = [f"solution:{name}"]
    return cells


JUDGES = """
from feedgpu.course.verdicts import exercise, verdict

def add(name, judge):
    judge.__name__, judge.__doc__ = name, "what was asked for"
    exercise(judge)

for name in ("function", "wrong", "crashing", "unfinished", "silent"):
    add(name, lambda answer: None if answer() == 6 else f"expected 6, you gave {answer()}")
add("value", lambda answer: None if answer == 6 else f"expected 6, you gave {answer}")
add("lenient", lambda answer: None)
"""
STUB = "def {0}():\n    raise NotImplementedError"
FOUND = {
    "wrong": "the solution of wrong fails: AssertionError: ✗ wrong: expected 6, you gave 7",
    "crashing": "the solution of crashing ends in ZeroDivisionError: division by zero",
    "unfinished": "the solution of unfinished fails: AssertionError: … unfinished: not started",
    "lenient": "the exercise lenient, as it is left open, must be refused, but: it is accepted",
    "unknown": "the exercise unknown, as it is left open, must be refused, but: AttributeError",
    "silent": "the solution of silent fails: its verdict shows nothing",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the tool says of a notebook with two sound exercises and one with each fault."""
    cells = [
        new_code_cell(JUDGES),
        *exercise_cells("function", STUB.format("function"), "def function():\n    return 6"),
        *exercise_cells("value", "value = ...", "value = 6"),
        *exercise_cells("wrong", STUB.format("wrong"), "def wrong():\n    return 7"),
        *exercise_cells("crashing", STUB.format("crashing"), "crashing = 1 / 0"),
        *exercise_cells("unfinished", STUB.format("unfinished"), "pass"),
        *exercise_cells("lenient", "lenient = ...", "lenient = 6"),
        *exercise_cells("unknown", "unknown = ...", "unknown = 6"),
        *exercise_cells("silent", STUB.format("silent"), "def silent():\n    return 6"),
    ]
    cells[-2].source = "shown = verdict.silent(silent)"
    path = tmp_path_factory.mktemp("solutions") / "exercises.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return problems(path)


@pytest.mark.parametrize("name", FOUND)
def test_a_fault_is_found(found, name):
    assert any(problem.startswith(FOUND[name]) for problem in found), found


def test_sound_exercises_pass(found):
    assert not any(re.search(r"\b(function|value)\b", problem) for problem in found), found


def test_what_does_not_fit_together_is_found_without_a_run():
    cells = exercise_cells("a", STUB.format("a"), "a = 6") + exercise_cells("b", "b = ...", "b = 6")
    assert list(structure_problems(new_notebook(cells=cells))) == []

    def left(*places):
        return list(structure_problems(new_notebook(cells=[cells[i] for i in places])))

    assert left(0, 1, 3, 4, 5) == ["a has no solution"]
    assert left(1, 2, 3, 4, 5) == ["a has no exercise"]
    assert left(0, 2, 3, 4, 5) == ["a has no verdict"]
    twice = new_notebook(cells=cells + exercise_cells("b", "b = ...", "b = 6")[2:])
    assert list(structure_problems(twice)) == ["b has 2 solutions"]
    cells[2].source = cells[2].source.replace("```python", "```")
    assert left(0, 1, 2) == ["the solution a is not one ```python fence in <details>, in a markdown cell"]


def test_another_cell_that_fails_is_said(tmp_path):
    cells = [new_code_cell("1 / 0"), *exercise_cells("a", "a = ...", "a = 6")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "broken.ipynb")
    (problem,) = problems(tmp_path / "broken.ipynb")
    assert problem.startswith("another cell fails") and "ZeroDivisionError" in problem


def test_only_what_an_exercise_needs_is_run(tmp_path):
    """The second cell would take a minute; the third needs the first; the last comes after."""
    cells = [
        new_code_cell(JUDGES),
        new_code_cell("import time\ntime.sleep(60)"),
        new_code_cell("def six():\n    return 6"),
        *exercise_cells("value", "value = ...", "value = six()"),
        new_code_cell("time.sleep(60)"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "slow.ipynb")
    start = time.monotonic()
    assert problems(tmp_path / "slow.ipynb") == []
    assert time.monotonic() - start < 50


def test_an_exercise_may_need_what_names_do_not_tell(tmp_path):
    cells = [
        new_code_cell(JUDGES),
        new_code_cell("globals()['six'] = 6"),
        *exercise_cells("value", "value = ...", "value = six"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "hidden.ipynb")
    assert problems(tmp_path / "hidden.ipynb") == []


def test_a_part_of_a_chapter_leaves_nothing_in_its_folder(tmp_path):
    """The first cell defines nothing that an exercise needs, so the second is run without it."""
    cells = [
        new_code_cell("import os, tempfile\nos.chdir(tempfile.mkdtemp())"),
        new_code_cell(JUDGES + "\nopen('left.txt', 'w').close()"),
        *exercise_cells("value", "value = ...", "value = 6"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "tidy.ipynb")
    assert problems(tmp_path / "tidy.ipynb") == []
    assert [path.name for path in tmp_path.iterdir()] == ["tidy.ipynb"]
