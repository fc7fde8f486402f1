"""What a chapter builds beside what a file has, compared by syntax tree: comments and spacing may differ.

A cell tagged `same-as:NAME` is a piece of NAME as its file has it. A class may come in several pieces, of
which each but the first is written `class NAME(NAME)`; a later definition of a name replaces an earlier one,
as in Python. Docstrings are left out. What else a chapter leaves out, its own test says.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
TAG = "same-as:"


def chapter(number: str) -> nbformat.NotebookNode:
    "The notebook of a chapter, such as 03"
    (file,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return nbformat.read(file, as_version=4)


def code_cells(number: str) -> Iterator[tuple[str, set[str]]]:
    "(source, tags) of the chapter's cells that are plain Python"
    for cell in chapter(number).cells:
        if cell.cell_type == "code" and not cell.source.startswith("%%"):
            yield cell.source, set(cell.metadata.get("tags", []))


def tagged(number: str, *names: str) -> list[str]:
    "The sources of the cells with a tag `same-as:NAME`, in their order"
    return [source for source, tags in code_cells(number) if tags & {TAG + name for name in names}]


def replaced(source: str, changes: dict[str, str]) -> str:
    "The text with each of the changes made, each of which must be possible exactly once"
    for now, instead in changes.items():
        assert source.count(now) == 1, f"is not there exactly once: {now}"
        source = source.replace(now, instead)
    return source


def never(statement: ast.stmt, function: str) -> bool:
    return False


class Bare(ast.NodeTransformer):
    "Takes docstrings away, the statements that `leave_out` names and, if asked to, annotations in functions"

    def __init__(self, annotations: bool, leave_out: Callable[[ast.stmt, str], bool]):
        self.annotations, self.leave_out = annotations, leave_out

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.body = [one for one in without_docstring(node.body) if not self.leave_out(one, node.name)]
        node.returns = node.returns if self.annotations else None
        return node

    def visit_AnnAssign(self, node):
        if self.annotations or node.value is None:
            return node
        return ast.copy_location(ast.Assign([node.target], node.value, lineno=node.lineno), node)

    def visit_arg(self, node):
        node.annotation = node.annotation if self.annotations else None
        return node


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0].value if body and isinstance(body[0], ast.Expr) else None
    return body[1:] if isinstance(first, ast.Constant) and isinstance(first.value, str) else body


def members(
    source: str,
    only: set[str] | None = None,
    annotations: bool = True,
    leave_out: Callable[[ast.stmt, str], bool] = never,
) -> dict[str, object]:
    """{name: syntax tree} of the functions, and of what is in the classes, that a text defines.

    `only`: the functions and classes of these names; None: all of them. `annotations`: whether those of
    arguments and results count. `leave_out(statement, function)`: whether a statement does not count.
    """
    found: dict[str, object] = {}
    bare = Bare(annotations, leave_out)
    for node in ast.parse(source).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or (only and node.name not in only):
            continue
        if isinstance(node, ast.FunctionDef):
            found[node.name] = ast.dump(bare.visit(node))
            continue
        above = [ast.unparse(one) for one in node.bases + node.keywords + node.decorator_list]
        if not annotations:
            above = [name.partition("[")[0] for name in above]  # Sampler[int] is Sampler
        if f"{node.name}, above" in found:
            assert above == [node.name], f"a later piece does not grow {node.name}: {above}"
        found.setdefault(f"{node.name}, above", above)
        for one in without_docstring(node.body):
            name = one.name if isinstance(one, ast.FunctionDef) else ast.unparse(one).partition(" =")[0]
            found[f"{node.name}.{name}"] = ast.dump(bare.visit(one))
    return found
