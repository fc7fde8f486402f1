"""The package as an engineer has it: a wheel in an environment of its own, two files copied into a folder.

Nothing here can lean on the repository: the environment knows the wheel, and the libraries of this one.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("feedgpu", "pyproject.toml", "README.md", "LICENSE")  # what a wheel is built of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "Built of a copy, so that no build folder appears in the repository"
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    how = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder]
    run([sys.executable, "-m", "pip", "wheel", *how, folder], folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def bin(wheel, tmp_path_factory):
    "The programs of an environment that has the wheel, and torch and numpy from this one"
    environment = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", environment], environment)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not read
    run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel],
        environment,
    )
    return environment / "bin"


@pytest.fixture
def project(tmp_path):
    "A project: the two files, and nothing else"
    for name in ("my_classes.py", "pytorch_script.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def run(command, folder):
    "What a command prints; it must succeed"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of(bin):
    (site,) = bin.parent.glob("lib/python*/site-packages")
    found = (file for file in bin.parent.rglob("*") if "__pycache__" not in file.parts)
    return {file: file.stat().st_mtime_ns for file in found if file.is_file() and site in file.parents}


def test_a_wheel_has_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"feedgpu", wheel.name.rpartition("-py3")[0] + ".dist-info"}
    there = {str(file.relative_to(ROOT)) for file in (ROOT / "feedgpu").rglob("*.py")}
    assert there | {"feedgpu/py.typed"} == {name for name in names if name.startswith("feedgpu/")}


def test_the_environment_does_not_know_the_repository(bin, project):
    home = "import feedgpu; print(feedgpu.__file__)"
    assert run([bin / "python", "-I", "-c", home], project).startswith(str(bin.parent))
    strange = "import importlib.util; print(importlib.util.find_spec('my_classes'))"
    assert run([bin / "python", "-I", "-c", strange], project) == "None\n"


def test_a_project_of_two_files_prepares_checks_packs_trains_and_resumes(bin, project):
    before = files_of(bin)
    python = [bin / "python", "-I", "-m", "feedgpu"]
    shape = ["--samples", "60", "--shape", "1", "8", "8", "--classes", "3"]
    assert "60 samples" in run([*python, "prepare", "synthetic", *shape], project)
    assert "in order" in run([bin / "feedgpu", "check"], project)
    script = [bin / "python", "pytorch_script.py", "--num-workers", "1"]
    first = losses(run([*script, "--max-epochs", "1", "--checkpoint", "a.pt"], project))
    both = losses(run([*script, "--max-epochs", "2", "--checkpoint", "a.pt", "--resume"], project))
    assert "60 samples" in run([bin / "feedgpu", "pack"], project)
    for file in (project / "data").glob("*.pt"):
        file.unlink()
    assert "in order" in run([bin / "feedgpu", "check"], project)
    packed = losses(run([*script, "--max-epochs", "2", "--checkpoint", "b.pt", "--packed"], project))
    assert packed == first + both and len(packed) == 2
    made = {file.name for file in project.iterdir()} - {"__pycache__"}
    assert made == {"my_classes.py", "pytorch_script.py", "data", "a.pt", "b.pt"}
    assert files_of(bin) == before


def losses(said):
    "Of each epoch, as the script prints them"
    return re.findall(r"^ *\d+/\d+ +(\d+\.\d{4})", said, re.MULTILINE)


def test_another_my_classes_in_the_working_directory_disturbs_no_command(bin, tmp_path):
    (tmp_path / "my_classes.py").write_text("class Dataset:\n    'The article's own'\n")
    shape = ["--samples", "10", "--shape", "1", "8", "8", "--classes", "2"]
    run([bin / "python", "-m", "feedgpu", "prepare", "synthetic", *shape], tmp_path)
    run([bin / "python", "-m", "feedgpu", "check"], tmp_path)
    run([bin / "feedgpu", "pack"], tmp_path)


def test_who_installs_it_gets_its_types(bin, tmp_path):
    (tmp_path / "user.py").write_text(
        "from feedgpu import EpochSampler, load_notation\n"
        "partition, labels = load_notation(3)\n"
        "EpochSampler(len(partition), seed='one')\n"
    )
    known = [
        "--config-file",
        ROOT / "pyproject.toml",
        "--cache-dir",
        ROOT / ".mypy_cache",
    ]  # torch, above all
    command = [sys.executable, "-m", "mypy", "--python-executable", bin / "python", *known, "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "user.py:2: error: Argument 1" in done.stdout and "user.py:3: error: Argument" in done.stdout
