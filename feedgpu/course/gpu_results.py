"""What a real GPU has shown: the results of benchmarks/gpu.py, as chapter 10 prints them."""

import json
from pathlib import Path

from ..measure.words import number, percent
from .opening import course_folder


def gpu_results(file: Path | None = None) -> None:
    "Prints what benchmarks/gpu.py has measured on a GPU, or that it has not"
    folder = course_folder()
    if file is None and folder:
        file = folder / "benchmarks" / "results" / "gpu.json"
    if file is None or not file.exists():
        print(
            "No results are stored yet: python3 benchmarks/gpu.py measures, on a machine with a CUDA device."
        )
        return
    found = json.loads(file.read_text(encoding="utf-8"))
    machine, bus = found["machine"], found["bus"]
    print(f"{machine['gpu']}, torch {machine['torch']}, {found['date']}")
    for how, rate in bus.items():
        print(f"to the device, {how}: {rate / 1e9:.1f} GB/s")
    print(f"{'network, samples':28} {'fed by':36} {'samples/s':>10} {'data stall':>11}")
    for row in found["training"]:
        what = f"{row['network']}, {row['workload']}"
        rate = number(row["samples/s"])
        print(f"{what:28} {row['loader']:36} {rate:>10} {percent(row['stall']):>11}")
