"""One JupyterLab and one browser for all tests of the widgets; whatever happens, both are ended."""

import re
import shutil
import signal
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from lab import FLAGS, LIMIT, ROOT, SCREENSHOTS, Lab, Notebook, chromium
from playwright.sync_api import Error, sync_playwright


def pytest_configure():
    if chromium() is None:
        raise pytest.UsageError(
            "there is no Chromium on the PATH to test the widgets in: apt install chromium fonts-dejavu-core"
        )
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C, with what was started


def pytest_terminal_summary(terminalreporter):
    pictures = len(list(SCREENSHOTS.glob("*.png")))
    terminalreporter.write_line(f"{pictures} screenshots to look at in {SCREENSHOTS.relative_to(ROOT)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    notebook = getattr(item, "funcargs", {}).get("notebook")
    if report.failed and isinstance(notebook, Notebook):
        with suppress(Error):  # the page may be gone
            notebook.screenshot("failed-" + re.sub(r"\W+", "-", item.name))
    return report


@pytest.fixture(scope="session")
def lab():
    with tempfile.TemporaryDirectory(prefix="feedgpu-lab-") as folder:
        lab = Lab(Path(folder))
        yield lab
        lab.end()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def no_test_hangs(lab, browser):
    "A page that hangs would make playwright wait for ever: after LIMIT seconds the browser is killed."
    hung = []

    def kill():
        hung.append(True)
        for child in psutil.Process().children():
            if child.pid != lab.process.pid:  # playwright's driver, whose children are the browser
                for process in child.children(recursive=True):
                    process.kill()

    timer = threading.Timer(LIMIT, kill)
    timer.start()
    yield
    timer.cancel()
    if hung:
        pytest.fail(f"the page hung, and after {LIMIT} s the browser was killed", pytrace=False)
