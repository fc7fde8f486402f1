"""Writes what README.md takes from elsewhere: python3 tools/readme.py

The map of chapters and the picture come from the notebooks, the run of the script from
benchmarks/results/script_seeds.json, the tables of loaders from peers.json and images.json beside it.

A chapter's first cell has its question as title, its outcomes as bullets, and a sentence on its time:
"Reading takes 12 minutes, running about 10 s". --check writes nothing; it exits with 1 if README.md is old.
"""

import base64
import json
import re
import sys
from pathlib import Path
from statistics import median

import nbformat

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PICTURE_OF = "00_what_can_this_machine_show_me.ipynb"
MAP = re.compile(r"(?s)(<!-- map: .*? -->\n).*?(<!-- end of map -->)")
PEERS = re.compile(r"(?s)(<!-- peers: .*? -->\n).*?(<!-- end of peers -->)")
IMAGES = re.compile(r"(?s)(<!-- images: .*? -->\n).*?(<!-- end of images -->)")
RUN = re.compile(r"(?s)(<!-- run: .*? -->\n).*?(<!-- end of run -->)")


def chapter(path: Path) -> str:
    "One row of the map"
    opening = nbformat.read(path, as_version=4).cells[0].source
    title = re.match(r"# (\S+) · (.*)", opening)
    bullets = [" ".join(bullet.split()) for bullet in re.findall(r"(?ms)^- (.*?)(?=^- |^$|\Z)", opening)]
    minutes = re.search(r"Reading takes (\d+) minutes?, running about (\d+) s", opening)
    if not (title and minutes):
        raise SystemExit(
            f"{path.name}: the first cell lacks its title or 'Reading takes … minutes, running about … s'"
        )
    after = " ".join(bullets).rstrip(".;,")
    return (
        f"| {title[1]} | [{title[2]}]({path.relative_to(ROOT)}) | {minutes[1]} | {minutes[2]} | {after} |\n"
    )


def run_of_the_script() -> str:
    "What the script said with seed 0, shortened, and what it reaches with all seeds"
    found = json.loads((RESULTS / "script_seeds.json").read_text(encoding="utf-8"))
    lines = found["runs"][0]["said"].splitlines()
    table = next(i for i, line in enumerate(lines) if line.lstrip().startswith("epoch"))
    end = next(i for i, line in enumerate(lines) if line.startswith("Validation accuracy"))
    shown = [lines[0], *lines[table : table + 3], "  …", *lines[end - 1 :]]
    accuracies = [run["accuracy"] for run in found["runs"]]
    seconds = max(run["seconds"] for run in found["runs"])
    machine, date = found["machine"], found["date"]
    return (
        "\n```\n" + "\n".join(shown) + "\n```\n\n"
        f"({machine['CPUs that this process may use']} shared CPUs, {machine['versions']}, {date}: at most "
        f"{seconds:.0f} s in all, and {min(accuracies)} to {max(accuracies)} % with the seeds 0 to 9.)\n\n"
    )


def table_of_loaders() -> str:
    "Warm and cold rates of the loaders that benchmarks/peers.py measured, as multiples of the article's"
    found = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))
    columns = [rates_of(found["workloads"][key]) for key in ("W1", "W2")]
    names = sorted({*columns[0], *columns[1]}, key=lambda name: -columns[0].get(name, [0])[0])
    lines = ["| | 3 KB: samples/s | × | cold × | 150 KB: samples/s | × | cold × |", "|---" * 7 + "|"]
    for name in names:
        cells = [rounded for column in columns for rounded in column.get(name, (0, "–", "–", "–"))[1:]]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    machine, date = found["machine"], found["date"]
    said = f"{machine['CPUs that this process may use']} shared CPUs, {machine['versions']}, {date}"
    return "\n" + "\n".join(lines) + f"\n\n({said}.)\n\n"


def table_of_image_loaders() -> str:
    "Rates of the loaders that benchmarks/images.py measured, as multiples of the usual class's with Pillow"
    found = json.loads((RESULTS / "images.json").read_text(encoding="utf-8"))
    rows, usual = found["rows"], found["rows"]["Pillow, the usual class"]["rates"]
    lines = ["| | by | antialiased | images/s | × |", "|---" * 5 + "|"]
    for name, row in sorted(rows.items(), key=lambda pair: -median(pair[1]["rates"])):
        times = median(a / b for a, b in zip(row["rates"], usual, strict=True))
        cells = [name, row["decoder"], "yes" if row["antialiased"] else "no"]
        lines.append("| " + " | ".join([*cells, f"{median(row['rates']):,.0f}", f"{times:.1f}"]) + " |")
    machine, date = found["machine"], found["date"]
    said = f"{machine['CPUs that this process may use']} shared CPUs, {machine['versions']}, {date}"
    how = "[benchmarks/results/images.md](benchmarks/results/images.md)"
    return (
        f"\n{found['images']:,} JPEGs of 256×256, decoded and scaled to 224×224 in shuffled batches of 64, "
        "each with its best number of workers or threads:\n\n"
        + "\n".join(lines)
        + f"\n\n({said}; more in {how}.)\n\n"
    )


def rates_of(workload: dict) -> dict[str, tuple]:
    "{loader: (its rate, the rate and its ratios to the article's, warm and cold, as they are shown)}"
    rows = workload["rows"]
    articles = [row for name, row in rows.items() if name.startswith("the article")]
    article = max((row["rates"] for row in articles), key=median)
    cold = max(median(row["cold"]) for row in articles)
    shown = {}
    for name, row in rows.items():
        times = median(a / b for a, b in zip(row["rates"], article, strict=True))
        iced = f"{median(row['cold']) / cold:.1f}" if row["cold"] else "–"
        rate = median(row["rates"])
        shown[name] = rate, f"{rate:,.0f}", f"{times:.0f}" if times >= 10 else f"{times:.1f}", iced
    return shown


def picture(path: Path) -> bytes:
    "The PNG of the cell that compares loops with and without workers"
    for cell in nbformat.read(path, as_version=4).cells:
        if "strips(" in cell.source and cell.cell_type == "code":
            return base64.b64decode(cell.outputs[0].data["image/png"])
    raise SystemExit(f"{path.name}: no cell draws strips")


def main(arguments: list[str]) -> int:
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    rows = "".join(map(chapter, notebooks))
    header = "| | Question | min to read | s to run | Afterwards you can |\n|---|---|---|---|---|\n"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    new = MAP.sub(lambda found: f"{found[1]}\n{header}{rows}\n{found[2]}", text)
    new = RUN.sub(lambda found: f"{found[1]}{run_of_the_script()}{found[2]}", new)
    new = PEERS.sub(lambda found: f"{found[1]}{table_of_loaders()}{found[2]}", new)
    new = IMAGES.sub(lambda found: f"{found[1]}{table_of_image_loaders()}{found[2]}", new)
    if "--check" in arguments:
        return int(new != text)
    (ROOT / "README.md").write_text(new, encoding="utf-8")
    (ROOT / "picture.png").write_bytes(picture(ROOT / "notebooks" / PICTURE_OF))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
