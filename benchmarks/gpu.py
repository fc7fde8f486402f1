"""Feeding a GPU: which share of the time it waits, by network and by loader. Needs torch and numpy alone.

    python3 benchmarks/gpu.py             # a few minutes on a CUDA device; rewrites results/gpu.json
    python3 benchmarks/gpu.py --quick     # tiny, on whatever there is; prints and writes nothing

W1: 20,000 samples float32 1×28×28. W2: 5,000 samples uint8 3×224×224. Batches of 64, shuffled, trained in
bf16 with a small network and with one of ResNet-18's layers. Loaders: the article's, with its best number of
workers, which stay, and pinned memory; DataLoader over PackedDataset in the same way, and as simply as it can
be used; PrefetchLoader; and indices alone, where the data lives on the device.

In alternating rounds, at most 300 steps each, after an epoch that is not measured. data stall: 1 - (the same
steps behind batches that lie on the device) / (the real ones), from the loop's beginning to the last step's
end, by CUDA events. gaps: share of the time between the end of a step and the beginning of the next one, by
events; copies of batches to the device are in the gaps. waiting: share of the host's time in next(), for
comparison: the host runs ahead.

Bus: bytes/s of a copy of 256 MB to the device, from pageable and from pinned memory, and of the copies that
PrefetchLoader makes of W2, by events on its own stream.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy
import torch
from torch import nn
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from feedgpu import PackedDataset, PrefetchLoader, available_cpus
from my_classes import Dataset

RESULTS = Path(__file__).parent / "results" / "gpu.json"
FILES = ("samples.npy", "labels.npy", "IDs.npy")  # of a pack
BATCH = 64
WORKLOADS = {"W1": (20_000, (1, 28, 28), torch.float32), "W2": (5_000, (3, 224, 224), torch.uint8)}
QUICK = {"W1": (300, (1, 28, 28), torch.float32), "W2": (130, (3, 32, 32), torch.uint8)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny, prints and writes nothing")
    quick = parser.parse_args().quick
    if not (torch.cuda.is_available() or quick):
        parser.exit(1, "This needs a CUDA device; --quick tries the benchmark itself without one.\n")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {"machine": machine(device), "date": time.strftime("%Y-%m-%d"), "bus": {}, "training": []}
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        for key, (samples, shape, dtype) in (QUICK if quick else WORKLOADS).items():
            write(Path(folder, key), samples, shape, dtype)
            found["training"] += training(key, Path(folder, key), device, quick)
        found["bus"] = bus(Path(folder, "W2"), device, (1 if quick else 256) * 10**6)
    if quick:
        print(json.dumps(found, indent=1))
    else:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        for row in found["training"]:
            print(*row.values(), sep="  ")


def machine(device) -> dict[str, str]:
    known = {"gpu": "none", "torch": torch.__version__, "CPUs": str(available_cpus())}
    if device.type == "cuda":
        known["gpu"] = torch.cuda.get_device_name(device)
        ask = ["nvidia-smi", "--query-gpu=driver_version,pcie.link.gen.max,pcie.link.width.max"]
        with suppress(OSError):
            said = subprocess.run([*ask, "--format=csv,noheader"], capture_output=True, text=True).stdout
            known["driver, PCIe generation and lanes"] = said.strip()
    return known


def write(root: Path, samples: int, shape: tuple, dtype: torch.dtype):
    """A dataset of noise in the article's layout, and its pack. By hand, for feedgpu.prepare needs packages
    that a machine with a GPU may lack."""
    (root / "packed").mkdir(parents=True)
    X = torch.randint(0, 255, (samples, *shape), dtype=torch.uint8)
    X = X if dtype == torch.uint8 else X.to(dtype) / 255
    labels = {f"id-{i + 1}": i % 10 for i in range(samples)}
    for ID, x in zip(labels, X, strict=True):
        torch.save(x.clone(), root / f"{ID}.pt")
    packed = root / "packed"
    numpy.save(packed / "samples.npy", X.numpy())
    numpy.save(packed / "labels.npy", numpy.array(list(labels.values())))
    numpy.save(packed / "IDs.npy", numpy.array([ID.encode() for ID in labels]))
    sizes = {name: (packed / name).stat().st_size for name in FILES}
    kind = str(dtype).removeprefix("torch.")
    manifest = {"version": 1, "samples": samples, "dtype": kind, "digest": "of noise"}
    (packed / "manifest.json").write_text(json.dumps(manifest | {"shape": list(shape), "files": sizes}))
    (root / "labels.json").write_text(json.dumps(labels))


class Block(nn.Module):
    "Two convolutions and the way around them (He et al., Deep Residual Learning, 2015)"

    def __init__(self, before: int, filters: int, stride: int):
        super().__init__()
        self.main = nn.Sequential(
            *(nn.Conv2d(before, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()),
            *(nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters)),
        )
        self.around = nn.Identity()
        if stride != 1 or before != filters:
            self.around = nn.Sequential(nn.Conv2d(before, filters, 1, stride), nn.BatchNorm2d(filters))

    def forward(self, X):
        return torch.relu(self.main(X) + self.around(X))


def small(channels: int) -> nn.Module:
    layers = []
    for filters, stride in ((32, 2), (64, 2), (128, 2)):
        layers += [nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def resnet_18(channels: int) -> nn.Module:
    layers = [nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers += [nn.MaxPool2d(3, 2, 1)]
    before = 64
    for filters in (64, 128, 256, 512):
        layers += [Block(before, filters, 1 if filters == 64 else 2), Block(filters, filters, 1)]
        before = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


NETWORKS = {"small": small, "ResNet-18's layers": resnet_18}


def trained_by(network: nn.Module, device):
    "A step: trains by one batch, in bf16, and returns nothing, so that the host need not wait"
    network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step(X, y):
        X = X.float() / 255 if X.dtype == torch.uint8 else X
        # Without a GPU in float32: many a CPU takes minutes for convolutions in bf16
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = nn.functional.cross_entropy(network(X.to(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


class Clock:
    "Times on the device, by CUDA events; without one, the host's"

    def __init__(self, device):
        self.device = device

    def now(self):
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start, end) -> float:
        if self.device.type != "cuda":
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1e3


def epoch(batches, step, clock: Clock, most: int) -> dict[str, float]:
    "Seconds of an epoch of at most so many steps, of the gaps between them, of the host's waiting; and steps"
    marks, waited = [], 0.0
    begin = clock.now()
    iterator = iter(batches)
    for _ in range(most):
        asked = time.perf_counter()
        batch = next(iterator, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        batch = [part.to(clock.device, non_blocking=True) for part in batch]
        start = clock.now()
        step(*batch)
        marks.append((start, clock.now()))
    seconds = clock.seconds(begin, marks[-1][1])
    before = [begin, *(end for _, end in marks)]
    gaps = sum(clock.seconds(end, start) for end, (start, _) in zip(before, marks, strict=False))
    return {"seconds": seconds, "gaps": gaps, "waited": waited, "steps": len(marks)}


class Resident:
    "Batches of a dataset that lives on the device: indices are all that is sent"

    def __init__(self, dataset: PackedDataset, device):
        rows = dataset.__getitems__(range(len(dataset)))
        self.X, self.y, self.device = rows.X.to(device), rows.y.to(device), device

    def __iter__(self):
        for indices in torch.randperm(len(self.X)).split(BATCH)[: len(self.X) // BATCH]:
            indices = indices.to(self.device, non_blocking=True)
            yield self.X.index_select(0, indices), self.y[indices]


def loaders(root: Path, device, quick: bool) -> dict:
    "{what it is: loader}; the article's with the number of workers that delivers most"
    labels = json.loads((root / "labels.json").read_text())
    files, packed = Dataset(list(labels), labels, root), PackedDataset(list(labels), labels, root)
    how = {"batch_size": BATCH, "shuffle": True, "drop_last": True}

    def with_workers(dataset) -> tuple[int, DataLoader]:
        "The number of workers that delivers most, once the first batch is there, and a loader with it"
        found = {}
        for workers in (0, 1) if quick else sorted({0, 2, 4, 8, available_cpus()}):
            pinned = {"pin_memory": device.type == "cuda", "persistent_workers": workers > 0}
            loader, began, taken = DataLoader(dataset, num_workers=workers, **pinned, **how), 0.0, 0
            for _, y in islice(loader, 100):
                began = began or time.perf_counter()
                taken, now = taken + len(y), time.perf_counter()
            found[workers] = taken / max(now - began, 1e-9), loader
        best = max(found, key=lambda workers: found[workers][0])
        return best, found[best][1]

    best, article = with_workers(files)
    best_packed, gathered = with_workers(packed)
    return {
        f"the article's, {best} workers": article,
        f"PackedDataset, {best_packed} workers": gathered,
        "PackedDataset, plainly": DataLoader(packed, **how),
        "PrefetchLoader": PrefetchLoader(packed, device=device, **how),
        "data on the device": Resident(packed, device),
    }


def training(workload: str, root: Path, device, quick: bool) -> list[dict]:
    clock, most, rows = Clock(device), 2 if quick else 300, []
    fed = loaders(root, device, quick)
    for name, network in NETWORKS.items():
        torch.manual_seed(0)
        held = [[part.to(device) for part in batch] for batch in islice(fed["PackedDataset, plainly"], 8)]
        step = trained_by(network(held[0][0].shape[1]), device)
        epoch(cycle(held), step, clock, 1 if quick else 30)  # warms up
        for batches in fed.values():
            epoch(batches, step, clock, most)
        found = {loader: [] for loader in fed}
        for _ in range(1 if quick else 3):
            for loader, batches in fed.items():
                real = epoch(batches, step, clock, most)
                replayed = epoch(cycle(held), step, clock, real["steps"])
                found[loader].append(real | {"replayed": replayed["seconds"]})
        for loader, runs in found.items():
            rows.append({"workload": workload, "network": name, "loader": loader} | summary(runs))
            print(*rows[-1].values(), sep="  ", file=sys.stderr)
    return rows


def summary(runs: list[dict]) -> dict[str, float]:
    "Medians over the rounds"
    return {
        "samples/s": median(BATCH * run["steps"] / run["seconds"] for run in runs),
        "stall": median(max(0.0, 1 - run["replayed"] / run["seconds"]) for run in runs),
        "gaps": median(run["gaps"] / run["seconds"] for run in runs),
        "waiting": median(run["waited"] / run["seconds"] for run in runs),
    }


class Timed(PrefetchLoader):
    "A PrefetchLoader that notes how long its copies take on their stream"

    def _copied(self, X):
        if not isinstance(X, torch.Tensor) or X.ndim < 2:
            return super()._copied(X)
        clock = Clock(self.device)
        pinned = X.pin_memory()
        torch.cuda._sleep(2_000_000)  # until all of the following is in the queue: then it runs in one go
        start = clock.now()
        X = pinned.to(self.device, non_blocking=True)
        self.copies.append((X.nbytes, start, clock.now()))
        return X


def bus(root: Path, device, size: int) -> dict[str, float]:
    "Bytes/s to the device"
    if device.type != "cuda":
        return {}
    clock, there = Clock(device), torch.empty(size, dtype=torch.uint8, device=device)

    def rate(X) -> float:
        seconds = []
        for _ in range(12):
            start = clock.now()
            there.copy_(X, non_blocking=True)
            seconds.append(clock.seconds(start, clock.now()))
        return size / median(seconds[2:])

    X = torch.zeros(size, dtype=torch.uint8)
    found = {"pageable": rate(X), "pinned": rate(X.pin_memory())}
    labels = json.loads((root / "labels.json").read_text())
    loader = Timed(PackedDataset(list(labels), labels, root), BATCH, shuffle=True, device=device)
    for _ in range(3):
        loader.copies = []
        for X, _ in loader:
            X.sum()
        torch.cuda.synchronize()
    rates = [nbytes / clock.seconds(start, end) for nbytes, start, end in loader.copies]
    return found | {"PrefetchLoader's copies": median(rates)}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "This DataLoader will create")
    main()
