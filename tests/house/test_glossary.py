"""The glossary and the chapters agree: a term is bold in one chapter, once, and explained under its number.

What counts as a term: whatever is set in **bold** in a chapter's markdown, outside of code, unless it ends
in a full stop or a colon. Those are signposts, such as **Exercise.** and **References.** Capitals do not
count, since a term may begin a sentence.
"""

import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
GLOSSARY = NOTEBOOKS / "A2_glossary.ipynb"
CODE = re.compile(r"(`+).+?\1", re.DOTALL)
BOLD = re.compile(r"\*\*(?!\s)(.+?)(?<!\s)\*\*", re.DOTALL)
ENTRY = re.compile(
    r"^- \*\*(?P<term>.+?)\*\* \[(?P<chapter>\d\d)\]\((?P<file>\S+)\): (?P<sentence>.+)$", re.MULTILINE
)


def markdown(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def bold_terms(text: str) -> list[str]:
    phrases = [" ".join(phrase.split()) for phrase in BOLD.findall(CODE.sub("", text))]
    return [phrase.casefold() for phrase in phrases if not phrase.endswith((".", ":"))]


def entries() -> list[dict]:
    return [found.groupdict() for found in ENTRY.finditer(markdown(GLOSSARY))]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_bold_terms_of_a_chapter_are_those_of_the_glossary(path):
    explained = {entry["term"].casefold() for entry in entries() if entry["file"] == path.name}
    assert set(bold_terms(markdown(path))) == explained


def test_a_term_is_bold_once():
    times = Counter(term for path in CHAPTERS for term in bold_terms(markdown(path)))
    assert [term for term, count in times.items() if count > 1] == []


def test_every_line_of_the_glossary_is_an_entry():
    lines = [line for line in markdown(GLOSSARY).splitlines() if line.startswith("- **")]
    assert len(lines) == len(entries()) > 0


def test_entries_are_in_alphabetical_order():
    terms = [entry["term"].casefold() for entry in entries()]
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry["term"])
def test_an_entry_is_one_sentence_and_leads_to_its_chapter(entry):
    assert entry["file"].startswith(entry["chapter"] + "_") and (NOTEBOOKS / entry["file"]).exists()
    assert re.fullmatch(r"[^.!?]+\.", CODE.sub("", entry["sentence"]))


# The rule itself.


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("A **batch** is a group; an **epoch** one pass.", ["batch", "epoch"]),
        ("**Persistent\nworkers** stay.", ["persistent workers"]),
        ("**Exercise.** Find it. **References.** A book. **Note:** so.", []),
        ("`DataLoader(**params)` and `x**2`, 2 ** 3 ** 4", []),
        ("```python\nf(**a, **b)\n```\nA **view** of it.", ["view"]),
    ],
)
def test_what_counts_as_a_term(text, terms):
    assert bold_terms(text) == terms
