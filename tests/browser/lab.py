"""A JupyterLab of its own in a real browser, and a notebook in it, worked as a reader would.

    notebook = Notebook(page, lab, "notebooks/02_which_sample_is_where.ipynb")
    notebook.run_all()
    cell = notebook.cell("explore(")
    with notebook.changed(cell):                      # what its widget shows must become another
        notebook.slider(cell, "index").press("ArrowRight")
    assert notebook.problems() == []

Every wait has an end, and a sentence that says what was waited for.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as NotInTime
from run_notebooks import code_cells

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--no-first-run"]
START, STEP, RUN, LIMIT = 120, 60, 400, 900  # seconds at most: Lab's start, a step, a notebook's run, a test
expect.set_options(timeout=1000 * STEP)


def chromium() -> str | None:
    "The path of the browser, if there is one"
    return next(filter(None, map(shutil.which, NAMES)), None)


class Lab:
    """JupyterLab on 127.0.0.1 over a copy of the repository, with settings and a logbook of its own.

    Its kernels are of the Python that runs this, and import the copy.
    """

    def __init__(self, folder: Path):
        self.root, self.token = folder / "copy", secrets.token_hex(16)
        copy_tree(self.root)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        env = {key: value for key, value in os.environ.items() if not key.startswith("JUPYTER")}
        env |= {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
        env |= {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("SETTINGS", "WORKSPACES")}
        env |= {"IPYTHONDIR": str(folder / "ipython"), "FEEDGPU_LOGBOOK": str(folder)}
        env |= {"PYTHONPATH": str(self.root)}
        no_news = (
            folder / "SETTINGS" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
        )
        no_news.parent.mkdir(parents=True)
        no_news.write_text(json.dumps({"fetchNews": "false"}))  # or a question lies over the page
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": self.root,
            "ServerApp.allow_root": True,
            "ServerApp.open_browser": False,
            "IdentityProvider.token": self.token,
            "LabApp.expose_app_in_browser": True,
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            "LabApp.extension_manager": "readonly",
            # Should this process be killed, they end themselves.
            "ServerApp.shutdown_no_activity_timeout": 900,
            "MappingKernelManager.cull_idle_timeout": 900,
        }
        self.log = folder / "lab.log"
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            *(f"--{key}={option}" for key, option in options.items()),
        ]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command,
                env=env,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the tests, which end Lab
            )
        try:
            self.await_start()
        except BaseException:
            self.end()
            raise

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    def await_start(self):
        end = time.monotonic() + START
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url("api/status"), timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        what = f"did not answer within {START} s" if self.process.poll() is None else "ended at once"
        raise RuntimeError(f"JupyterLab {what}; its last words:\n{self.log.read_text()[-2000:]}")

    def end_kernels(self):
        for session in json.load(urllib.request.urlopen(self.url("api/sessions"), timeout=STEP)):
            request = urllib.request.Request(self.url(f"api/sessions/{session['id']}"), method="DELETE")
            urllib.request.urlopen(request, timeout=STEP).close()

    def end(self):
        "Ends the server and its kernels."
        end_all([psutil.Process(self.process.pid)] if self.process.poll() is None else [])
        self.process.wait()


def copy_tree(to: Path):
    "The files that git tracks, and those that it neither tracks nor ignores"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.check_output(command, cwd=ROOT, text=True).split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)


def end_all(processes: list[psutil.Process]):
    "Ends processes with all their children: asked first, and after 10 s told."
    family = [child for process in processes for child in process.children(recursive=True)]
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs([*processes, *family], timeout=10)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=10)


class Notebook:
    """A notebook of the copy, open in Lab with its kernel connected; without outputs, and nothing run yet.

    `page`: a page of its own. A `cell` is what `cell` or `cell_at` returns.
    """

    MODEL = "window.jupyterapp.shell.currentWidget"

    def __init__(self, page: Page, lab: Lab, path: str):
        self.page, self.path, self.errors = page, path, []
        page.set_default_timeout(1000 * STEP)
        page.on("pageerror", lambda error: self.errors.append(f"the page: {error}"))
        empty = nbformat.read(lab.root / path, as_version=4)
        for cell in code_cells(empty):
            cell.outputs, cell.execution_count = [], None
        nbformat.write(empty, lab.root / path)
        page.goto(lab.url(f"doc/tree/{path}"))
        page.wait_for_selector(".jp-Notebook")
        # The toolbar says "idle" before the kernel is connected, and what is run then is silently lost.
        ready = ("context.ready", "sessionContext.ready", "sessionContext.session.kernel.info")
        for promise in ready:
            self.wait(f"{self.MODEL}.{promise}", STEP, "the kernel's start")

    def wait(self, promise: str, seconds: float, what: str):
        "Waits until a promise of the page is kept; a call of page.evaluate would wait for ever."
        kept = "() => window.kept = 'yes', error => window.kept = String(error)"
        self.page.evaluate(f"() => {{ window.kept = ''; Promise.resolve({promise}).then({kept}); }}")
        try:
            result = self.page.wait_for_function("window.kept", timeout=1000 * seconds).json_value()
        except NotInTime:
            raise TimeoutError(f"{self.path}: {what} took more than {seconds} s; {self.state()}") from None
        assert result == "yes", f"{self.path}: {what} failed: {result}"

    def run_all(self):
        "Runs the cells from top to bottom; stops, as Lab does, at the first error that has no tag."
        self.wait("window.jupyterapp.commands.execute('notebook:run-all-cells')", RUN, "the run of all cells")

    def cells(self) -> list[dict]:
        "The cells as Lab has them now, in the format of notebooks"
        return self.page.evaluate(f"() => {self.MODEL}.content.widgets.map(cell => cell.model.toJSON())")

    def state(self) -> str:
        waiting = [
            cell for cell in self.cells() if cell["cell_type"] == "code" and not cell["execution_count"]
        ]
        first = waiting[0]["source"].partition("\n")[0] if waiting else ""
        return (
            f"{len(waiting)} cells have not run, the first is: {first}" if waiting else "all cells have run"
        )

    def problems(self) -> list[str]:
        "What went wrong until now: errors in the page and in cells, cells that did not run, dead widgets"
        found = list(self.errors)
        for number, cell in enumerate(self.cells(), 1):
            if cell["cell_type"] != "code":
                continue
            if cell["source"] and not cell["execution_count"]:
                found.append(f"cell {number} did not run")
            expected = "raises-exception" in cell["metadata"].get("tags", [])
            for output in cell["outputs"]:
                if output["output_type"] == "error" and not expected:
                    found.append(f"cell {number}: {output['ename']}: {output['evalue']}")
        dead = self.page.get_by_text("Error displaying widget").count()
        return found + ([f"{dead} widgets cannot be displayed"] if dead else [])

    def cell(self, code: str) -> Locator:
        "The first code cell that has `code` in its source, in view"
        sources = [cell["source"] if cell["cell_type"] == "code" else "" for cell in self.cells()]
        places = [at for at, source in enumerate(sources) if code in source]
        assert places, f"{self.path} has no cell with {code}"
        return self.cell_at(places[0])

    def cells_with_widgets(self) -> list[int]:
        "The places, for `cell_at`, of the cells that show one"
        kind = "application/vnd.jupyter.widget-view+json"
        outputs = [cell.get("outputs", []) for cell in self.cells()]
        return [at for at, all in enumerate(outputs) if any(kind in output.get("data", {}) for output in all)]

    def cell_at(self, at: int) -> Locator:
        # Lab takes cells far from the window out of the page.
        self.wait(f"{self.MODEL}.content.scrollToItem({at}, 'start')", STEP, "scrolling")
        self.page.evaluate(f"() => {{ {self.MODEL}.content.widgets[{at}].node.dataset.at = '{at}'; }}")
        found = self.page.locator(f"[data-at='{at}']")
        found.wait_for()
        return found

    def slider(self, cell: Locator, description: str) -> Locator:
        "The handle of a slider, which takes keys"
        label = self.page.get_by_text(description, exact=True)
        return cell.locator(".widget-slider", has=label).locator(".noUi-handle")

    def drag(self, handle: Locator, share: float):
        "Draws a slider's handle with the mouse to a share, 0 to 1, of its way."
        handle.scroll_into_view_if_needed()
        track = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-base')]").bounding_box()
        start = handle.bounding_box()
        y = start["y"] + start["height"] / 2
        self.page.mouse.move(start["x"] + start["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(track["x"] + share * track["width"], y, steps=8)
        self.page.mouse.up()

    def shown(self, cell: Locator) -> str:
        "What a panel shows below its controls, as HTML"
        return "".join(
            cell.locator(".widget-html-content").evaluate_all("all => all.map(one => one.innerHTML)")
        )

    @contextmanager
    def changed(self, cell: Locator):
        "What the panel of `cell` shows must change after what is done in this block, and come to rest."
        before = self.shown(cell)
        yield
        started, last, since = time.monotonic(), before, time.monotonic()
        while last == before or "Running …" in last or time.monotonic() < since + 0.5:
            limit = RUN if "Running …" in last else STEP
            assert time.monotonic() < started + limit, (
                f"{self.path}: no new state to rest in within {limit} s"
            )
            self.page.wait_for_timeout(50)
            if (now := self.shown(cell)) != last:
                last, since = now, time.monotonic()

    def screenshot(self, name: str):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@contextmanager
def opened(lab: Lab, browser: Browser, path: str):
    "A Notebook in a page of its own, which is closed at the end, as its kernel is."
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    try:
        yield Notebook(context.new_page(), lab, path)
    finally:
        try:
            context.close()
        finally:
            lab.end_kernels()
