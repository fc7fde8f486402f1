"""How near the two predictions of feedgpu.measure come, over a grid of loaders: formula and simulation.

    PYTHONPATH=. python3 benchmarks/predict_grid.py    # about 12 minutes; rewrites results/predict_grid.*
    … --quick    # a tenth of the grid, writes nothing
    … --again    # measures nothing: table and picture from the stored points

0 to 4 workers x batches of 8, 32 and 64 x steps of 0, 2, 8 and 20 ms on a stand-in device x samples that
wait, compute or are read from files. In each of three rounds the parts are calibrated, then every number of
workers is tried for one epoch of 512 samples, its start-up included. Medians of the rounds are compared.
"""

import argparse
import json
import tempfile
import time
import warnings
from itertools import product
from pathlib import Path
from statistics import median, quantiles

import matplotlib.pyplot as plt
import torch
from torch.utils.data import DataLoader

from feedgpu.course.pictures.style import COLOURS, STYLE
from feedgpu.measure import machine, run_epoch
from feedgpu.measure.page_cache import files_below, warm
from feedgpu.measure.parts import measure_parts
from feedgpu.measure.simulation import rate, simulate
from feedgpu.measure.stand_in import Device
from feedgpu.measure.workloads import Costly
from feedgpu.prepare import photographs, write
from my_classes import Dataset

