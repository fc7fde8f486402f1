"""The reader's logbook: predictions beside what was measured, and the running table of the course.

    guess = predict("bytes in one sample's file", 13_000, "bytes")
    measured("bytes in one sample's file", file.stat().st_size, exact=True)
    scores()                                       # at the chapter's end
    record("03", "one file a sample", meter.waiting_share)

What a machine decides is printed behind ≈, so that two runs of a notebook compare equal.
"""

import json
import os
import warnings
from pathlib import Path
from statistics import median

from feedgpu import pictures
from feedgpu.pictures import number, percent

HERE = Path(__file__).resolve().parent.parent
predictions = {}  # of this kernel, by their names, in the order in which they were made


def predict(what: str, guess, unit: str = ""):
    """Keeps the reader's guess at `what`, a number in `unit` or one of several choices, and returns it.

    None or ... is no guess. Prints nothing.
    """
    predictions[what] = {"prediction": what, "guess": plain(guess), "unit": unit}
    return guess


def measured(what: str, value, exact: bool = False):
    """Prints what `what` came to beside the guess, and by how much that was off; both are kept.

    `exact`: the value is the same on every machine, as a count is, and is compared when the notebook is
    tested. A choice that a machine may decide otherwise needs a cell tagged nbval-ignore-output.
    """
    kept = predictions.setdefault(what, {"prediction": what, "guess": None, "unit": ""})
    kept |= {"measured": plain(value), "exact": exact}
    keep(kept)
    said = "you made no guess" if kept["guess"] is None else f"you said {shown(kept, 'guess')}"
    print(f"{said}, it is {shown(kept, 'measured')}" + (f": {miss(kept)}" if miss(kept) else ""))


def scores():
    """Prints the predictions of this kernel as a table.

    A choice that the machine decided is left out: its own cell has said it, and here it would not compare.
    """
    done = [kept for kept in predictions.values() if "measured" in kept and not is_machines_choice(kept)]
    rows = [("prediction", "you said", "it is", "off by")]
    for kept in done:
        told = shown(kept, "measured")
        guess = "no guess" if kept["guess"] is None else shown(kept, "guess")
        off = miss(kept).removeprefix("off by ")
        # Behind a number of unknown width, only another number stays where it is in all runs.
        rows.append((kept["prediction"], guess, told, off if kept["exact"] or off.startswith("≈") else ""))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for what, guess, told, off in rows:
        print(f"{what:{widths[0]}}   {guess:{widths[1]}}   {told:18}   {off}".rstrip())


def calibration():
    "Draws the predictions kept on this machine, guess against measured (cell tag: nbval-ignore-output)."
    kept = {line["prediction"]: line for line in lines("prediction", "guess", "measured")}
    pairs = [(one["guess"], one["measured"]) for one in kept.values() if factor(one)]
    if not pairs:
        print("No number was predicted so far.")
        return
    within = median(factor(one) for one in kept.values() if factor(one))
    low = sum(guess < value for guess, value in pairs)
    said = f"Half of your {len(pairs)} guesses are within {times(within)};\n{low} of them are too low"
    pictures.calibration(*zip(*pairs, strict=True), said)


def record(chapter: str, what: str, waiting_share: float):
    """Keeps and prints a chapter's line of the running table: the share of the time, 0 to 1, in which the
    model waits for data when it is fed as `what` says. From chapter 06 on it is the data stall."""
    share = float(waiting_share)
    keep({"chapter": chapter, "what": what, "waiting_share": share})
    said = "data stall" if chapter >= "06" else "the model waits"
    print(f"chapter {chapter} · {what}: {said} ≈ {percent(share)} of the time")


def running_table():
    """Prints the lines that `record` kept on this machine, by chapter, and in a chapter in the order
    in which they first came (cell tag: nbval-ignore-output)."""
    kept = lines("chapter", "what", "waiting_share")
    rows = {(line["chapter"], line["what"]): line["waiting_share"] for line in kept}
    width = max((len(what) for _, what in rows), default=0)
    for (chapter, what), share in sorted(rows.items(), key=lambda row: str(row[0][0])):
        bar = "█" * round(20 * share)
        print(f"{chapter}  {what:{width}}  {bar:·<20}  {percent(share):>5}")


def waterfall(step: float = 0.012):
    """Draws the lines that `record` kept on this machine from chapter 06 on, where the photographs run
    behind a stand-in device with a step of `step` seconds: what each chapter took away of the data stall, and
    what is left (cell tag: nbval-ignore-output)."""
    kept = [line for line in lines("chapter", "what", "waiting_share") if str(line["chapter"]) >= "06"]
    if not kept:
        print("No chapter from 06 on has recorded its line so far.")
        return
    kept.sort(key=lambda line: str(line["chapter"]))  # within a chapter as they came
    pictures.waterfall({f"{line['chapter']} {line['what']}": line["waiting_share"] for line in kept}, step)


# The file: one JSON object a line, only ever appended to. Two kernels can write at once, and a damaged line
# is one line lost.


def file() -> Path:
    "Of this clone of the course, or in the folder that FEEDGPU_LOGBOOK names, as tests do."
    return Path(os.environ.get("FEEDGPU_LOGBOOK") or HERE / ".feedgpu") / "logbook.jsonl"


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


def is_machines_choice(kept: dict) -> bool:
    return isinstance(kept["measured"], str) and not kept["exact"]


def factor(kept: dict) -> float:
    "By which factor, at least 1, a guess is off; 0 where that means nothing, as for choices and zeros."
    guess, value = kept.get("guess"), kept.get("measured")
    if not (is_number(guess) and is_number(value) and guess > 0 and value > 0):
        return 0
    return max(guess / value, value / guess)


def miss(kept: dict) -> str:
    "By how much a guess is off, in words."
    guess, value, unit = kept["guess"], kept["measured"], kept["unit"]
    sign = "" if kept["exact"] else "≈ "
    if guess is None:
        return ""
    if isinstance(value, str) or (kept["exact"] and guess == value):
        return "right" if str(guess).casefold() == str(value).casefold() else "not right"
    if not is_number(guess) or not is_number(value):
        return "not a number to compare"
    if unit == "%":  # 1 % for 2 % is a good guess, 50 % for 100 % is not
        return f"off by {sign}{number(abs(guess - value), 2)} points"
    if not factor(kept):
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
    return f"{sign}{number(value)} {kept['unit']}".rstrip()
