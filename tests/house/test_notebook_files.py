"""The stored notebooks are complete, and free of what belongs to one machine.

nbval does not compare a cell that was stored without a count and without outputs: a stripped
notebook would pass. These checks close that hole.
"""

import ast
from pathlib import Path
from statistics import median

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from run_notebooks import WIDGET, code_cells, code_hashes, has_uncompared_output

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = [
    path for path in sorted((ROOT / "notebooks").rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts
]
MAX_BYTES = 300_000
# How a path begins that means something on one machine only.
MACHINE_PATHS = (str(ROOT), "/home/", "/root/", "/tmp/", "/Users/", "/var/folders/", "C:\\Users")


def must_show_something(source):
    """Whether the code surely has an output: it prints, displays, or ends in a plain value.

    A call as the last line may return None, and magics are not Python: both are left undecided.
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return False
    for statement in statements:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            if ast.unparse(statement.value.func) in ("print", "display", "plt.show"):
                return True
    return (
        bool(statements)
        and isinstance(statements[-1], ast.Expr)
        and not isinstance(statements[-1].value, ast.Call)
    )


def texts(output):
    """Every piece of text in one output, pictures left out."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return [output.evalue, *output.traceback]
    return [str(value) for kind, value in output.data.items() if not kind.startswith("image/")]


def cell_problems(cell):
    if must_show_something(cell.source) and not cell.outputs:
        yield "shows nothing, though its code does"
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
            yield f"ends in {output.ename} and has no tag raises-exception"
        if output.get("name") == "stderr" and "Warning" in output.text:
            yield "stores a warning"
        if WIDGET in output.get("data", {}):
            yield "stores a widget, dead without its kernel: run tools/run_notebooks.py"
        for text in texts(output):
            for start in MACHINE_PATHS:
                if start in text:
                    yield f"stores a path of one machine: {start}…"


def problems(notebook, size):
    """What is wrong with a stored notebook of `size` bytes: one sentence each."""
    found = []
    if size >= MAX_BYTES:
        found.append(f"the file has {size:,} bytes, the limit is {MAX_BYTES:,}")
    if "widgets" in notebook.metadata:
        found.append("the state of widgets is stored")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernel is not python3")

    cells = code_cells(notebook)
    counts = [cell.execution_count for cell in cells]
    if not cells or counts != list(range(1, len(cells) + 1)):
        found.append(f"the cells were not all run, once and in order: {counts}")
    if not any(cell.outputs for cell in cells):
        found.append("no cell shows anything")
    for number, (cell, made_by) in enumerate(zip(cells, code_hashes(notebook), strict=True), 1):
        found += [f"cell {number} {problem}" for problem in cell_problems(cell)]
        if has_uncompared_output(cell) and cell.metadata.get("made_by") != made_by:
            found.append(f"cell {number} shows a picture of older code: run tools/run_notebooks.py")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook(path):
    assert problems(nbformat.read(path, as_version=4), path.stat().st_size) == []


def test_there_are_notebooks():
    assert NOTEBOOKS


COLUMNS, LONGEST, MEDIAN = 88, 20, 4  # of code cells, in lines that are not empty
MAY_BE_LONGER = ("same-as:loop", "exercise:")  # the article's training loop, and files to be mended


def shape_problems(notebook):
    "Code cells that are too wide or too long to be read at a glance"
    lengths = []
    for number, cell in enumerate(code_cells(notebook), 1):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        lengths.append(len(lines))
        if wide := [line for line in lines if len(line) > COLUMNS]:
            yield f"cell {number} has a line of {len(wide[0])} columns"
        exempt = any(tag.startswith(MAY_BE_LONGER) for tag in cell.metadata.get("tags", []))
        if len(lines) > LONGEST and not exempt:
            yield f"cell {number} has {len(lines)} lines"
    if median(lengths) > MEDIAN:
        yield f"half of the cells have {median(lengths):.0f} lines or more"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_read_at_a_glance(path):
    assert list(shape_problems(nbformat.read(path, as_version=4))) == []


@pytest.mark.parametrize(
    "source, tags, problem",
    [
        ("x = 1\n" * 21, [], "cell 1 has 21 lines"),
        ("x = 1\n" * 21, ["exercise:x"], "half of the cells have 21 lines or more"),
        ("#" * 89, [], "cell 1 has a line of 89 columns"),
    ],
)
def test_a_cell_that_is_too_large_is_found(source, tags, problem):
    notebook = new_notebook(cells=[new_code_cell(source, metadata={"tags": tags})])
    assert next(shape_problems(notebook)) == problem


# The checks themselves: a sound notebook passes, and every planted fault is found.


@pytest.fixture
def sound():
    """A small notebook with each kind of cell that the checks look at."""
    result = new_output("execute_result", {"text/plain": "7"}, execution_count=2)
    picture = new_output("display_data", {"image/png": "iVBOR", "text/plain": "<Figure>"})
    error = new_output("error", ename="KeyError", evalue="'a'", traceback=["KeyError: 'a'"])
    cells = [
        new_markdown_cell("# A title"),
        new_code_cell("x = 3", execution_count=1),
        new_code_cell("x + 4", execution_count=2, outputs=[result]),
        new_code_cell("print(x)", execution_count=3, outputs=[new_output("stream", text="3\n")]),
        new_code_cell("plt.plot(x)\nplt.show()", execution_count=4, outputs=[picture]),
        new_code_cell("{}['a']", execution_count=5, outputs=[error]),
    ]
    cells[-1].metadata.tags = ["raises-exception"]
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    cells[4].metadata.made_by = code_hashes(notebook)[3]
    return notebook


def stripped(notebook):
    for cell in code_cells(notebook):
        cell.execution_count, cell.outputs = None, []


def emptied(notebook):
    code_cells(notebook)[2].outputs = []


def emptied_value(notebook):
    code_cells(notebook)[1].outputs = []


def emptied_picture(notebook):
    code_cells(notebook)[3].outputs = []


def not_run(notebook):
    code_cells(notebook)[0].execution_count = None


def run_twice(notebook):
    code_cells(notebook)[-1].execution_count = 6


def empty_cell(notebook):
    notebook.cells.append(new_code_cell(""))


def untagged_error(notebook):
    notebook.cells[-1].metadata.tags = []


def widget_state(notebook):
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {}}


