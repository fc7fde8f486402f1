"""Chapter 03 builds my_classes.Dataset, and `refuse_unlike` beside it: nothing less and nothing more.

Docstrings are left out; of the function also annotations; and `augment`, which is chapter 11's.
"""

import pytest
from syntax import ROOT, code_cells, members, replaced, tagged

AUGMENT = {
    ", augment=None, seed=0": "",
    "        self.augment, self.seed = augment, seed\n": "",
    "        if self.augment is not None:\n"
    "            X = self.augment(X, draws(self.seed, ID, index))\n": "",
}
FILE = replaced((ROOT / "my_classes.py").read_text(encoding="utf-8"), AUGMENT)
NOTATION = (ROOT / "feedgpu" / "notation.py").read_text(encoding="utf-8")
FUNCTIONS = {"refuse_unlike"}


def built():
    return members("\n".join(tagged("03", "Dataset")))


def functions():
    return members("\n".join(tagged("03", *FUNCTIONS)), annotations=False)


def test_the_chapter_ends_with_the_class_of_the_file():
    assert built() == members(FILE)


def test_the_chapter_has_the_function_that_the_class_calls():
    assert functions() == members(NOTATION, FUNCTIONS, annotations=False) and set(functions()) == FUNCTIONS


def test_no_other_cell_defines_them():
    others = [
        source for source, tags in code_cells("03") if not any(tag.startswith("same-as:") for tag in tags)
    ]
    assert not [source for source in others if members(source, FUNCTIONS | {"Dataset"})]


@pytest.mark.parametrize(
    ("now", "planted"),
    [
        ("if ID not in self.labels:", "if index not in self.labels:"),
        ('suffix = ".pt"', 'suffix = ".pth"'),
        ("class Dataset(torch.utils.data.Dataset):", "class Dataset(torch.utils.data.IterableDataset):"),
        ("transform: Callable | None = None", "transform=None"),
        (
            '    def load(self, file: Path):\n        "Reads',
            '    @property\n    def load(self, file: Path):\n        "Reads',
        ),
        ("        return X, y\n", "        return X, y\n\n    def extra(self):\n        pass\n"),
        ("        return X, y\n", "        return y, X\n"),
    ],
)
def test_a_planted_change_is_noticed(now, planted):
    assert built() != members(replaced(FILE, {now: planted}))


def test_a_docstring_makes_no_difference():
    changed = replaced(FILE, {'"Denotes the total number of samples"': '"Another"'})
    assert members(FILE) == members(changed)


@pytest.mark.parametrize(
    ("now", "planted"),
    [
        ("if form(sample) != form(wanted):", "if form(sample) == form(wanted):"),
        ("like_ID, wanted = like or (IDs[0], samples[0])", "like_ID, wanted = IDs[0], samples[0]"),
    ],
)
def test_a_planted_change_of_a_function_is_noticed(now, planted):
    changed = replaced(NOTATION, {now: planted})
    assert functions() != members(changed, FUNCTIONS, annotations=False)
