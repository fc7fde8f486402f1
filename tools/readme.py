"""Writes what the READMEs take from elsewhere: python3 tools/readme.py

The map of chapters and the picture come from the notebooks, all numbers of loaders and of the script from
benchmarks/results/. It also writes the sentence on time into each chapter's first cell, "Reading takes 30
minutes (24 without the exercise), running about 10 s", of which the seconds are the author's.

--check writes nothing; it exits with 1 if a README or a sentence is old.
"""

import json
import os
import re
import sys
from pathlib import Path
from statistics import median

import nbformat

os.environ["MPLBACKEND"] = "agg"

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
STEP = 0.012  # seconds: the stand-in device of chapters 06 to 10
PHOTOGRAPHS = ("06", "07", "08", "09", "10")  # the chapters that feed it the same photographs
TIME = re.compile(
    r"Reading takes \d+ minutes?(?: \(\d+ without the exercise\))?, running (?:takes )?about (\d+) s"
)


def results(name: str) -> dict:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def machine_of(found: dict) -> str:
    machine = found["machine"]
    return f"{machine['CPUs that this process may use']} shared CPUs, {machine['versions']}, {found['date']}"


# The chapters


def read(path: Path):
    return nbformat.read(path, as_version=4)


def minutes(cells: list) -> int:
    """How long a reader takes: 110 words a minute, 32 lines of code, 6 code cells with their outputs.

    Fitted by least squares to the times that readers took for chapters 00 to 13, 16 to 45 minutes with the
    exercise, which counts 5 minutes beside its words: on average it is 4 minutes off, at most 9.
    """
    words = lines = code = 0
    for cell in cells:
        if cell.cell_type == "code":
            code += 1
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
        else:
            words += len(re.sub(r"(?s)<details>.*?</details>", "", cell.source).split())
    return round(words / 110 + lines / 32 + code / 6)


def exercise_of(cells: list) -> list:
    "The cells from its heading to the next one"
    parts, inside = [], False
    for cell in cells:
        for text in re.split("(?m)^(?=## )", cell.source) if cell.cell_type == "markdown" else [cell.source]:
            if cell.cell_type == "markdown" and text.startswith("## "):
                inside = "Exercise" in text.partition("\n")[0]
            if inside:
                parts.append(nbformat.from_dict({**cell, "source": text}))
    return parts


def sentence_on_time(path: Path, cells: list) -> str:
    old = TIME.search(cells[0].source)
    if not old:
        raise SystemExit(f"{path.name}: the first cell lacks 'Reading takes … minutes, running about … s'")
    exercise = exercise_of(cells)
    whole = minutes(cells) + 5 * bool(exercise)
    without = f" ({whole - 5 - minutes(exercise)} without the exercise)" if exercise else ""
    return f"Reading takes {whole} minutes{without}, running about {old[1]} s"


def chapter(path: Path) -> str:
    "One row of the map"
    opening = read(path).cells[0].source
    title = re.match(r"# (\S+) · (.*)", opening)
    bullets = [" ".join(bullet.split()) for bullet in re.findall(r"(?ms)^- (.*?)(?=^- |^$|\Z)", opening)]
    if not title:
        raise SystemExit(f"{path.name}: the first cell lacks its title")
    time = sentence_on_time(path, read(path).cells)
    whole, without, seconds = re.search(
        r"(\d+) min\w+(?: \((\d+) without the exercise\))?.*?(\d+) s", time
    ).groups()
    after = bullets[0].rstrip(".;,")  # the others stand in the chapter
    shown = f"{whole} ({without})" if without else whole
    return f"| {title[1]} | [{title[2]}]({path.name}) | {shown} | {seconds} | {after} |\n"


def map_of_chapters() -> str:
    header = (
        "| | Question | min (without exercise) | s to run | Afterwards you can |\n|---|---|---|---|---|\n"
    )
    rows = "".join(map(chapter, notebooks()))
    hours = sum(int(minutes) for minutes in re.findall(r"ipynb\) \| (\d+)", rows)) / 60
    return (
        f"{header}{rows}\nThe minutes are for reading, with the exercise: about {hours:.0f} hours in all.\n"
    )


def notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def stalls() -> dict[str, float]:
    "{chapter and what: data stall} of those that feed the same photographs, as their stored outputs say"
    found = {}
    for path in notebooks():
        texts = [output.get("text", "") for cell in read(path).cells for output in cell.get("outputs", [])]
        for number, what, percent in re.findall(
            r"chapter (\d\d) · (.*): data stall ≈ (\d+) %", "\n".join(texts)
        ):
            if number in PHOTOGRAPHS:
                found[f"{number} {what}"] = int(percent) / 100
    return found