SAMPLES, ROUNDS, WORKERS = 512, 3, (0, 1, 2, 3, 4)
BATCH_SIZES, STEPS = (8, 32, 64), (0.0, 0.002, 0.008, 0.020)
RESULTS = Path(__file__).parent / "results"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the grid, writes nothing")
    parser.add_argument("--again", action="store_true", help="table and picture of the stored points")
    arguments = parser.parse_args()
    quick = arguments.quick
    if arguments.again:
        return report(json.loads((RESULTS / "predict_grid.json").read_text()))
    warnings.filterwarnings("ignore", "This DataLoader will create")
    torch.set_num_threads(1)
    points, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        partition, labels = write(photographs(SAMPLES * 5 // 4 + 4, (224, 224)), folder)
        datasets = {
            "waiting": Costly(SAMPLES, waiting=0.002, shape=(3, 64, 64)),
            "computing": Costly(SAMPLES, computing=0.001, shape=(3, 64, 64)),
            "reading": Dataset(partition["train"][:SAMPLES], labels, folder),
        }
        grid = list(product(datasets, BATCH_SIZES, STEPS))
        for kind, batch_size, step in grid[::10] if quick else grid:
            if kind == "reading":
                warm(files_below(folder))
            points += group(kind, datasets[kind], batch_size, step)
    print(f"{time.perf_counter() - began:.0f} s")
    if quick:
        return print(summary(points))
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "points": points}
    (RESULTS / "predict_grid.json").write_text(json.dumps(found, indent=1) + "\n")
    report(found)


def report(found: dict):
    "Prints the table, and writes it and the picture beside the points"
    table = summary(found["points"])
    print(table)
    draw(found["points"])
    head = ", ".join(f"{what} {value}" for what, value in found["machine"].items())
    (RESULTS / "predict_grid.md").write_text(
        "# The predictions, put to the test\n\nWritten by `python3 benchmarks/predict_grid.py`, which says "
        f"what was measured. {found['date']}; {head}.\n\n{table}\n\n![](predict_grid.png)\n"
    )


def group(kind: str, dataset, batch_size: int, step: float) -> list[dict]:
    "One loader and step, with every number of workers"
    loader = DataLoader(dataset, batch_size=batch_size)
    found = {workers: {"measured": [], "simulation": [], "formula": []} for workers in WORKERS}
    for _ in range(ROUNDS):
        parts = measure_parts(loader)
        for workers, rates in found.items():
            meter = run_epoch(DataLoader(dataset, batch_size=batch_size, num_workers=workers), Device(step))
            simulated = simulate(parts, workers, SAMPLES // batch_size, step)
            rates["measured"].append(SAMPLES / meter.seconds)
            rates["simulation"].append(simulated.rate)
            rates["formula"].append(rate(parts, workers, step))
    here = {"samples": kind, "batch_size": batch_size, "step": step}
    points = [here | {"workers": workers} | rates for workers, rates in found.items()]
    errors = " ".join(f"{100 * error(point, 'simulation'):+4.0f}%" for point in points)
    print(f"{kind:9} batch {batch_size:2} step {1e3 * step:4.0f} ms  simulation off by {errors}", flush=True)
    return points


def draw(points: list[dict]):
    "The predicted rates against the measured ones, as results/predict_grid.png"
    with plt.rc_context(STYLE):
        figure, places = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
        rates = [median(point[what]) for point in points for what in ("measured", "simulation", "formula")]
        ends = [min(rates) / 1.3, max(rates) * 1.3]
        for axes, prediction in zip(places, ("formula", "simulation"), strict=True):
            axes.fill_between(ends, [x / 1.2 for x in ends], [x * 1.2 for x in ends], color="0.9", lw=0)
            for kind in ("waiting", "computing", "reading"):
                of = [point for point in points if point["samples"] == kind]
                x, y = ([median(point[what]) for point in of] for what in ("measured", prediction))
                axes.plot(x, y, "o", ms=4, alpha=0.7, color=COLOURS[kind], label=f"samples of {kind}")
            off = 100 * median(abs(error(point, prediction)) for point in points)
            axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured samples/s")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks([250, 500, 1000, 2000, 4000], ["250", "500", "1,000", "2,000", "4,000"])
                axis.set_ticks([], minor=True)
            axes.set_title(f"The {prediction} is off by {off:.0f} % (median)")
        places[0].set_ylabel("predicted samples/s (grey: within 20 %)")
        places[0].legend(loc="upper left")
        figure.savefig(RESULTS / "predict_grid.png")


def error(point: dict, prediction: str) -> float:
    "Relative error of the predicted rate"
    return median(point[prediction]) / median(point["measured"]) - 1


def spread(point: dict) -> float:
    "Of the repeats: from the least to the greatest, relative to their median"
    return (max(point["measured"]) - min(point["measured"])) / median(point["measured"])


def summary(points: list[dict]) -> str:
    "The errors, and what choosing the number of workers by each prediction would have cost, as a table"
    lines = ["| samples | prediction | median error | 90th percentile | median regret | worst regret |"]
    lines += ["|---|---|---|---|---|---|"]
    for kind in (*dict.fromkeys(point["samples"] for point in points), "all"):
        of = [point for point in points if kind in ("all", point["samples"])]
        for prediction in ("formula", "simulation"):
            errors = sorted(abs(error(point, prediction)) for point in of)
            lost = regrets(of, prediction)
            numbers = (median(errors), quantiles(errors, n=10)[-1], median(lost), max(lost))
            lines += [f"| {kind} | {prediction} | " + " | ".join(f"{100 * x:.1f} %" for x in numbers) + " |"]
    beyond = sum(abs(error(point, "simulation")) > max(0.2, 2 * spread(point)) for point in points)
    spreads = sorted(spread(point) for point in points)
    lines += [
        "",
        f"{len(points)} points; the repeats of a point spread over {100 * median(spreads):.0f} % (median). "
        f"The simulation is off by more than 20 % and by more than twice that spread at {beyond} of them.",
        "Regret: the share of the best measured rate that is lost by the number of workers chosen.",
    ]
    return "\n".join(lines)


def regrets(points: list[dict], prediction: str) -> list[float]:
    "For each loader and step, by choosing the fewest workers within 2 % of the best predicted rate"
    groups = {}
    for point in points:
        groups.setdefault((point["samples"], point["batch_size"], point["step"]), []).append(point)
    lost = []
    for of in groups.values():
        best = max(median(point[prediction]) for point in of)
        chosen = next(point for point in of if median(point[prediction]) >= 0.98 * best)
        lost.append(1 - median(chosen["measured"]) / max(median(point["measured"]) for point in of))
    return lost


if __name__ == "__main__":
    main()
