"""The reader's logbook: guesses beside what was measured, and the running table of the course.

    size = predict("bytes in one sample's file", ..., "bytes")     # the reader puts a number in place of ...
    size.measured(file.stat().st_size, exact=True)
    scores()                                                       # at the chapter's end
    log_share("03", "one file a sample", meter.waiting_share)

What a machine decides is printed behind ≈, so that two runs of a notebook compare equal.
"""

import json
import os
import warnings
from pathlib import Path
from statistics import median

from ..measure.words import number, percent
from . import pictures
from .opening import course_folder

guesses: dict[str, "Guess"] = {}  # of this kernel, by what they are of, in the order in which they were made


def predict(what: str, guess, unit: str = "") -> "Guess":
    """Keeps the reader's guess at `what`, a number in `unit` or one of several choices.

    ... is no guess. Prints nothing. What it came to is told to the Guess: `guess.measured(value)`.
    """
    guesses[what] = Guess(what, guess, unit)
    return guesses[what]


class Guess:
    "What a reader thinks of something before it is measured; and, afterwards, what it is"

    def __init__(self, what: str, guess, unit: str):
        self.kept = {"prediction": what, "guess": plain(guess), "unit": unit}

    def __repr__(self) -> str:
        guess = "no guess" if self.kept["guess"] is None else shown(self.kept, "guess")
        return f"{self.kept['prediction']}: {guess}"

    def measured(self, value, exact: bool = False) -> None:
        """Prints what it came to beside the guess, and by how much that was off; both are kept.

        `exact`: the value is the same on every machine, as a count is, and is compared when the notebook is
        tested. A choice that a machine may decide otherwise needs a cell tagged nbval-ignore-output.
        """
        self.kept |= {"measured": plain(value), "exact": exact}
        keep(self.kept)
        made = self.kept["guess"] is not None
        said = f"you said {shown(self.kept, 'guess')}" if made else "you made no guess"
        off = f": {miss(self.kept)}" if made else ""
        print(f"{said}, it is {shown(self.kept, 'measured')}{off}")


def scores() -> None:
    """Prints the guesses of this kernel as a table, with what they came to.

    Where a choice is among them that the machine decided, the cell is tagged nbval-ignore-output.
    """
    rows = [("prediction", "you said", "it is", "off by")]
    for kept in (guess.kept for guess in guesses.values() if "measured" in guess.kept):
        guess = "no guess" if kept["guess"] is None else shown(kept, "guess")
        value, off = shown(kept, "measured"), miss(kept).removeprefix("off by ")
        if isinstance(kept["measured"], str) and off:
            value, off = f"{value}: {off}", ""
        # Behind a number of unknown width, only another number stays where it is in all runs.
        rows.append((kept["prediction"], guess, value, off if kept["exact"] or off.startswith("≈") else ""))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for what, guess, told, off in rows:
        print(f"{what:{widths[0]}}   {guess:{widths[1]}}   {told:18}   {off}".rstrip())


def calibration() -> None:
    "Draws the guesses kept on this machine, guess against measured (cell tag: nbval-ignore-output)."
    kept = {line["prediction"]: line for line in lines("prediction", "guess", "measured")}
    numbers = [one for one in kept.values() if factor(one)]
    if not numbers:
        print("No number was guessed so far.")
        return
    guessed, values = ([one[which] for one in numbers] for which in ("guess", "measured"))
    low = sum(guess < value for guess, value in zip(guessed, values, strict=True))
    said = f"Half of your {len(numbers)} guesses are within {times(median(map(factor, numbers)))};"
    pictures.guesses_and_measured(guessed, values, f"{said}\n{low} of them are too low")


def log_share(chapter: str, what: str, waiting_share: float) -> None:
    """Keeps and prints a chapter's line of the running table: the share of the time, 0 to 1, in which the
    model waits for data when it is fed as `what` says. From chapter 06 on it is the data stall."""
    share = float(waiting_share)
    keep({"chapter": chapter, "what": what, "waiting_share": share})
    said = "data stall" if chapter >= "06" else "the model waits"
    print(f"chapter {chapter} · {what}: {said} ≈ {percent(share)} of the time")


def running_table() -> None:
    """Prints the lines that `log_share` kept on this machine, by chapter, and in a chapter in the order
    in which they first came (cell tag: nbval-ignore-output)."""
    kept = lines("chapter", "what", "waiting_share")
    rows = {(line["chapter"], line["what"]): line["waiting_share"] for line in kept}
    width = max((len(what) for _, what in rows), default=0)
    for (chapter, what), share in sorted(rows.items(), key=lambda row: str(row[0][0])):
        bar = "█" * round(20 * share)
        print(f"{chapter}  {what:{width}}  {bar:·<20}  {percent(share):>5}")


