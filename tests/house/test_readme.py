"""README.md keeps its word: its commands are run, its map of chapters is that of the notebooks."""

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
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(after: str) -> str:
    "The first code block below a heading or a sentence"
    return re.search(r"```\w*\n(.*?)```", README[README.index(after) :], re.S)[1]


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
    (line,) = (line for line in block("## In a project of your own").splitlines() if line.startswith("cp "))
    for file in line.split()[1:-1]:
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def test_the_targets_of_make_are_there():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"(?m)(?:^|`)make ([a-z-]+)", README)
    assert {"train", "test", "help", "lab"} <= set(named) <= set(targets)


def test_the_pip_line_is_that_of_the_makefile():
    lines = block("**Windows").splitlines()
    (line,) = (line for line in lines if line.startswith("pip install"))
    assert line.replace("pip", "", 1).replace("'", "") in (ROOT / "Makefile").read_text().replace("'", "")


def test_your_own_data(folder):
    random = numpy.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "my_images" / name).mkdir(parents=True)
        for i in range(5):
            size = (int(random.integers(20, 90)), int(random.integers(20, 90)), 3)
            Image.fromarray(random.integers(0, 255, size, dtype=numpy.uint8)).save(
                folder / "my_images" / name / f"{i}.png"
            )
    for line in block("## Your own data").splitlines():
        out = run(shlex.split(line), folder)
    assert "Validation accuracy" in out


def test_images_that_stay_files(folder):
    random = numpy.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "my_images" / name).mkdir(parents=True)
        for i in range(5):
            image = Image.fromarray(random.integers(0, 255, (30 + i, 40, 3), dtype=numpy.uint8))
            image.save(folder / "my_images" / name / f"{i}.jpg")
    for line in block("## Images that stay files").splitlines():
        run(shlex.split(line), folder)
    code = re.search(r"```python\n(.*?)```", README[README.index("## Images that stay files") :], re.S)[1]
    code += "    assert sum(len(X) for X, y in training_generator) == 8\n"
    run([sys.executable, "-c", code], folder)


def test_packed_data(folder, dataset):
    dataset(folder="my_data")
    for line in block("## Packed data").splitlines():
        out = run(shlex.split(line), folder)
    assert "Validation accuracy" in out
    code = block("In a script of your own, two words")
    run([sys.executable, "-c", code + "\nassert sum(len(X) for X, y in training_generator) == 12"], folder)


def test_another_format(folder, dataset):
    root, partition, labels = dataset(folder="my_data")
    for file in root.glob("*.pt"):
        numpy.save(file.with_suffix(".npy"), torch.load(file, weights_only=True).numpy())
        file.unlink()
    code = block("If your files are not `.pt`").replace("num_workers=2", "num_workers=0")
    run([sys.executable, "-c", code + "\nassert sum(len(X) for X, y in training_generator) == 12"], folder)


def test_use_what_was_trained(folder, dataset):
    dataset(classes=3)
    run([sys.executable, "pytorch_script.py", "--max-epochs", "1"], folder)
    assert int(run([sys.executable, "-c", block("## Use what was trained")], folder)) in range(3)


def test_the_map_of_chapters_is_that_of_the_notebooks():
    assert readme.main(["--check"]) == 0, "run python3 tools/readme.py"
