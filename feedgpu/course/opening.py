"""How a chapter opens: a folder of its own, one torch thread, and the course's two files within reach."""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import torch

TWO_FILES = ("my_classes.py", "pytorch_script.py")
found: list[Path] = []  # the course's folder, once it is known: a chapter leaves it
workshops: list[tempfile.TemporaryDirectory] = []  # the folder of the chapter that is open; it goes with it


def open_chapter() -> None:
    """Opens a chapter: makes an empty folder and works in it, and makes the course's two files importable.

    torch computes in one thread: that is enough for small models, and steadier on a busy machine.

    The folder goes when the kernel ends, or when a chapter is opened again. Prints nothing. Raises
    FileNotFoundError where this is no chapter of a copy of the course.
    """
    folder = course_folder()
    if folder is None:
        raise FileNotFoundError(
            f"{' and '.join(TWO_FILES)} are neither in {Path.cwd()} nor above it: open the chapter where it "
            "lies, in a copy of the whole course"
        )
    workshop = tempfile.TemporaryDirectory(prefix="feed-", ignore_cleanup_errors=True)
    os.chdir(workshop.name)
    for old in workshops:
        old.cleanup()
    workshops[:] = [workshop]
    # Modules written in a chapter are found by workers too, and the two files by every process it starts.
    sys.path[:] = [os.getcwd(), str(folder), *(path for path in sys.path if Path(path) != folder)]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *(p for p in paths if p and p != str(folder))])
    torch.set_num_threads(1)
    # Chapters say how many CPUs there are, and try too many workers on purpose.
    warnings.filterwarnings("ignore", "This DataLoader will create")


def course_folder() -> Path | None:
    "The copy of the course that this process works in or, as a chapter, began in; None if in none"
    if not found:
        here = Path.cwd()
        found[:] = [
            folder
            for folder in (here, *here.parents, Path(__file__).resolve().parents[2])
            if (folder / "notebooks").is_dir() and all((folder / name).is_file() for name in TWO_FILES)
        ][:1]
    return found[0] if found else None
