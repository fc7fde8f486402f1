"""Loaders that decode images side by side: the same JPEGs, each library in its own process.

    make bench                                     # sets up what is needed, then runs, among others:
    build/bench/bin/python benchmarks/images.py    # about 6 minutes; rewrites results/images.*
    ... --quick            # a few images, prints the tables and writes nothing
    ... --only "DALI CPU"  # these beside our own; writes nothing
    ... --again            # measures nothing: tables and picture from the stored numbers

W3: 2,000 JPEGs of 256×256 pixels, quality 90, each decoded and scaled to uint8 3×224×224, in batches of 64,
shuffled. Every peer is checked to deliver each image once with its label, and its pixels within a tolerance
of Pillow's. Each is tried with 0, 1, 2 and 4 workers (or threads) and keeps the fastest number. Then, in
alternating rounds, images/s of whole epochs with an empty loop body, their start included, all files in the
page cache.

Limit: in each round, as many processes as there are cores decode and scale a share of the files in a plain
loop into one buffer, each image as ImageDataset does it; and once more as Pillow does it. They are started
before, and told to begin at the same moment. And by as many threads of one process: what lies
between the two is Python's lock, and what is then left to ImageDataset is batches, IDs and an epoch's start.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy
import torch
from image_loaders import BARE, PEERS, SIZE, jpegs, pillow
from matplotlib.lines import Line2D
from peers import RESULTS, Child, Effort, Failed, Field, first, rate, ratios, spread, tune, write_text

from feedgpu import available_cpus
from feedgpu.course.pictures.style import COLOURS, OTHERS, STYLE
from feedgpu.measure import machine, number
from feedgpu.prepare import photographs, write

BASE, IN_DATALOADER, IN_PREFETCH, PACKED, *_ = PEERS
OURS = [name for name in PEERS if name.startswith(("ImageDataset", "PackedDataset"))]
ALWAYS = [BASE, IN_DATALOADER, IN_PREFETCH]  # with --only
OUR_WAY, PILLOW_WAY = BARE
FILES = 256, 256  # (height, width) of the JPEGs
# In levels of 256, the mean over the pixels of one image: another image is some 50 away.
TOLERANCE = {True: 1.0, False: 4.0}  # by whether the peer scales antialiased, as Pillow does


@dataclass(frozen=True)
class Amount:
    "How much is measured"

    images: int = 2000
    effort: Effort = Effort(rounds=5, tuning=0.4, least=0.3, most=5.0)
    bare: float = 1.0  # seconds


FULL = Amount()
LITTLE = Amount(200, Effort(rounds=2, tuning=0.1, least=0.05, most=2.0), 0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few images, writes nothing")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=PEERS, help="these and our own")
    parser.add_argument("--again", action="store_true", help="tables and picture of the stored numbers")
    parser.add_argument("--folder", type=Path, help="where the images go (by default a temporary folder)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of `finally`, which ends the children
    file = RESULTS / "images.json"
    if arguments.again:
        return report(json.loads(file.read_text()), file)
    names = [name for name in PEERS if not arguments.only or name in [*ALWAYS, *arguments.only]]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="images-") as folder:
        found = {"machine": machine(folder), "date": time.strftime("%Y-%m-%d")}
        found |= measure(Path(folder), names, LITTLE if arguments.quick else FULL)
    print(f"{time.perf_counter() - began:.0f} s", flush=True)
    if arguments.quick or arguments.only:
        return print(tables(found))
    file.write_text(json.dumps(found, indent=1) + "\n")
    report(found, file)


def measure(folder: Path, names: list[str], amount: Amount) -> dict:
    "All numbers: {name: row}, the limits of each round, and why who is absent"
    effort = amount.effort
    size = write_images(folder, amount.images)
    of = {"peers": PEERS, "script": "image_process.py"}
    field = Field("W3", names, folder, **of)
    each, processes = field.each, []
    limits, threads = {name: [] for name in BARE}, []
    try:
        of["peers"] = BARE
        processes = {name: [Child(name, folder, **of) for _ in range(available_cpus())] for name in BARE}
        each("starting", lambda name, child, row: child.receive())
        for child in sum(processes.values(), []):
            child.receive()
        each("describing", lambda name, child, row: row.update(child.ask("describe") | about(name)))
        field.convert(PACKED)
        each("tuning", lambda name, child, row: row.update(workers=tune(child, effort)))
        each("checking", lambda name, child, row: row.update(check(child, row, amount.images)))
        for _ in range(effort.rounds):
            for name, children in processes.items():
                limits[name].append(bare(children, amount.bare))
            threads.append(bare(processes[OUR_WAY][:1], amount.bare, threads=available_cpus()))
            each("rates", lambda name, child, row: row["rates"].append(rate(child, row, effort)))
        each("first batch", lambda name, child, row: row.update(first=first(child, row)))
    finally:
        field.end()
        for child in sum(processes.values(), []):
            child.end()
    return {
        "images": amount.images,
        "bytes": size,
        "processes": available_cpus(),
        "limits": limits,
        "threads": threads,
        "rows": field.measured(names),
        "absent": field.absent,
    }


def write_images(folder: Path, images: int) -> int:
    "The JPEGs, numbered by their labels, and what Pillow makes of them; returns the bytes of the JPEGs"
    source = photographs(images, FILES, kept_as="jpeg")
    numbered = {ID: i for i, ID in enumerate(source.labels)}
    write(replace(source, labels=numbered, classes=None), folder / "article")
    shape = (images, *SIZE, 3)
    reference = numpy.lib.format.open_memmap(folder / "reference.npy", "w+", numpy.uint8, shape)
    size = 0
    for data, label in jpegs(folder / "article"):
        reference[label] = pillow(data)
        size += len(data)
    return size


def about(name: str) -> dict:
    return {what: getattr(PEERS[name], what) for what in ("decoder", "antialiased")}


def check(child: Child, row: dict, images: int) -> dict:
    "How far its pixels are from Pillow's"
    found = child.ask("check", workers=row["workers"])
    kinds = [str((torch.uint8, [3, *SIZE], torch.int64))]
    if found["kinds"] != kinds or found["labels"] != list(range(images)):
        raise Failed(
            f"it delivers {len(found['labels']):,} images, {' and '.join(found['kinds'])}, and not each of "
            f"the {images:,}, {kinds[0]}, once"
        )
    if not found["worst"] <= (most := TOLERANCE[row["antialiased"]]):
        raise Failed(
            f"one of its images is {found['worst']:.1f} levels from what Pillow makes, {most} is much"
        )
    return {"apart": found["mean"], "apart_worst": found["worst"]}


def bare(processes: list[Child], seconds: float, threads: int = 1) -> float:
    "Images/s of all of them together, by so many threads in each"
    begin = time.perf_counter() + 0.3
    for i, child in enumerate(processes):
        of = len(processes) * threads
        child.tell("bare", number=i, of=of, begin=begin, seconds=seconds, threads=threads)
    return sum(child.receive() for child in processes)


def tables(found: dict) -> str:
    parts = [said(found), rates_table(found), goals_table(found), steps_table(found), costs_table(found)]
    parts += [f"{name} could not be measured. {reason}" for name, reason in found["absent"].items()]
    return "\n\n".join(parts)


def said(found: dict) -> str:
    mean = found["bytes"] / found["images"] / 1e3
    return (
        f"{found['images']:,} JPEGs of {FILES[0]}×{FILES[1]}, {number(mean, 2)} KB each, decoded and scaled "
        f"to {SIZE[0]}×{SIZE[1]}. “Apart”: the mean difference of a value from Pillow's, in levels of 256; "
        f"within {TOLERANCE[True]:g} for each image that is scaled antialiased, {TOLERANCE[False]:g} for "
        "others. "
        "ImageDataset in DataLoader with 0 workers decodes by as many threads as there are CPUs."
    )


def rates_table(found: dict) -> str:
    lines = [
        "| | workers or threads | images/s (least–greatest) | × usual | % of limit | first batch ms "
        "| decoded by | antialiased | apart | shuffle |",
        "|---" * 10 + "|",
    ]
    rows, limit = found["rows"], found["limits"][OUR_WAY]
    for name, row in sorted(rows.items(), key=fastest_decoder_first):
        times = number(ratios(row["rates"], rows[BASE]["rates"])) if BASE in rows else "–"
        cells = [name, row["workers"], spread(row["rates"]), times]
        cells += [number(100 * ratios(row["rates"], limit), 2), number(1e3 * row["first"], 2)]
        cells += [
            row["decoder"],
            "yes" if row["antialiased"] else "no",
            number(row["apart"], 2),
            row["shuffle"],
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    for name, rates in found["limits"].items():
        cells = [f"*{found['processes']} processes, {name}*", "", spread(rates), ""]
        cells += [number(100 * ratios(rates, limit), 2), *[""] * 5]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fastest_decoder_first(named: tuple[str, dict]) -> tuple[bool, float]:
    "The order of the rows: what decodes nothing comes last"
    return named[1]["decoder"] == "none", -median(named[1]["rates"])


def goals_table(found: dict) -> str:
    "Whether they were reached, by ImageDataset in each of the two loaders"
    rows = found["rows"]
    goals = [  # (what, at least, the rates of what it is compared with)
        ("against Pillow in the usual class, at its best, ×", 1.8, rows.get(BASE, {}).get("rates")),
        ("against DALI CPU, ×", 1.5, rows.get("DALI CPU", {}).get("rates")),
        ("against as many bare decoding processes as cores", 0.9, found["limits"][OUR_WAY]),
    ]
    lines = ["| ImageDataset | goal | in PrefetchLoader | | in DataLoader | |", "|---" * 6 + "|"]
    for what, least, others in goals:
        cells = [what, f"≥ {least}"]
        for name in (IN_PREFETCH, IN_DATALOADER):
            if others is None or name not in rows:
                cells += ["–", "not measured"]
                continue
            value = ratios(rows[name]["rates"], others)
            cells += [number(value, 2), "reached" if value >= least else "**missed**"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def steps_table(found: dict) -> str:
    "From the bare processes to ImageDataset, one difference after the other"
    number_of = found["processes"]
    steps = {
        f"{number_of} processes, {OUR_WAY}": found["limits"][OUR_WAY],
        f"{number_of} threads of one process, {OUR_WAY}": found["threads"],
        f"{IN_PREFETCH}, whole epochs": found["rows"][IN_PREFETCH]["rates"],
    }
    lines = ["| | images/s (least–greatest) | of the limit |", "|---" * 3 + "|"]
    for name, rates in steps.items():
        share = ratios(rates, found["limits"][OUR_WAY])
        lines.append(f"| {name} | {spread(rates)} | {number(share, 2)} |")
    return "\n".join(lines)


def costs_table(found: dict) -> str:
    "Of those that read something else than the files"
    lines = ["| | seconds to convert | MB on the disk | × the JPEGs |", "|---" * 4 + "|"]
    lines.append(f"| *the JPEGs* | | {number(found['bytes'] / 1e6)} | 1 |")
    for name, row in found["rows"].items():
        if size := row["converted"]["bytes"]:
            cells = [name, number(row["converted"]["seconds"], 2), number(size / 1e6)]
            lines.append("| " + " | ".join([*cells, number(size / found["bytes"], 2)]) + " |")
    return "\n".join(lines)


def report(found: dict, file: Path):
    "Prints the tables, and writes them and the picture beside the numbers"
    text = f"![]({file.stem}.png)\n\n{tables(found)}"
    write_text("Loaders that decode images", "images.py", found, text, file)
    draw(found, file.with_suffix(".png"))


KINDS = {
    "ours": COLOURS["computing"],
    "a library": COLOURS["waiting"],
    "Pillow or OpenCV, by hand": OTHERS[0],
}


def kind_of(name: str, row: dict) -> str:
    if name in OURS:
        return "ours"
    return list(KINDS)[2 if row["recipe"] or name == BASE else 1]


def draw(found: dict, file: Path):
    "The rates of all that decode, against the limit"
    rates = {name: row["rates"] for name, row in found["rows"].items() if name != PACKED}
    names = sorted(rates, key=lambda name: median(rates[name]))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9, 1.3 + 0.25 * len(names)))
        for name, of in found["limits"].items():
            axes.axvline(median(of), color="0.6", linestyle=":")
            above = {"xycoords": axes.get_xaxis_transform(), "ha": "center", "fontsize": 8, "color": "0.4"}
            axes.annotate(name, (median(of), 1.005), **above)
        for name in names:
            colour = KINDS[kind_of(name, found["rows"][name])]
            axes.plot([min(rates[name]), max(rates[name])], [name, name], color=colour, lw=1)
            axes.plot(median(rates[name]), name, "o", color=colour)
            place = {"xytext": (7, 4), "textcoords": "offset points", "fontsize": 8}
            axes.annotate(number(float(f"{median(rates[name]):.3g}")), (median(rates[name]), name), **place)
        axes.set(xlabel=f"images/s (dotted: {found['processes']} processes that do nothing but decode)")
        axes.set_xlim(left=0)
        axes.set_title(title(found), x=-0.45, pad=18)
        axes.grid(axis="y", color="0.9")
        marks = [Line2D([], [], color=colour, marker="o", lw=0, label=kind) for kind, colour in KINDS.items()]
        axes.legend(handles=marks, loc="lower right", fontsize=8)
        figure.savefig(file)
        plt.close(figure)


def title(found: dict) -> str:
    rows = found["rows"]
    ours = max((name for name in (IN_DATALOADER, IN_PREFETCH) if name in rows), key=rate_of(rows))
    share = 100 * ratios(rows[ours]["rates"], found["limits"][OUR_WAY])
    times = ratios(rows[ours]["rates"], rows[BASE]["rates"])
    return f"{ours} makes {number(times, 2)} × the images of the usual class, {share:.0f} % of the limit"


def rate_of(rows: dict):
    return lambda name: median(rows[name]["rates"])


if __name__ == "__main__":
    main()
