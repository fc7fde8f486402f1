"""The READMEs keep their word: commands are run, links lead somewhere, numbers are those that are stored."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import readme
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in [*readme.PAGES, "data/README.md"]}
README, PACKAGE = PAGES["README.md"], PAGES["feedgpu/README.md"]


def block(after: str, page: str = PACKAGE, language: str = r"\w*") -> str:
    "The first code block below a heading or a sentence"
    return re.search(rf"```{language}\n(.*?)```", page[page.index(after) :], re.S)[1]


def run(command: list, folder: Path) -> str:
    "What a command of README prints, with this Python and the package that it has"
    starts = {"python3": [sys.executable], "feedgpu": [sys.executable, "-m", "feedgpu"]}
    command = [*starts.get(command[0], command[:1]), *command[1:]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    "A folder with the files that README says to copy"
    (line,) = (line for line in block("# The package").splitlines() if line.startswith("cp "))
    for file in line.split()[1:-1]:
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def test_the_targets_of_make_are_there():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"(?m)(?:^|`)make ([a-z-]+)", README)
    assert {"train", "test", "help", "lab"} <= set(named) <= set(targets)


def test_the_pip_line_is_that_of_the_makefile():
    lines = block("<b>Windows", README).splitlines()
    (line,) = (line for line in lines if line.startswith("pip install"))
    assert line.replace("pip", "", 1).replace("'", "") in (ROOT / "Makefile").read_text().replace("'", "")


def images_of_two_classes(folder: Path) -> None:
    random = numpy.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "my_images" / name).mkdir(parents=True)
        for i in range(5):
            size = (int(random.integers(20, 90)), int(random.integers(20, 90)), 3)
            Image.fromarray(random.integers(0, 255, size, dtype=numpy.uint8)).save(
                folder / "my_images" / name / f"{i}.png"
            )


@pytest.mark.parametrize("page, heading", [(README, "## Your own data"), (PACKAGE, "## Images, turned")])
def test_your_own_data(folder, page, heading):
    images_of_two_classes(folder)
    for line in block(heading, page).splitlines():
        out = run(shlex.split(line), folder)
    assert "Validation accuracy" in out


def test_four_lines_of_the_front_page(folder, dataset):
    dataset(folder="my_data")
    run([sys.executable, "-m", "feedgpu", "pack", "--data", "my_data"], folder)
    code = block("**Use.**", README) + "\nassert sum(len(X) for X, y in training_generator) == 12"
    run([sys.executable, "-c", code], folder)


def test_images_that_stay_files(folder):
    images_of_two_classes(folder)
    for line in block("## Images that stay files").splitlines():
        run(shlex.split(line), folder)
    code = block("## Images that stay files", language="python")
    code += "    assert sum(len(X) for X, y in training_generator) == 8\n"
    run([sys.executable, "-c", code], folder)


def test_packed_data(folder, dataset):
    dataset(folder="my_data")
    for line in block("## Packed data").splitlines():
        out = run(shlex.split(line), folder)
    assert "Validation accuracy" in out
    code = block("In a script of your own:")
    run([sys.executable, "-c", code + "\nassert sum(len(X) for X, y in training_generator) == 12"], folder)


def test_any_source(folder):
    import h5py

    with h5py.File(folder / "samples.h5", "w") as file:
        file["images"], file["labels"] = numpy.zeros((20, 3, 8, 8), numpy.uint8), numpy.arange(20) % 2
    for line in block("## Arrays, columns").splitlines():
        out = run(shlex.split(line), folder)
    assert "Validation accuracy" in out
    code = block("## Arrays, columns", language="python")
    run([sys.executable, "-c", code + "\nassert len(training_set) == 800"], folder)


def test_another_format(folder, dataset):
    root, partition, labels = dataset(folder="my_data")
    for file in root.glob("*.pt"):
        numpy.save(file.with_suffix(".npy"), torch.load(file, weights_only=True).numpy())
        file.unlink()
    code = block("## Other formats").replace("num_workers=2", "num_workers=0")
    run([sys.executable, "-c", code + "\nassert sum(len(X) for X, y in training_generator) == 12"], folder)


def test_use_what_was_trained(folder, dataset):
    dataset(classes=3)
    run([sys.executable, "pytorch_script.py", "--max-epochs", "1"], folder)
    assert int(run([sys.executable, "-c", block("## The trained model")], folder)) in range(3)


def test_what_is_written_from_elsewhere_is_up_to_date():
    assert readme.main(["--check"]) == 0, "run python3 tools/readme.py"


def test_the_front_page_is_short():
    assert len(README.encode()) <= 6 * 1024


def anchors(text: str) -> set[str]:
    "Those that GitHub makes of the headings"
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    "What leads to a file or a heading of this project"
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?s)```.*?```", "", text))
    return [link for link in found if not re.match(r"https?://", link)]


def prose(path: Path) -> str:
    "What a chapter says between its cells"
    return "\n\n".join(cell.source for cell in readme.read(path).cells if cell.cell_type == "markdown")


TEXTS = PAGES | {str(path.relative_to(ROOT)): prose(path) for path in readme.notebooks()}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    text = TEXTS[page]
    assert page not in PAGES or page == "data/README.md" or links(text)
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link}"


@pytest.mark.parametrize(
    "heading, anchor", [("To teach with it", "to-teach-with-it"), ("Batches, whole!", "batches-whole")]
)
def test_an_anchor_is_made_as_github_makes_it(heading, anchor):
    assert anchors(f"text\n## {heading}\n") == {anchor}