def under_the_picture() -> str:
    first, *_, last = stalls().values()
    return (
        f"One batch of 32 photographs on 2 CPUs, with a simulated GPU step of {1e3 * STEP:.0f} ms. Orange is "
        "the **data stall**: the time that would vanish if no batch had to be waited for. It falls "
        f"from {100 * first:.0f} % of the time (the article's loop) to {100 * last:.0f} % (chapter 10).\n"
    )


def draw_picture(file: Path) -> None:
    import matplotlib.pyplot as plt

    from feedgpu.course.pictures import waterfall

    waterfall(stalls(), STEP)
    plt.gcf().savefig(file, dpi=100)
    plt.close()


# The measurements


def run_of_the_script() -> str:
    "What the script said with seed 0, shortened, and what it reaches with all seeds"
    found = results("script_seeds.json")
    lines = found["runs"][0]["said"].splitlines()
    table = next(i for i, line in enumerate(lines) if line.lstrip().startswith("epoch"))
    end = next(i for i, line in enumerate(lines) if line.startswith("Validation accuracy"))
    shown = [*lines[table : table + 2], "  …", *lines[end - 1 : end + 1]]
    accuracies = [run["accuracy"] for run in found["runs"]]
    seconds = max(run["seconds"] for run in found["runs"])
    return (
        "```\n" + "\n".join(shown) + "\n```\n\n"
        f"({machine_of(found)}: training took at most {seconds:.0f} s, and the last epoch reached "
        f"{min(accuracies)} to {max(accuracies)} % with the seeds 0 to 9.)\n"
    )


def rates_of(workload: dict) -> dict[str, tuple]:
    "{loader: (its rate, its ratios to the article's, warm and cold or None)}"
    rows = workload["rows"]
    articles = [row for name, row in rows.items() if name.startswith("the article")]
    article = max((row["rates"] for row in articles), key=median)
    cold = max(median(row["cold"]) for row in articles)
    return {
        name: (
            median(row["rates"]),
            median(a / b for a, b in zip(row["rates"], article, strict=True)),
            median(row["cold"]) / cold if row["cold"] else None,
        )
        for name, row in rows.items()
    }


