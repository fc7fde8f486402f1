"""The widgets in JupyterLab, moved by keyboard and by mouse; each chapter that has some, run in the page."""

import json
import sys

import nbformat
import pytest
from lab import ROOT, Notebook, opened
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect
from run_notebooks import all_notebooks, code_cells


def has_widgets(path) -> bool:
    "Whether a cell imports from feedgpu.course.widgets"
    cells = code_cells(nbformat.read(path, as_version=4))
    return any("from feedgpu.course.widgets import" in cell.source for cell in cells)


CHAPTERS = [path.relative_to(ROOT).as_posix() for path in all_notebooks() if has_widgets(path)]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.rpartition("/")[2].removesuffix(".ipynb"))
def test_chapter(lab, browser, path):
    with opened(lab, browser, path) as notebook:
        run_and_move(notebook)


def run_and_move(notebook: Notebook):
    "Runs the notebook, moves each slider by key and by mouse, presses each button: each must show something."
    notebook.run_all()
    assert notebook.problems() == []
    cells = notebook.cells_with_widgets()
    assert cells, "it imports feedgpu.course.widgets, but no cell shows a widget"
    for number, at in enumerate(cells, 1):
        cell = notebook.cell_at(at)
        cell.locator(".widget-html-content").first.wait_for()
        for handle in cell.locator(".widget-slider .noUi-target:not([disabled]) .noUi-handle").all():
            least, now, most = (
                float(handle.get_attribute(f"aria-value{what}")) for what in ("min", "now", "max")
            )
            with notebook.changed(cell):
                handle.press("ArrowRight" if now < most else "ArrowLeft")
            with notebook.changed(cell):
                notebook.drag(handle, 0.75 if now < (least + most) / 2 else 0.25)
        for button in cell.locator(".widget-button, .widget-toggle-button:not(.mod-active)").all():
            with notebook.changed(cell):
                button.click()
        assert cell.get_by_role("alert").count() == 0, cell.get_by_role("alert").all_inner_texts()
        notebook.screenshot(f"{notebook.path.rpartition('/')[2].removesuffix('.ipynb')}-{number}")
    assert notebook.problems() == []


# One small notebook, in which each kind of control is moved.

CELLS = [
    """
import json, sys, tempfile, os
from pathlib import Path
import ipywidgets, torch
import feedgpu
from feedgpu.course.widgets import View, explore, explored, panel
workshop = tempfile.TemporaryDirectory()
os.chdir(workshop.name)
""",
    "print(json.dumps([sys.executable, feedgpu.__file__]))",
    """
IDs = [f"id-{i}" for i in range(1, 13)]
labels = {ID: i % 3 for i, ID in enumerate(IDs)}
partition = {"train": IDs[:9], "validation": IDs[9:]}
Path("data").mkdir()
for i, ID in enumerate(IDs):
    torch.save(torch.roll(torch.eye(12), i, 1)[None], f"data/{ID}.pt")
Path("data/id-12.pt").write_bytes(b"")
for name, content in (("labels", labels), ("classes", ["cat", "dog", "<b>"]), ("partition", partition)):
    Path(f"data/{name}.json").write_text(json.dumps(content))
""",
    "explored('id-1')",
    "explore('data')",
    """
step = ipywidgets.FloatSlider(5, min=0, max=20, description="step (ms)")
panel(
    lambda ms: View(f"predicted with {ms} ms"),
    {"ms": step},
    {"measure it": lambda ms: View(f"measured with {ms} ms"), "fail": lambda ms: 1 / 0},
)
""",
    "explore('data', ({'train': ['id-2'], 'validation': []}, labels))",
    "{}['an expected error']",
]


@pytest.fixture(scope="module")
def notebook(lab, browser):
    cells = [new_code_cell(source.strip()) for source in CELLS]
    cells[-1].metadata.tags = ["raises-exception"]
    with opened(lab, browser, write(lab, "widgets", cells)) as notebook:
        notebook.run_all()
        assert notebook.problems() == []
        yield notebook
        assert notebook.problems() == []


def write(lab, name, cells) -> str:
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    path = f"notebooks/{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), lab.root / path)
    return path


def test_the_kernel_is_ours_and_imports_the_copy(lab, notebook):
    python, package = json.loads(notebook.cells()[1]["outputs"][0]["text"])
    assert python == sys.executable
    assert package == str(lab.root / "feedgpu" / "__init__.py")


