"""feedgpu/__init__.py and rooms.py: what the package offers, what each part needs, and when."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures_on_disk import save, scene

import feedgpu
from feedgpu import rooms

PACKAGE = Path(feedgpu.__file__).parent


def run(code):
    env = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_what_types_are_checked_with_is_what_is_imported():
    (block,) = [
        node
        for node in ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.If)
    ]
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(told) == feedgpu.__all__
    for name, module in told.items():
        assert getattr(feedgpu, name).__module__ == f"feedgpu.{module}"


def test_torch_is_imported_when_a_name_is_asked_for_and_not_before():
    code = "import sys, feedgpu; print('torch' in sys.modules); feedgpu.Meter; print('torch' in sys.modules)"
    assert run(code) == "False\nTrue\n"


def test_all_but_images_works_without_pillow_simplejpeg_and_tqdm():
    code = (
        "import sys\n"
        "for name in ('PIL', 'simplejpeg', 'tqdm', 'psutil', 'matplotlib'): sys.modules[name] = None\n"
        "import torch\n"
        "from feedgpu import *\n"
        "from feedgpu.system import progress\n"
        "print([len(X) for X, in PrefetchLoader(torch.utils.data.TensorDataset(torch.ones(5)), 2)],\n"
        "      list(progress('ab', 'letters')))\n"
        "try: import feedgpu.images\n"
        "except ImportError as error: print(error)\n"
    )
    assert run(code) == (
        "[2, 2, 1] ['a', 'b']\n"
        "Reading image files needs Pillow, which is not installed: pip install 'feed-the-gpu[images]'\n"
    )


def test_jpegs_are_read_where_simplejpeg_is_not_installed(tmp_path):
    save(scene(), tmp_path / "a.jpg")
    code = (
        "import sys\n"
        "sys.modules['simplejpeg'] = None\n"
        "from feedgpu.images import ImageDataset\n"
        f"X, y = ImageDataset(['a.jpg'], {{'a.jpg': 7}}, {str(tmp_path)!r}, (8, 8))[0]\n"
        "print(tuple(X.shape), y)\n"
    )
    assert run(code) == "(3, 8, 8) 7\n"


def test_a_missing_library_is_one_sentence_and_nothing_is_imported():
    rooms.require("Who", "torch", "torch", "images")
    said = r"Who needs Such, which is not installed: pip install 'feed-the-gpu\[course\]'"
    with pytest.raises(rooms.MissingExtra, match=f"^{said}$"):
        rooms.require("Who", "no_such_library", "Such", "course")
    assert issubclass(rooms.MissingExtra, ImportError)
    rooms.require("Who", "antigravity", "Python", "course")
    assert "antigravity" not in sys.modules
