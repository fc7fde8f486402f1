"""What it costs to measure: a loop with a Meter, and one that is recorded, against the bare loop.

    PYTHONPATH=. python3 benchmarks/overhead.py      # about 3 minutes; rewrites results/overhead.json

Epochs of the digits (256 bytes a sample, 64 a batch) and of the photographs (150 KB, 32 a batch), with 0 and
2 workers and no step, so that nothing hides the cost: fifteen alternating rounds. What is written is the
median over the rounds of the ratio to the bare loop of the same round.
"""

import json
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from torch.utils.data import DataLoader

from feedgpu import Meter
from feedgpu.measure import machine
from feedgpu.measure.page_cache import files_below, warm
from feedgpu.measure.timeline import record
from feedgpu.prepare import digits, photographs, write
from my_classes import Dataset

ROUNDS = 15


def bare(loader):
    for _ in loader:
        pass


def metered(loader):
    for _ in Meter()(loader):
        pass


def main():
    torch.set_num_threads(1)
    rows = []
    for name, source, batch_size in (
        ("digits", digits(), 64),
        ("photographs", photographs(400, (224, 224)), 32),
    ):
        with tempfile.TemporaryDirectory() as folder:
            partition, labels = write(source, folder)
            for workers in (0, 2):
                loader = DataLoader(
                    Dataset(partition["train"], labels, folder), batch_size=batch_size, num_workers=workers
                )
                warm(files_below(folder))
                ratios = {"Meter": [], "record": []}
                for _ in range(ROUNDS):
                    base = seconds(bare, loader)
                    ratios["Meter"].append(seconds(metered, loader) / base)
                    ratios["record"].append(seconds(record, loader) / base)
                row = {"samples": name, "workers": workers} | {k: median(v) for k, v in ratios.items()}
                print(row, flush=True)
                rows.append(row)
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "rows": rows}
    file = Path(__file__).parent / "results" / "overhead.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def seconds(run, loader) -> float:
    start = time.perf_counter()
    run(loader)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
