"""What it would cost to look at the checksums of a .pt file whenever it is read.

    PYTHONPATH=. python3 benchmarks/checksums.py      # seconds; rewrites results/checksums.json

Of samples of several sizes, the median microseconds of reading and of looking, alternating 2,000 times.
"""

import json
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from feedgpu import read_sample
from feedgpu.measure import machine
from feedgpu.prepare.checking import damage_in

RESULTS = Path(__file__).parent / "results" / "checksums.json"


def microseconds(work, file):
    start = time.perf_counter()
    work(file)
    return (time.perf_counter() - start) * 1e6


def main():
    torch.set_num_threads(1)
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "sizes": []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "id.pt")
        for shape in ((1, 8, 8), (3, 64, 64), (3, 224, 224)):
            torch.save(torch.zeros(shape), file)
            times = [(microseconds(read_sample, file), microseconds(damage_in, file)) for _ in range(2000)]
            read, look = map(median, zip(*times, strict=True))
            found["sizes"].append({"bytes": file.stat().st_size, "read": read, "look": look})
            print(f"{file.stat().st_size:8,} bytes: read {read:4.0f} µs, look {look:4.0f} µs")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
