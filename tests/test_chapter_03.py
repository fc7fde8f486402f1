"""Chapter 03 builds my_classes.Dataset: nothing less, nothing more, docstrings apart.

The rule: the cells tagged `same-as:Dataset`, in their order, make up the class. The first names torch's
Dataset as parent, the others `Dataset` itself; a later definition of a name replaces an earlier one, as in
Python.
"""

import ast
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "03_the_dataset.ipynb"


def classes(source):
    return [
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Dataset"
    ]


def without_docstring(body):
    first = body[0].value if body and isinstance(body[0], ast.Expr) else None
    return body[1:] if isinstance(first, ast.Constant) and isinstance(first.value, str) else body


def members(definitions):
    """{name: syntax tree} of a class defined in one piece or in several, with what stands above it."""
    found = {}
    for number, definition in enumerate(definitions):
        above = [
            ast.unparse(node) for node in definition.bases + definition.keywords + definition.decorator_list
        ]
        if number == 0:
            found["above the class"] = above
        else:
            assert above == ["Dataset"], f"piece {number + 1} does not grow Dataset: {above}"
        for node in without_docstring(definition.body):
            if isinstance(node, ast.FunctionDef):
                node.body = without_docstring(node.body)
                name = node.name
            else:
                assert isinstance(node, ast.Assign), f"neither a method nor a value: {ast.unparse(node)}"
                name = ast.unparse(node.targets[0])
            found[name] = ast.dump(node)
    return found


def pieces():
    """The class statements of the chapter, one from each cell with the tag."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    found = [classes(cell.source) for cell in cells if "same-as:Dataset" in cell.metadata.get("tags", [])]
    assert all(len(one) == 1 for one in found)
    return [one[0] for one in found]


def file_source():
    return (ROOT / "my_classes.py").read_text(encoding="utf-8")


def test_the_chapter_ends_with_the_class_of_the_file():
    assert members(pieces()) == members(classes(file_source()))


def test_every_class_of_that_name_is_counted():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert sum(len(classes(source)) for source in code) == len(pieces())


@pytest.mark.parametrize(
    ("now", "planted"),
    [
        ("if ID not in self.labels:", "if index not in self.labels:"),
        ('suffix = ".pt"', 'suffix = ".pth"'),
        ("class Dataset(torch.utils.data.Dataset):", "class Dataset(torch.utils.data.IterableDataset):"),
        ("transform: Callable | None = None):", "transform=None):"),
        (
            '    def load(self, file: Path):\n        "Reads',
            '    @property\n    def load(self, file: Path):\n        "Reads',
        ),
        ("        return samples\n", "        return samples\n\n    def extra(self):\n        pass\n"),
        (
            "            X = self.transform(X)\n        return X, y",
            "            X = self.transform(X)\n        return y, X",
        ),
    ],
)
def test_a_planted_change_is_noticed(now, planted):
    assert file_source().count(now) == 1
    assert members(pieces()) != members(classes(file_source().replace(now, planted)))


def test_a_docstring_makes_no_difference():
    planted = file_source().replace('"Denotes the total number of samples"', '"Another"')
    assert members(pieces()) == members(classes(planted)) and planted != file_source()