def times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def table_of_loaders() -> str:
    "Warm and cold rates of the loaders that benchmarks/peers.py measured, as multiples of the article's"
    found = results("peers.json")
    columns = [rates_of(found["workloads"][key]) for key in ("W1", "W2")]
    names = sorted({*columns[0], *columns[1]}, key=lambda name: -columns[0].get(name, [0])[0])
    lines = ["| | 3 KB: samples/s | × | cold × | 150 KB: samples/s | × | cold × |", "|---" * 7 + "|"]
    for name in names:
        cells = [name]
        for column in columns:
            rate, warm, cold = column.get(name, (None, None, None))
            cells += [
                "–" if rate is None else f"{rate:,.0f}",
                times(warm),
                "–" if cold is None else f"{cold:.1f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n({machine_of(found)}.)\n"


def table_of_image_loaders() -> str:
    """Rates of the loaders that benchmarks/images.py measured, as multiples of the usual class's with Pillow;
    what decodes nothing stands apart"""
    found = results("images.json")
    usual = found["rows"]["Pillow, the usual class"]["rates"]
    rows = sorted(found["rows"].items(), key=lambda pair: -median(pair[1]["rates"]))
    lines = ["| | by | antialiased | images/s | × |", "|---" * 5 + "|"]
    for name, row in rows:
        ratio = median(a / b for a, b in zip(row["rates"], usual, strict=True))
        cells = [name, row["decoder"], "yes" if row["antialiased"] else "no"]
        cells += [f"{median(row['rates']):,.0f}", f"{ratio:.1f}"]
        if row["decoder"] == "none":
            apart = f"Decoded once and packed, they arrive at {cells[3]} a second, {ratio:.0f} times as fast."
        else:
            lines.append("| " + " | ".join(cells) + " |")
    return (
        f"{found['images']:,} JPEGs of 256×256, decoded and scaled to 224×224 in shuffled batches of 64, "
        "each with its best number of workers or threads:\n\n"
        + "\n".join(lines)
        + f"\n\n{apart} ({machine_of(found)}; more in [images.md](results/images.md).)\n"
    )


def gains() -> str:
    "What the package brings, in three lines"
    peers, images = results("peers.json"), results("images.json")["rows"]
    lines = [
        "| Shuffled epochs, batches of 64 | the usual loader | this package | × | cold × |",
        "|---" * 5 + "|",
    ]
    for key, what in (("W1", "samples of 3 KB"), ("W2", "samples of 150 KB")):
        rates = rates_of(peers["workloads"][key])
        rate, warm, cold = rates["PrefetchLoader"]
        usual = rates["the article, best workers"][0]
        lines.append(f"| {what}, packed | {usual:,.0f}/s | {rate:,.0f}/s | {times(warm)} | {times(cold)} |")
    ours, usual = (
        images[name]["rates"] for name in ("ImageDataset in PrefetchLoader", "Pillow, the usual class")
    )
    ratio = median(a / b for a, b in zip(ours, usual, strict=True))
    lines.append(f"| JPEGs, decoded | {median(usual):,.0f}/s | {median(ours):,.0f}/s | {times(ratio)} | – |")
    return (
        "\n".join(lines)
        + f"\n\n({machine_of(peers)}. Loading alone, no model. The usual loader: one file a sample, its best "
        "number of workers. The two ran in turn: × is the median of the ratios, with files in memory; "
        "cold ×, from the disk.)\n"
    )


def named(loader: str) -> str:
    "safetensors, mapped → safetensors (mapped)"
    return re.sub(", (.*)", r" (\1)", loader)


def all_of(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def ahead() -> str:
    "Whose median rate, or median of the rounds' ratios to the article's, is no less than PrefetchLoader's"
    workloads = results("peers.json")["workloads"]
    said = []
    for size, key in (("3 KB", "W1"), ("150 KB", "W2")):
        rates = rates_of(workloads[key])
        ours = rates["PrefetchLoader"]
        others = {
            name: rate
            for name, rate in rates.items()
            if not name.startswith(("Packed", "packed", "Prefetch", "the article"))
        }
        warm = [named(name) for name, rate in others.items() if rate[0] >= ours[0] or rate[1] >= ours[1]]
        cold = [named(name) for name, rate in others.items() if (rate[2] or 0) >= ours[2]]
        places = [
            f"{all_of(who)} {where}" for who, where in ((warm, "from memory"), (cold, "from the disk")) if who
        ]
        if places:
            said.append(f"with samples of {size} {', '.join(places)}")
    small = rates_of(workloads["W1"])
    return (
        f"Some loaders are as fast or faster, in an empty loop: {'; '.join(said)}. With 3 KB from the disk, "
        f"a pack is {small['PrefetchLoader'][2]:.0f} times as fast as the usual loader, mapped safetensors "
        f"{small['safetensors, mapped'][2]:.1f} times. [All loaders, side by side](benchmarks/README.md).\n"
    )


def checksums() -> str:
    found = results("checksums.json")
    first, last = found["sizes"][1], found["sizes"][-1]
    costs = " and ".join(
        f"{one['look'] / one['read']:.1f} times as long as reading a sample of {one['bytes'] / 1e3:.0f} KB"
        for one in (first, last)
    )
    return (
        f"  Verifying in every reading would take {costs} "
        "([benchmarks/checksums.py](../benchmarks/checksums.py)).\n"
    )


PAGES = {
    "README.md": {"stall": under_the_picture, "gains": gains, "run": run_of_the_script, "ahead": ahead},
    "notebooks/README.md": {"map": map_of_chapters},
    "benchmarks/README.md": {"peers": table_of_loaders, "images": table_of_image_loaders},
    "feedgpu/README.md": {"checksums": checksums},
}


def written(page: str) -> str:
    "The page with its parts as they ought to be"
    text = (ROOT / page).read_text(encoding="utf-8")
    for part, make in PAGES[page].items():
        between = re.compile(rf"(?s)(<!-- {part}: .*? -->\n).*?(<!-- end of {part} -->)")
        if not between.search(text):
            raise SystemExit(f"{page} has no place for {part}")
        text = between.sub(lambda found, make=make: f"{found[1]}{make()}{found[2]}", text)
    return text


def main(arguments: list[str]) -> int:
    old = []
    for path in notebooks():
        notebook = read(path)
        first = notebook.cells[0]
        new = TIME.sub(sentence_on_time(path, notebook.cells), first.source)
        if new != first.source:
            old.append(path.name)
            first.source = new
            if "--check" not in arguments:
                nbformat.write(notebook, path)
    for page in PAGES:
        new = written(page)
        if new != (ROOT / page).read_text(encoding="utf-8"):
            old.append(page)
            if "--check" not in arguments:
                (ROOT / page).write_text(new, encoding="utf-8")
    if "--check" in arguments:
        return int(bool(old))
    draw_picture(ROOT / "picture.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