def widget_view(notebook):
    code_cells(notebook)[1].outputs[0].data[WIDGET] = {"model_id": "0"}


def other_kernel(notebook):
    notebook.metadata.kernelspec.name = "conda-env-mine-py"


def path_in_print(notebook):
    code_cells(notebook)[2].outputs[0].text = "wrote /home/someone/data/a.pt\n"


def path_in_value(notebook):
    code_cells(notebook)[1].outputs[0].data["text/plain"] = "PosixPath('/tmp/a')"


def path_in_traceback(notebook):
    code_cells(notebook)[-1].outputs[0].traceback = ["File C:\\Users\\someone\\a.py"]


def warning(notebook):
    text = "CELL.py:1: UserWarning: too many workers\n"
    code_cells(notebook)[2].outputs.append(new_output("stream", name="stderr", text=text))


def picture_of_older_code(notebook):
    code_cells(notebook)[0].source = "x = 4"


FAULTS = {
    stripped: "not all run",
    emptied: "cell 3 shows nothing",
    emptied_value: "cell 2 shows nothing",
    emptied_picture: "cell 4 shows nothing",
    not_run: "not all run",
    run_twice: "not all run",
    empty_cell: "not all run",
    untagged_error: "cell 5 ends in KeyError",
    widget_state: "widgets",
    widget_view: "cell 2 stores a widget",
    other_kernel: "kernel",
    path_in_print: "/home/",
    path_in_value: "/tmp/",
    path_in_traceback: "C:\\Users",
    warning: "cell 3 stores a warning",
    picture_of_older_code: "cell 4 shows a picture of older code",
}


def test_a_sound_notebook_has_no_problems(sound):
    assert problems(sound, MAX_BYTES - 1) == []


def test_a_large_file_is_found(sound):
    assert "the limit is 300,000" in problems(sound, MAX_BYTES)[0]


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(sound, plant):
    plant(sound)
    assert any(FAULTS[plant] in problem for problem in problems(sound, 1000))
