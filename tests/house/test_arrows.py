"""The house: which room may lean on which, and what each of them may lean on outside."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from syntax import ROOT

PACKAGE = ROOT / "feedgpu"
FILES = sorted(PACKAGE.rglob("*.py"))
# A room leans on those that are named before it. The library's files are a room each, in this order.
LIBRARY = [
    "rooms",
    "system",
    "outside",
    "sample",
    "ids",
    "notation",
    "classes",
    "memory",
    "meter",
    "ranks",
    "order",
    "threads",
    "augmented",
    "side_by_side",
    "manifest",
    "unequal",
    "decode",
]
LIBRARY += ["field", "packed", "several_packs", "asked", "prefetch", "images"]
ROOMS = [*LIBRARY, "prepare", "measure", "command", "course"]
# What a file imports of other people's packages besides torch and numpy; the extras bring it.
OTHERS = {
    "system": {"tqdm"},
    "decode": {"PIL", "simplejpeg"},
    "prepare": {"PIL", "sklearn", "h5py", "lmdb", "pyarrow", "datasets", "safetensors"},
    "measure": {"psutil"},
    "course": {"matplotlib", "ipywidgets", "IPython", "sklearn", "PIL", "psutil"},
}


def room(file: Path) -> str:
    first, *rest = file.relative_to(PACKAGE).parts
    return first if rest else file.stem


def imports(file: Path):
    "(module, names, level) of all import statements of a file, wherever they stand"
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module or "", [alias.name for alias in node.names], node.level
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, [], 0


def leans_on(file: Path) -> set[str]:
    "The rooms of the package that a file imports from"
    package = ("feedgpu", *file.relative_to(PACKAGE).parts[:-1])
    found = set()
    for module, names, level in imports(file):
        if level:
            full = (*package[: len(package) - level + 1], *filter(None, module.split(".")))
            # `from . import words` names a module, `from .words import number` has it in front
            found |= {full[1]} if len(full) > 1 else set(names)
    return {name for name in found if name in ROOMS}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_leans_on_earlier_rooms_alone(file):
    if room(file) in ("__init__", "__main__"):
        return  # the entrance and the command's door
    own = ROOMS.index(room(file))
    later = {name for name in leans_on(file) if ROOMS.index(name) > own}
    assert later == set(), f"{room(file)} must not know {later}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_in_the_package_imports_the_two_files(file):
    absolute = {module.partition(".")[0] for module, _, level in imports(file) if not level}
    assert absolute & {"my_classes", "pytorch_script", "feedgpu"} == set()
    others = {name for name in absolute if name not in sys.stdlib_module_names}
    assert others <= {"torch", "numpy"} | OTHERS.get(room(file), set())


def test_all_rooms_are_in_the_order():
    assert {room(file) for file in FILES} - {"__init__", "__main__"} == set(ROOMS)


def test_there_is_one_file_to_change_beside_the_script():
    assert {file.name for file in ROOT.glob("*.py")} == {"my_classes.py", "pytorch_script.py", "conftest.py"}


def test_a_file_is_of_a_size_that_one_reads():
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {str(file.relative_to(ROOT)): n for file, n in lines.items() if n > 370} == {}


@pytest.mark.parametrize("name", ["feedgpu", "feedgpu.prepare", "feedgpu.measure", "feedgpu.course"])
def test_the_public_names_are_sorted_and_there(name):
    module = importlib.import_module(name)
    assert module.__all__ == sorted(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    for public in module.__all__:
        assert getattr(module, public).__doc__, public
    with pytest.raises(AttributeError, match=f"{name}.*nothing_here"):
        module.nothing_here  # noqa: B018


def run(program: str, folder: Path = ROOT) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_import_changes_nothing_for_the_process(tmp_path):
    """No filter of warnings, no variable of the environment, no thread, no random number, no file."""
    program = """
import os, random, threading, warnings
import numpy, torch
def state():
    return (list(warnings.filters), dict(os.environ), threading.active_count(), torch.get_num_threads(),
            torch.get_rng_state().tolist(), random.getstate(), os.getcwd(), set(os.listdir()))
before = state()
import feedgpu
for name in feedgpu.__all__:
    getattr(feedgpu, name)
import feedgpu.images, feedgpu.measure, feedgpu.prepare
for room in (feedgpu.measure, feedgpu.prepare):
    for name in room.__all__:
        getattr(room, name)
print([a == b for a, b in zip(before, state())])
"""
    assert set(re.findall("True|False", run(program, tmp_path))) == {"True"}


def test_the_library_imports_no_more_than_it_needs():
    program = "import sys, feedgpu\nfor name in feedgpu.__all__: getattr(feedgpu, name)\nprint(*sys.modules)"
    loaded = {name.partition(".")[0] for name in run(program).split()}
    assert loaded & {"PIL", "sklearn", "matplotlib", "psutil", "scipy", "IPython"} == set()


BLOCKED = {  # what is missing, what is asked for, what is said
    ("PIL", "import feedgpu.images"): "Reading image files needs Pillow, which is not installed: "
    "pip install 'feed-the-gpu[images]'",
    ("psutil", "import feedgpu.measure"): "feedgpu.measure needs psutil, which is not installed: "
    "pip install 'feed-the-gpu[measure]'",
    ("matplotlib", "import feedgpu.course"): "feedgpu.course needs matplotlib, which is not installed: "
    "pip install 'feed-the-gpu[course]'",
    ("sklearn", "from feedgpu.prepare import digits; digits()"): "pip install scikit-learn",
    ("sklearn", "from feedgpu.prepare import photographs; photographs(9, (4, 4)).read('china-1')"): "pip "
    "install scikit-learn",
    ("PIL", "from feedgpu.prepare import folder; print(folder)"): "",
    ("tqdm", "from feedgpu.system import progress; print(list(progress([1, 2], 'epoch', 2)))"): "",
    ("simplejpeg", "import feedgpu.images"): "",
}


@pytest.mark.parametrize(("absent", "program"), BLOCKED)
def test_what_needs_a_package_that_is_missing_says_how_to_get_it(absent, program):
    "One sentence; and what can do without does"
    said = run(
        f"import sys\nsys.modules[{absent!r}] = None\n"
        f"try:\n    exec({program!r})\nexcept ImportError as error:\n    print('said:', error)"
    )
    wanted = BLOCKED[absent, program]
    assert ("said: " in said) == bool(wanted) and wanted in said
    assert said.count("\n") <= 1
