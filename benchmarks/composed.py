"""What a combination costs beside its parts, and what memory a dataset takes as it grows.

    PYTHONPATH=. python3 benchmarks/composed.py           # 6 minutes; rewrites results/composed.json and .md
    PYTHONPATH=. python3 benchmarks/composed.py --quick   # 20 s, writes nothing: does all of it run?

Whole epochs with an empty loop body, in alternating rounds, one thread of torch; each ratio is the median of
the rounds' own ratios. Visits: a million of them from an EpochSampler, one after the other as DataLoader
takes them, and as PrefetchLoader takes them for a pack; beside plain numbers from torch.randperm. Packs: one
of 20,000 samples float32 1×28×28, beside the same samples in two. Images: 200 JPEGs of 500×375, made 224×224,
and the same with a change that costs nothing. Waiting: a dataset that sleeps 5 ms for each sample, beside
32 / 5 ms.

Memory: packs of 10⁵, 10⁶ and 10⁷ samples of 16 bytes with IDs like "id-1234567", each in a process of its own
that goes through an epoch of PrefetchLoader in random order. What is private or shared above the same process
before, without mapped files, which the system can take back; at most while it runs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy
import torch
from torch.utils.data import ConcatDataset, DataLoader

from feedgpu import Augmented, ConcatPacked, EpochSampler, PackedDataset, PrefetchLoader, load_notation
from feedgpu.images import ImageDataset
from feedgpu.measure import machine
from feedgpu.measure.footprint import footprint
from feedgpu.measure.words import number
from feedgpu.prepare import pack_samples, photographs, write
from feedgpu.prepare.any_source import pack_from

RESULTS = Path(__file__).parent / "results" / "composed.json"
Works = dict[str, Callable[[], object]]


def through(batches) -> None:
    deque(batches, maxlen=0)


def visits(root: Path, quick: bool) -> Works:
    size = 10_000 if quick else 1_000_000
    sampler = EpochSampler(size)
    return {
        "torch.randperm, plain numbers": lambda: through(torch.randperm(size).tolist()),
        "EpochSampler in DataLoader": lambda: through(sampler),
        "EpochSampler in PrefetchLoader over a pack": lambda: sampler.order(),
    }


def packs(root: Path, quick: bool) -> Works:
    rows = 2_000 if quick else 20_000
    X = torch.rand(rows, 1, 28, 28)
    whole = pack_of(X, root / "whole")
    halves = [pack_of(part, root / f"half-{i}") for i, part in enumerate(X.chunk(2))]
    sets = {
        "one pack": whole,
        "ConcatPacked of two": ConcatPacked(halves),
        "torch's ConcatDataset of two": ConcatDataset(halves),
    }
    return {
        f"{name}, {kind.__name__}": lambda kind=kind, one=one: through(kind(one, 64, shuffle=True))
        for kind in (PrefetchLoader, DataLoader)
        for name, one in sets.items()
    }


def pack_of(X: torch.Tensor, root: Path) -> PackedDataset:
    samples = [(f"id-{i}", x, i % 10) for i, x in enumerate(X)]
    partition, labels = pack_samples({"train": samples, "validation": [("v", X[0], 0)]}, root)
    return PackedDataset(partition["train"], labels, root)


def images(root: Path, quick: bool) -> Works:
    partition, labels = write(photographs(20 if quick else 250, (375, 500), kept_as="jpeg"), root / "jpeg")
    IDs = partition["train"]
    plain = ImageDataset(IDs, labels, root / "jpeg", 224, seed=0)
    sets = {
        "ImageDataset": plain,
        "Augmented(ImageDataset)": Augmented(plain, IDs, as_it_is),
        "ImageDataset(augment=…)": ImageDataset(IDs, labels, root / "jpeg", 224, seed=0, augment=as_it_is),
    }
    return {
        name: lambda one=one: through(PrefetchLoader(one, 32, sampler=EpochSampler(len(IDs))))
        for name, one in sets.items()
    }


def as_it_is(X, random):
    return X


class Waits(torch.utils.data.Dataset):
    def __init__(self, size: int):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        time.sleep(0.005)
        return torch.zeros(64), index


def waiting(root: Path, quick: bool) -> Works:
    size = 640 if quick else 6_400
    return {
        "32 / 5 ms": lambda: time.sleep(size * 0.005 / 32),
        "32 threads": lambda: through(PrefetchLoader(Waits(size), 64, shuffle=True, threads=32)),
    }


PARTS = {"visits": visits, "packs": packs, "images": images, "waiting": waiting}
GOALS = {  # of the ratio to the first of its part: seconds for visits
    "EpochSampler in PrefetchLoader over a pack": "≤ 0.1 s",
    "ConcatPacked of two, PrefetchLoader": "≥ 0.9",
    "Augmented(ImageDataset)": "≥ 0.95",
    "32 threads": "≥ 0.8",
}


def remembered(root: Path, batch_size: int) -> None:
    "In a process of its own: prints the bytes that the dataset, and an epoch, take at most"
    through(PrefetchLoader([torch.zeros(2)] * 9, 3, shuffle=True))  # what is loaded once
    before = footprint().without_files
    partition, labels = load_notation(root, suffix=None)
    training_set = PackedDataset(partition["train"], labels, root)
    opened = most = footprint().without_files - before
    loader = PrefetchLoader(training_set, batch_size, shuffle=True)
    for batch, _ in enumerate(loader):
        if batch % 500 == 1:
            most = max(most, footprint().without_files - before)
    print(json.dumps({"samples": len(training_set), "opened": opened, "epoch": most}))


def memory(quick: bool) -> list[dict]:
    found = []
    for rows in (1_000, 10_000) if quick else (100_000, 1_000_000, 10_000_000):
        with tempfile.TemporaryDirectory() as folder:
            numpy.save(f"{folder}/x.npy", numpy.zeros((rows, 4), numpy.float32))
            numpy.save(f"{folder}/y.npy", numpy.arange(rows) % 10)
            pack_from(Path(folder) / "x.npy", f"{folder}/data", y=f"{folder}/y.npy")
            command = [sys.executable, __file__, "--remembered", f"{folder}/data"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            on_disk = sum(file.stat().st_size for file in Path(f"{folder}/data").rglob("*.npy"))
            one = json.loads(done.stdout)
            found.append(one | {"rows": rows, "disk": on_disk - 16 * rows})
    return found


def measured(quick: bool, rounds: int) -> dict:
    found: dict = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "parts": {}}
    for part, works_of in PARTS.items():
        with tempfile.TemporaryDirectory() as folder:
            works = works_of(Path(folder), quick)
            took = {name: [] for name in works}
            for _ in range(rounds + 1):
                for name, work in works.items():
                    began = time.perf_counter()
                    work()
                    took[name].append(time.perf_counter() - began)
        found["parts"][part] = {name: seconds[1:] for name, seconds in took.items()}
    return found | {"memory": memory(quick)}


def table(found: dict) -> str:
    lines = ["# What a combination costs", ""]
    lines += [f"Written by benchmarks/composed.py, which says how. {found['date']}; {described(found)}.", ""]
    lines += ["| | seconds (least–greatest) | rate beside the first | goal |", "|---|---|---|---|"]
    for took in found["parts"].values():
        first = list(took.values())[0]
        for name, seconds in took.items():
            ratio = median(a / b for a, b in zip(first, seconds, strict=True))
            spread = f"{number(median(seconds))} ({number(min(seconds))}–{number(max(seconds))})"
            lines.append(f"| {name} | {spread} | {ratio:.2f} | {GOALS.get(name, '')} |")
    lines += [
        "",
        "## Memory",
        "",
        "| samples | MB, opened | MB, in an epoch | bytes a sample | on the disk |",
    ]
    lines += ["|---|---|---|---|---|"]
    for one in found["memory"]:
        rows = one["samples"]
        each_takes = f"{one['epoch'] / rows:,.0f} | {one['disk'] / one['rows']:,.0f}"
        lines.append(f"| {rows:,} | {one['opened'] / 1e6:,.1f} | {one['epoch'] / 1e6:,.1f} | {each_takes} |")
    said = "Bytes a sample: in memory, in an epoch; on the disk, beside the values: ID, class and partition."
    return "\n".join([*lines, "", said, ""])


def described(found: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in found["machine"].items())


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--remembered", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    if chosen.remembered:
        return remembered(chosen.remembered, 1024)
    found = measured(chosen.quick, 1 if chosen.quick else 7)
    print(table(found))
    if not chosen.quick:
        RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        RESULTS.with_suffix(".md").write_text(table(found))


if __name__ == "__main__":
    main()
