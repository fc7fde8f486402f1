"""Chapter 05 assembles the loop of pytorch_script.py and nothing else.

The cell tagged `same-as:loop` holds the loop over epochs; its syntax tree, so all but comments and spacing,
must be that of the loop in pytorch_script.main. A statement of a cell tagged `same-as:script` must be found,
as it stands, somewhere in the script. Only this may differ, and `script_as_in_a_notebook` takes it away:

- `args.NAME` and `settings["NAME"]` are the notebook's NAME: it has variables where the script has options;
- the data's folder, which is the default in the notebook, and the choice of packed data;
- what belongs to a program in a terminal and not to training: the progress bar, saving, printing, the meter
  around the validation (it holds off a Ctrl-C while workers start), the epochs that lie
  behind a resumed run;
- docstrings and imports.
"""

import ast
from pathlib import Path

import pytest
from syntax import chapter

import pytorch_script

SCRIPT = ast.parse(Path(pytorch_script.__file__).read_text(encoding="utf-8"))
OF_A_PROGRAM = ("bar =", "states =", "save(", "print(")  # how its statements begin


class AsInANotebook(ast.NodeTransformer):
    def visit_Name(self, node):
        chosen = {"make_set": "Dataset", "make_generator": "torch.utils.data.DataLoader"}
        return ast.parse(chosen[node.id], mode="eval").body if node.id in chosen else node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        is_option = isinstance(node.value, ast.Name) and node.value.id == "args"
        return ast.Name(node.attr, node.ctx) if is_option else node

    def visit_Subscript(self, node):
        self.generic_visit(node)
        is_setting = isinstance(node.value, ast.Name) and node.value.id == "settings"
        return ast.Name(node.slice.value, node.ctx) if is_setting else node

    def visit_Call(self, node):
        self.generic_visit(node)
        match ast.unparse(node.func):
            case "progress":
                return node.args[0]
            case "Dataset":
                node.args = [given for given in node.args if ast.unparse(given) != "data"]
            case "Meter(device)":
                return node.args[0]
            case "range":
                node.args = [given for given in node.args if ast.unparse(given) != "first_epoch"]
        return node

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        if ast.get_docstring(node) is not None:
            del node.body[0]
        return node


def script_as_in_a_notebook():
    return AsInANotebook().visit(ast.parse(ast.unparse(SCRIPT)))


def script_loop():
    (loop,) = (
        node
        for node in ast.walk(script_as_in_a_notebook())
        if isinstance(node, ast.For) and ast.unparse(node.target) == "epoch"
    )
    loop.body = [statement for statement in loop.body if not ast.unparse(statement).startswith(OF_A_PROGRAM)]
    return ast.unparse(loop)


def script_statements():
    return {ast.unparse(node) for node in ast.walk(script_as_in_a_notebook()) if isinstance(node, ast.stmt)}


def statements(source):
    "Of a notebook's cell, without imports and docstrings"
    body = AsInANotebook().visit(ast.parse(source)).body
    return [ast.unparse(node) for node in body if not isinstance(node, (ast.Import, ast.ImportFrom))]


def tagged(tag):
    return [cell.source for cell in chapter("05").cells if tag in cell.metadata.get("tags", [])]


def strange(source):
    "Statements of a cell tagged same-as:script that are not in the script"
    history = "history = []"  # the script's may be that of an earlier run
    return [line for line in statements(source) if line not in script_statements() | {history}]


def test_the_loop_is_the_script_s():
    (source,) = tagged("same-as:loop")
    assert statements(source) == [script_loop()]


def test_what_the_loop_needs_is_made_as_in_the_script():
    sources = tagged("same-as:script")
    assert [line for source in sources for line in strange(source)] == []
    made = {line.split(" = ")[0] for source in sources for line in statements(source)}
    needed = "params training_set validation_set training_sampler training_generator validation_generator"
    assert {*needed.split(), "sizes", "model", "criterion", "optimizer"} <= made
    assert any(line.startswith("def tally(") for source in sources for line in statements(source))


CHANGES = {
    "model.eval()": "model.train()",
    "        optimizer.zero_grad()\n": "",
    "    training_sampler.set_epoch(epoch)\n": "",
    "non_blocking=use_cuda": "non_blocking=True",
    "torch.inference_mode()": "torch.no_grad()",
    "sums[:2] / sums[2]": "sums[:2] / len(training_generator)",
    "in validation_generator": "in training_generator",
    "0.85**epoch": "0.9**epoch",
    "range(max_epochs)": "range(1, max_epochs)",
    "totals += tally(loss, outputs, local_labels)": "totals += tally(loss, outputs, local_labels) / 2",
    "    # Report\n": "    # Report\n    optimizer.step()\n",
}


@pytest.mark.parametrize("old", CHANGES)
def test_a_changed_loop_is_noticed(old):
    (source,) = tagged("same-as:loop")
    assert old in source
    assert statements(source.replace(old, CHANGES[old], 1)) != [script_loop()]


def test_comments_and_spacing_may_change():
    (source,) = tagged("same-as:loop")
    assert statements(source.replace("# Training", "#\n\n    # Learn").replace("0.85**", "0.85 ** ")) == [
        script_loop()
    ]


@pytest.mark.parametrize(
    "old, new", [("seed)", "0)"), ("validation_set, **", "validation_set, shuffle=True, **")]
)
def test_changed_preparations_are_noticed(old, new):
    source = "\n".join(tagged("same-as:script"))
    assert old in source and strange(source.replace(old, new))