def running_waterfall(step: float = 0.012) -> None:
    """Draws the lines that `log_share` kept on this machine from chapter 06 on, where the photographs run
    behind a stand-in device with a step of `step` seconds: what each chapter took away of the data stall, and
    what is left (cell tag: nbval-ignore-output)."""
    kept = [line for line in lines("chapter", "what", "waiting_share") if str(line["chapter"]) >= "06"]
    if not kept:
        print("No chapter from 06 on has logged its line so far.")
        return
    kept.sort(key=lambda line: str(line["chapter"]))  # within a chapter as they came
    pictures.waterfall({f"{line['chapter']} {line['what']}": line["waiting_share"] for line in kept}, step)


# The file: one JSON object a line, only ever appended to. Two kernels can write at once, and a damaged line
# is one line lost.


def file() -> Path:
    "Of this copy of the course, or in the folder that FEEDGPU_LOGBOOK names, as tests do."
    folder = os.environ.get("FEEDGPU_LOGBOOK") or (course_folder() or Path.cwd()) / ".feedgpu"
    return Path(folder) / "logbook.jsonl"


def keep(line: dict):
    try:
        file().parent.mkdir(parents=True, exist_ok=True)
        (file().parent / ".gitignore").write_text("*\n")  # the folder hides itself from git
        with open(file(), "a", encoding="utf-8") as stream:
            stream.write(f"\n{json.dumps(line)}\n")  # whatever a killed kernel left is a line of its own
    except OSError as error:
        warnings.warn(
            f"{file()} cannot be written, so this is forgotten with the kernel: {error}", stacklevel=3
        )


def lines(*keys: str) -> list[dict]:
    "The lines with these keys, oldest first; what is damaged or someone else's is passed over."
    if not file().exists():
        return []
    found = []
    for text in file().read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and line.keys() >= set(keys):
            found.append(line)
    return found


# Words and numbers.


def plain(value):
    "A number, a string or None, as JSON knows them: 3 for torch.tensor(3), None for ..."
    value = value.item() if hasattr(value, "item") else value
    if value is None or value is ...:
        return None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e300  # neither infinite nor NaN


def factor(kept: dict) -> float:
    "By which factor, at least 1, a guess is off; 0 where that means nothing, as for choices and zeros."
    guess, value = kept["guess"], kept["measured"]
    if not (is_number(guess) and is_number(value) and guess > 0 and value > 0):
        return 0
    return max(guess / value, value / guess)


def miss(kept: dict) -> str:
    "By how much a guess is off, in words."
    guess, value, unit = kept["guess"], kept["measured"], kept["unit"]
    sign = "" if kept["exact"] else "≈ "
    if guess is None:
        return ""
    if guess == value and kept["exact"]:
        return "right"
    if isinstance(value, str):
        return "right" if str(guess).casefold() == value.casefold() else "not right"
    if not is_number(guess) or not is_number(value):
        return "not a number to compare"
    if unit == "%":  # 1 % for 2 % is a good guess, 50 % for 100 % is not
        return f"off by {sign}{number(abs(guess - value), 2)} points"
    counts = kept["exact"] and isinstance(guess, int) and isinstance(value, int)
    if not factor(kept) or (counts and max(guess, value) <= 10):
        return f"off by {sign}{number(abs(guess - value))}"
    return f"off by {sign}{times(factor(kept))}"


def times(factor: float) -> str:
    "A factor of at least 1 in words: 1.3×, and 4.0 % for 1.04."
    return f"{number(factor, 2)}×" if factor >= 1.1 else f"{100 * (factor - 1):.1f} %"


def shown(kept: dict, which: str) -> str:
    value = kept[which]
    if not isinstance(value, (int, float)):
        return str(value)
    sign = "≈ " if which == "measured" and not kept["exact"] else ""
    unit = kept["unit"]
    surely = which == "guess" or kept["exact"]  # or the words would change with the machine
    if value == 1 and surely and len(unit) > 2 and unit.endswith("s") and "/" not in unit:  # no ms, no rate
        unit = unit[:-2] if unit.endswith(("ches", "sses")) else unit[:-1]
    return f"{sign}{number(value)} {unit}".rstrip()
