"""Run the notebooks and store what they show: python3 tools/run_notebooks.py [NOTEBOOK ...]

Without names, all notebooks under notebooks/ are run. A notebook keeps what is stored, byte for byte,
where all its cells say the same: the text is equal once the noise of tests/nbval_sanitize.cfg is
removed. So a second run changes nothing. If a cell says something else, all are stored from the new
run, because numbers, sentences and pictures that are measured belong to one run.

Pictures cannot be compared: a picture drawn from timings is new at every run. Their
cell is marked in its metadata with a hash, "made_by", of its code and of all code above. The stored
picture is up to date while that code stays as it was. What the hash does not see is a change in an
imported module: --anew stores everything from the new run.

A widget is dead without its kernel: it is left out of what is stored.

--check writes nothing; it names the cells whose stored output is out of date and exits with 1.
"""

import argparse
import copy
import hashlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbval.plugin import get_sanitize_patterns

ROOT = Path(__file__).resolve().parent.parent
NOISE_FILE = ROOT / "tests" / "nbval_sanitize.cfg"
NOISE = get_sanitize_patterns(NOISE_FILE.read_text(encoding="ascii"))
# The kinds of output that nbval does not compare either.
WIDGET = "application/vnd.jupyter.widget-view+json"
NOT_COMPARED = {"image/png", "image/jpeg", WIDGET}


def isolate_kernels(folder):
    """Keep what is whoever's runs this out of the kernels: settings and logbook are those of `folder`, and so
    are the folders that a kernel makes for itself, for nbval kills it before it can clear them away."""
    os.environ["IPYTHONDIR"] = str(folder)
    os.environ["FEEDGPU_LOGBOOK"] = str(folder)
    os.environ["TMPDIR"] = str(folder)
    os.environ.pop("MPLBACKEND", None)  # with another backend, figures do not reach the notebook


def all_notebooks():
    found = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_hashes(notebook):
    """For each code cell, a hash of its code and of all code above it."""
    running = hashlib.blake2b(digest_size=6)
    hashes = []
    for cell in code_cells(notebook):
        running.update(cell.source.encode() + b"\0")
        hashes.append(running.hexdigest())
    return hashes


def has_uncompared_output(cell):
    """Whether the cell shows something that a comparison of texts does not see."""
    kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
    ignored = "nbval-ignore-output" in cell.metadata.get("tags", [])
    return bool(kinds & NOT_COMPARED) or (ignored and bool(cell.outputs))


def without_noise(text):
    for pattern, replacement in NOISE:
        text = re.sub(pattern, replacement, text)
    return text


def comparable(cell):
    """What can be compared of a cell's outputs: (kind, text) of each, noise removed."""
    if "nbval-ignore-output" in cell.metadata.get("tags", []):
        return []
    pieces = []
    for output in cell.outputs:
        if output.output_type == "stream":
            pieces.append((output.name, without_noise(output.text)))
        elif output.output_type == "error":
            pieces.append((output.ename, without_noise(output.evalue)))
        else:
            for kind, value in sorted(output.data.items()):
                text = "" if kind in NOT_COMPARED else without_noise(str(value))
                pieces.append((kind, text))
    return pieces


def execute(stored, folder):
    """A copy of the notebook, run from top to bottom with `folder` as the working directory."""
    fresh = copy.deepcopy(stored)
    NotebookClient(
        fresh,
        kernel_name="python3",
        timeout=120,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # kernels warn that they talk over TCP
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    for cell in code_cells(fresh):
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    return fresh


def outdated(stored, fresh):
    """Indices of the code cells whose stored output no longer is what their code shows."""
    indices = []
    pairs = zip(code_cells(stored), code_cells(fresh), code_hashes(fresh), strict=True)
    for index, (old, new, made_by) in enumerate(pairs):
        same_text = comparable(old) == comparable(new) and bool(old.outputs) == bool(new.outputs)
        same_code = not has_uncompared_output(new) or old.metadata.get("made_by") == made_by
        if not (same_text and same_code):
            indices.append(index)
    return indices


def clean(notebook):
    """Drop what tells of this run or this machine, and mark the cells with pictures."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.kernelspec = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata.language_info = {"name": "python"}  # Jupyter adds the version
    for cell, made_by in zip(code_cells(notebook), code_hashes(notebook), strict=True):
        for key in ("execution", "ExecuteTime", "made_by"):
            cell.metadata.pop(key, None)
        if has_uncompared_output(cell):
            cell.metadata["made_by"] = made_by
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count  # a kept output may have moved
            if output.output_type == "error":
                # The full traceback names files of this machine.
                output.traceback = [f"{output.ename}: {output.evalue}"]


def run(path, check, anew=False):
    """Run one notebook and store it, or only check it. Returns whether all is well."""
    start = time.perf_counter()
    stored = nbformat.read(path, as_version=4)
    try:
        fresh = execute(stored, path.parent)
    except (CellExecutionError, CellTimeoutError) as error:
        print(f"{path.name}: not stored\n{error}")
        return False

    stale = outdated(stored, fresh)
    if not (stale or anew):
        for old, new in zip(code_cells(stored), code_cells(fresh), strict=True):
            new.outputs = old.outputs
    if not check:
        clean(fresh)
        nbformat.write(fresh, path)

    seconds = time.perf_counter() - start
    size = path.stat().st_size / 1000
    print(f"{path.name}: {seconds:.1f} s, {len(code_cells(fresh))} code cells, {size:.0f} KB")
    if check:
        for index in stale:
            first_line = code_cells(fresh)[index].source.split("\n")[0]
            print(f"  cell {index + 1} is out of date: {first_line}")
    return not (check and stale)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    parser.add_argument("--anew", action="store_true", help="store what this run shows in any case")
    args = parser.parse_args()

    paths = args.notebooks or all_notebooks()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        isolate_kernels(folder)
        results = [run(path, args.check, args.anew) for path in paths]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
