"""The net holds: on one small notebook, each planted fault is found by what `make test` runs."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import run_notebooks
import solutions
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from run_notebooks import NOISE_FILE, code_cells
from test_notebook_files import problems

MY_CLASSES = Path(__file__).resolve().parents[2] / "my_classes.py"
CELLS = [
    "import tempfile\nfrom pathlib import Path\nimport torch\nfrom my_classes import Dataset\n"
    "from feedgpu.course.verdicts import exercise, verdict",
    "folder = tempfile.TemporaryDirectory()\nlabels = {'a': 0, 'b': 1, 'c': 2}\n"
    "for ID in labels:\n    torch.save(torch.full((5,), 10.0 * labels[ID]), Path(folder.name) / f'{ID}.pt')\n"
    "training_set = Dataset(list(labels), labels, folder.name)",
    "print(f'{len(training_set)} samples')",
    "print([(X.sum().item(), y) for X, y in map(training_set.__getitem__, range(3))])",
    "X, y = training_set[1]\nX.untyped_storage().nbytes()",
    '@exercise\ndef total(answer):\n    "the sum of all samples"\n    if answer != 150:\n'
    '        return f"expected 150, you gave {answer}"',
    "total = ...",
    "verdict.total(total)",
]
SOLUTION = "<details><summary>Solution</summary>\n\n```python\ntotal = 150\n```\n\n</details>"

# What is planted in a copy of my_classes.Dataset, and the cells (from 0) whose output must not compare.
FAULTS = {
    "one_too_few": ("return len(self.list_IDs)", "return len(self.list_IDs) - 1", {2}),
    "label_of_another": (
        "y = target(self.labels[ID])",
        "y = target(self.labels[self.list_IDs[index - 1]])",
        {3},
    ),
    "view_of_a_larger_storage": ("X = self.load(file)", "X = self.load(file).repeat(2)[:5]", {4}),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The notebook, run and stored as its author does."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    notebook.cells.append(new_markdown_cell(SOLUTION))
    notebook.cells[6].metadata.tags = ["exercise:total"]
    notebook.cells[8].metadata.tags = ["solution:total"]
    path = tmp_path_factory.mktemp("stored") / "net.ipynb"
    shutil.copy(MY_CLASSES, path.parent)
    nbformat.write(notebook, path)
    assert run_notebooks.run(path, check=False)
    return nbformat.read(path, as_version=4)


def edited(stored):
    """What nobody should do to stored outputs: another count, and none."""
    notebook = copy.deepcopy(stored)
    cells = code_cells(notebook)
    assert cells[2].outputs[0].text == "3 samples\n"
    cells[2].outputs[0].text = "4 samples\n"
    assert cells[3].outputs
    cells[3].outputs = []
    return notebook


@pytest.fixture(scope="module")
def failed(stored, tmp_path_factory):
    """{variant: the cells that fail under nbval}; each variant lies beside a my_classes.py of its own."""
    root = tmp_path_factory.mktemp("net")
    source = MY_CLASSES.read_text(encoding="utf-8")
    variants = {"sound": (stored, source), "edited": (edited(stored), source)}
    for name, (right, wrong, _) in FAULTS.items():
        assert source.count(right) == 1, f"my_classes.py no longer says {right!r}"
        variants[name] = stored, source.replace(right, wrong)
    for name, (notebook, code) in variants.items():
        (root / name).mkdir()
        (root / name / "my_classes.py").write_text(code, encoding="utf-8")
        nbformat.write(notebook, root / name / "net.ipynb")
    options = ["--nbval", "--nbval-current-env", f"--nbval-sanitize-with={NOISE_FILE}", "--tb=no", "-rA"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "."],
        cwd=root,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    seen = re.findall(r"^(PASSED|FAILED) (\w+)/net\.ipynb::Cell (\d+)", done.stdout, re.MULTILINE)
    assert len(seen) == len(variants) * len(CELLS), done.stdout
    return {
        name: {int(cell) for state, variant, cell in seen if variant == name and state == "FAILED"}
        for name in variants
    }


def test_the_notebook_passes_as_it_was_stored(failed, stored):
    assert failed["sound"] == set()
    assert problems(stored, 1000) == []


def test_a_changed_count_and_an_emptied_output_fail(failed):
    assert failed["edited"] == {2, 3}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_dataset_fails(failed, fault):
    assert failed[fault] == FAULTS[fault][2]


def test_a_stripped_notebook_fails(stored):
    stripped = copy.deepcopy(stored)
    for cell in code_cells(stripped):
        cell.execution_count, cell.outputs = None, []
    assert any("not all run" in problem for problem in problems(stripped, 1000))


def test_a_check_that_always_says_yes_fails(stored, tmp_path):
    nbformat.write(stored, tmp_path / "net.ipynb")
    shutil.copy(MY_CLASSES, tmp_path)
    assert solutions.problems(tmp_path / "net.ipynb") == []
    lenient = copy.deepcopy(stored)
    assert "answer != 150" in lenient.cells[5].source
    lenient.cells[5].source = lenient.cells[5].source.replace("answer != 150", "False")
    nbformat.write(lenient, tmp_path / "lenient.ipynb")
    (problem,) = solutions.problems(tmp_path / "lenient.ipynb")
    assert "the exercise total, as it is left open, must be refused" in problem