def test_a_function_of_a_widget_shows_text_and_picture_without_it(notebook):
    said, drawn = notebook.cells()[3]["outputs"]
    assert "file       data/id-1.pt" in said["text"]
    assert drawn["data"]["text/plain"] == "id-1 is of class cat" and drawn["data"]["image/png"]


def test_explore_by_keyboard(notebook):
    cell = notebook.cell("explore('data')")
    handle = notebook.slider(cell, "index")
    with notebook.changed(cell):
        handle.press("ArrowRight")
    expect(cell.get_by_label("ID", exact=True)).to_have_value("id-2")
    expect(cell.get_by_role("img")).to_have_attribute("alt", "id-2 is of class dog")
    with notebook.changed(cell):
        handle.press("End")
    assert "train, at index 8 of 9" in notebook.shown(cell)

    # From control to control with the tab key
    handle.press("Tab")
    handle.page.keyboard.press("Tab")  # over the slider's number, which can be typed as well
    expect(cell.get_by_label("ID", exact=True)).to_be_focused()
    toggles = cell.locator(".widget-toggle-button")
    toggles.first.focus()
    handle.page.keyboard.press("Tab")
    with notebook.changed(cell):
        handle.page.keyboard.press("Enter")  # the index stays as far to the right as it can
    assert "data/id-12.pt cannot be read: it is empty, cut short" in cell.get_by_role("alert").inner_text()
    notebook.screenshot("explore-damaged-sample")
    with notebook.changed(cell):
        handle.press("Home")
    assert "validation, at index 0 of 3" in notebook.shown(cell)


def test_explore_by_mouse(notebook):
    cell = notebook.cell("explore('data')")
    cell.get_by_role("button", name="train: 9").click()
    handle = notebook.slider(cell, "index")
    for share, index in ((0.5, 4), (0.25, 2), (1, 8)):
        with notebook.changed(cell):
            notebook.drag(handle, share)
        assert f"train, at index {index} of 9" in notebook.shown(cell)
    notebook.screenshot("explore")


def test_explore_by_ID(notebook):
    cell = notebook.cell("explore('data')")
    ID = cell.get_by_label("ID", exact=True)
    with notebook.changed(cell):
        ID.fill("id-11")
        ID.press("Enter")
    assert "validation, at index 1 of 3" in notebook.shown(cell)
    expect(notebook.slider(cell, "index")).to_have_attribute("aria-valuetext", "1")
    with notebook.changed(cell):
        ID.fill("../<b>")
        ID.press("Enter")
    expect(cell.get_by_role("alert")).to_have_text("✗ '../<b>' is in no partition")


def test_one_sample_and_none(notebook):
    cell = notebook.cell("['id-2']")
    expect(cell.locator(".noUi-target")).to_have_attribute("disabled", "true")
    with notebook.changed(cell):
        cell.get_by_role("button", name="validation: 0").click()
    expect(cell.get_by_role("alert")).to_have_text("✗ partition 'validation' is empty")


def test_buttons(notebook):
    cell = notebook.cell("step = ")
    for press in ("click", "Enter"):
        button = cell.get_by_role("button", name="measure it")
        with notebook.changed(cell):
            button.click() if press == "click" else button.press(press)
        assert "measured with 5.0 ms" in notebook.shown(cell)
        with notebook.changed(cell):
            notebook.slider(cell, "step (ms)").press("ArrowRight")
        assert "predicted with 5.1 ms" in notebook.shown(cell)
        assert "measured" not in notebook.shown(cell)
        with notebook.changed(cell):
            notebook.slider(cell, "step (ms)").press("ArrowLeft")
    with notebook.changed(cell):
        cell.get_by_role("button", name="fail").click()
    expect(cell.get_by_role("alert")).to_have_text("✗ division by zero (ZeroDivisionError)")
    notebook.screenshot("panel")


# The tests themselves: what is wrong is found.


def test_an_error_in_a_cell_is_found(lab, browser):
    cells = [new_code_cell(source) for source in ("1 / 0", "print('never run')")]
    with opened(lab, browser, write(lab, "failing", cells)) as notebook:
        notebook.run_all()
        assert notebook.problems() == ["cell 1: ZeroDivisionError: division by zero", "cell 2 did not run"]
        notebook.page.evaluate("() => { setTimeout(() => { throw new Error('planted') }) }")
        notebook.page.wait_for_timeout(200)
        assert notebook.problems()[0] == "the page: planted"
