"""tools/run_notebooks.py stores real changes, and nothing else."""

import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from run_notebooks import code_cells, run

# A line of text with noise, a picture that is new at every run, a widget and an expected error.
NOISY = [
    "import os, time\nfrom IPython.display import Image, display\nrepeats = 3",
    'print(f"{repeats} repeats took {time.perf_counter():.6f} s")',
    'display(Image(os.urandom(9), format="png"))',
    "from ipywidgets import IntSlider\nIntSlider()",
    "{}['missing']",
]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The cells above as a notebook, run and stored once: its bytes."""
    cells = [new_code_cell(source) for source in NOISY]
    cells[-1].metadata.tags = ["raises-exception"]
    path = tmp_path_factory.mktemp("first_run") / "noisy.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    assert run(path, check=False)
    return path.read_bytes()


@pytest.fixture
def stored(first_run, tmp_path):
    """The path of a copy of that notebook."""
    path = tmp_path / "noisy.ipynb"
    path.write_bytes(first_run)
    return path


def edit(path, number, old, new):
    """Change the code of one cell, as an author would; what is stored stays."""
    notebook = nbformat.read(path, as_version=4)
    cell = code_cells(notebook)[number]
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, path)


def outputs(path):
    return [cell.outputs for cell in code_cells(nbformat.read(path, as_version=4))]


def test_a_second_run_changes_no_byte(stored):
    before = stored.read_bytes()
    assert run(stored, check=False)
    assert stored.read_bytes() == before
    assert run(stored, check=True)


def test_an_edit_above_renews_everything_so_that_numbers_and_pictures_are_of_one_run(stored):
    before = outputs(stored)
    edit(stored, 0, "repeats = 3", "repeats = 6 // 2")
    assert not run(stored, check=True)
    assert run(stored, check=False)
    after = outputs(stored)
    assert after[1] != before[1] and after[1][0].text.startswith("3 repeats took")
    assert after[2] != before[2]


def test_a_real_change_of_text_is_stored(stored):
    edit(stored, 0, "repeats = 3", "repeats = 4")
    assert not run(stored, check=True)
    assert run(stored, check=False)
    assert outputs(stored)[1][0].text.startswith("4 repeats took")


def test_everything_is_stored_anew_when_asked(stored):
    before = outputs(stored)
    assert run(stored, check=False, anew=True)
    assert outputs(stored)[1] != before[1] and outputs(stored)[2] != before[2]


def test_nothing_of_this_machine_is_stored(stored):
    notebook = nbformat.read(stored, as_version=4)
    assert "widgets" not in notebook.metadata
    assert outputs(stored)[3] == []  # a widget, which would be dead
    assert "version" not in notebook.metadata.language_info
    assert outputs(stored)[-1][0].traceback == ["KeyError: 'missing'"]


def test_a_failing_notebook_is_not_stored(stored, capsys):
    edit(stored, 0, "repeats = 3", "repeats = 3 / 0")
    before = stored.read_bytes()
    assert not run(stored, check=False)
    assert stored.read_bytes() == before
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_what_a_killed_kernel_leaves_is_cleared_away_with_the_run():
    "nbval gives a kernel no time to remove its temporary folder, which may hold a dataset"
    ask = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    where = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
    assert where == os.environ["IPYTHONDIR"]
