"""Fill in the solutions of the exercises and see that they hold: python3 tools/solutions.py [NOTEBOOK ...]

In a chapter, the code cell tagged `exercise:NAME` is left open, a cell below it says `verdict.NAME(answer)`,
and a markdown cell tagged `solution:NAME` folds away one ```python fence. A copy of the chapter, in which
the solution and the same verdict follow the first one, is run strictly: the first must be no, the second
yes. Without names, all notebooks under notebooks/ that have exercises are run.

Of the other cells only those are run that an exercise needs, by the names they define, and in an empty
folder, since the cell that goes to another one may be missing. If that does not hold, the whole chapter is
run in its own folder before anything is reported.
"""

import argparse
import ast
import copy
import os
import re
import symtable
import sys
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell
from run_notebooks import all_notebooks, code_cells, execute, isolate_kernels

FENCE = re.compile(r"<details>.*?^```python\n(.*?)^```$.*?</details>", re.DOTALL | re.MULTILINE)
VERDICT = re.compile(r"\bverdict\.(\w+)\(")


def tagged(notebook, kind):
    """[(name, cell)] of the cells tagged kind:name, in their order."""
    return [
        (tag.removeprefix(f"{kind}:"), cell)
        for cell in notebook.cells
        for tag in cell.metadata.get("tags", [])
        if tag.startswith(f"{kind}:")
    ]


def verdicts(notebook):
    """[(name, cell)] of the cells that ask for a verdict, in their order."""
    return [(name, cell) for cell in code_cells(notebook) for name in VERDICT.findall(cell.source)]


def fence(cell):
    """The code of a solution, without which there is None."""
    found = FENCE.findall(cell.source)
    return found[0] if len(found) == 1 and cell.source.count("```python") == 1 else None


def structure_problems(notebook):
    """What does not fit together before anything is run: one sentence each."""
    exercises, solutions, judged = (
        Counter(name for name, _ in pairs)
        for pairs in (tagged(notebook, "exercise"), tagged(notebook, "solution"), verdicts(notebook))
    )
    for name in sorted(exercises | solutions | judged):
        for what, count in (("exercise", exercises), ("solution", solutions), ("verdict", judged)):
            if count[name] != 1:
                yield f"{name} has {count[name] or 'no'} {what}{'s' if count[name] > 1 else ''}"
    for name, cell in tagged(notebook, "exercise"):
        if cell.cell_type != "code":
            yield f"the exercise {name} is not a code cell"
    for name, cell in tagged(notebook, "solution"):
        if cell.cell_type != "markdown" or fence(cell) is None:
            yield f"the solution {name} is not one ```python fence in <details>, in a markdown cell"


def with_solutions(notebook):
    """A copy in which the solution and a second verdict follow each verdict, with a tag on each."""
    solved = copy.deepcopy(notebook)
    solutions = dict(tagged(solved, "solution"))
    for name, cell in verdicts(solved):
        cell.metadata.tags = ["raises-exception", f"unsolved:{name}"]
        again = new_code_cell(cell.source)
        again.metadata.tags = ["raises-exception", f"solved:{name}"]
        filled_in = new_code_cell(fence(solutions[name]))
        filled_in.metadata.tags = ["raises-exception", f"filled-in:{name}"]
        place = solved.cells.index(cell) + 1
        solved.cells[place:place] = [filled_in, again]
    return solved


def needed(notebook):
    """The cells that `with_solutions` tagged, those above that define a name they use, and so on upwards."""
    wanted, kept = set(), []
    for cell in reversed(code_cells(notebook)):
        try:
            statements = [names(part) for part in ast.parse(cell.source).body]
        except SyntaxError:  # a magic, of which nothing is known, or a solution with a slip
            statements = []
        tagged = "raises-exception" in cell.metadata.get("tags", [])
        # A module may be imported by another cell; and a chapter has to be opened.
        always = tagged or cell.source.startswith("%%writefile") or "open_chapter()" in cell.source
        if always or any(wanted & defined for defined, _ in statements):
            for defined, used in reversed(statements):
                wanted = wanted - defined | used
            kept.insert(0, cell)
    return kept


def names(statement):
    """The global names that a statement defines, and those that it must find defined: two sets."""
    tables = [symtable.symtable(ast.unparse(statement), "cell", "exec")]
    symbols = tables[0].get_symbols()
    defined = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    used = set()
    for table in tables:  # which grows
        tables += table.get_children()
        used |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and symbol.is_global()
        }
    # A loop uses the names that it defines itself; `class A(A)` and `x = x + 1` need those of before.
    return defined, used - defined if isinstance(statement, (ast.For, ast.With)) else used


def error_of(cell):
    """The error in which a cell ended: "NameError: x", or an empty string."""
    return next((f"{o.ename}: {o.evalue}" for o in cell.outputs if o.output_type == "error"), "")


def says_yes(cell):
    return any(output.get("data", {}).get("text/plain", "").startswith("✓ ") for output in cell.outputs)


def verdict_problems(run):
    """What the verdicts of a copy that was run say against it: one sentence each."""
    for name, cell in tagged(run, "unsolved"):
        if not error_of(cell).startswith(("AssertionError: … ", "AssertionError: ✗ ")):
            found = error_of(cell) or "it is accepted"
            yield f"the exercise {name}, as it is left open, must be refused, but: {found}"
    for name, cell in tagged(run, "filled-in"):
        if error_of(cell):
            yield f"the solution of {name} ends in {error_of(cell)}"
    for name, cell in tagged(run, "solved"):
        if error_of(cell) or not says_yes(cell):
            yield f"the solution of {name} fails: {error_of(cell) or 'its verdict shows nothing'}"


def problems(path):
    """What is wrong with the exercises of a notebook: one sentence each."""
    notebook = nbformat.read(path, as_version=4)
    if found := list(structure_problems(notebook)):
        return found
    whole = with_solutions(notebook)
    part = nbformat.from_dict(whole | {"cells": needed(whole)})
    with tempfile.TemporaryDirectory() as empty:
        found = run_problems(part, empty)
    return run_problems(whole, path.parent) if found else []


def run_problems(notebook, folder):
    """What is wrong with the exercises when the cells of `with_solutions` are run in `folder`."""
    try:
        with mock.patch.dict(os.environ, FEEDGPU_STRICT="1"):
            return list(verdict_problems(execute(notebook, folder)))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return [f"another cell fails: {error}"]


def has_exercises(path):
    notebook = nbformat.read(path, as_version=4)
    return bool(tagged(notebook, "exercise") or tagged(notebook, "solution") or verdicts(notebook))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    paths = parser.parse_args().notebooks or [path for path in all_notebooks() if has_exercises(path)]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        isolate_kernels(folder)
        for path in paths:
            found = problems(path)
            failed = failed or bool(found)
            print("\n".join(f"{path.name}: {problem}" for problem in found or ["all solutions hold"]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
