"""Our loaders beside the peers: the same samples, each library in its own process, by its own best path.

    make bench                                    # sets up what is needed, then runs:
    build/bench/bin/python benchmarks/peers.py    # about 20 minutes; rewrites results/peers.*
    ... --quick            # a few samples, prints the tables and writes nothing
    ... --only LMDB h5py   # these beside our own; writes nothing
    ... --large            # ours alone, W1 with 4 GB; rewrites results/peers_large.*
    ... --again            # measures nothing: tables and picture from the stored numbers

W1: 20,000 samples float32 1×28×28 (3 KB). W2: 5,000 samples uint8 3×224×224 (150 KB). Batches of 64,
shuffled. Every peer is checked to deliver each sample once with its bytes and its label, and tried with 0,
1, 2 and 4 workers (or threads); the fastest number is kept. Then, in alternating rounds, samples/s of whole
epochs with an empty loop body, their start included, all files in the page cache; and in each round what one
thread can gather from the mapped file, `index_select` into one buffer in a plain loop: the gather limit.

Stall: steps of 0.5, 2 and 8 ms that read every byte of the batch first and then sleep, hold Python's lock or
keep all cores busy; 1 - (the same behind batches from memory) / (the real ones), at most 60 batches or a
quarter of a second from the first one on, the median of three rounds. Cold: 20 batches of a new process whose
files were taken out of the page cache (looked up with mincore), with the tuned number of workers or the
greatest, whichever is faster. Memory: private and shared, not that of mapped files, above a process that has
imported torch and read partition and labels; the libraries' own included. Lines: of the class in
benchmarks/peer_loaders.py, without what converts.
"""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy
import torch
from matplotlib.lines import Line2D
from peer_loaders import PEERS
from peer_process import STEPS, source_of

from feedgpu.course.pictures.style import COLOURS, OTHERS, STYLE
from feedgpu.measure import machine, number
from feedgpu.measure.page_cache import warm
from feedgpu.prepare import synthetic, write
from feedgpu.prepare.commit import sole_writer
from feedgpu.prepare.layout import write_json
from feedgpu.prepare.writing import HEADER, digest, header

BASE, ALONE, PACKED_ROW, OURS = list(PEERS)[:4]
RESULTS = Path(__file__).parent / "results"
FILES = ("samples.npy", "labels.npy", "IDs.npy")  # of a pack
STREAMING = Path(__file__).parent.parent / "build" / "bench-streaming" / "bin" / "python"
LENGTHS = (0.0005, 0.002, 0.008)
PATIENCE = 120  # seconds for one command


@dataclass(frozen=True)
class Workload:
    samples: int
    shape: tuple[int, int, int]
    dtype: str
    said: str


WORKLOADS = {
    "W1": Workload(20_000, (1, 28, 28), "float32", "20,000 samples float32 1×28×28"),
    "W2": Workload(5_000, (3, 224, 224), "uint8", "5,000 samples uint8 3×224×224"),
}
QUICK = {
    "W1": Workload(1_500, (1, 28, 28), "float32", "1,500 samples float32 1×28×28"),
    "W2": Workload(200, (3, 224, 224), "uint8", "200 samples uint8 3×224×224"),
}
LARGE = Workload(1_300_000, (1, 28, 28), "float32", "1,300,000 samples float32 1×28×28 (4 GB)")


@dataclass(frozen=True)
class Effort:
    "How long is measured: rounds, and seconds of one measurement"

    rounds: int = 5
    tuning: float = 0.5
    least: float = 0.3
    most: float = 2.0
    stalled: float = 0.25
    stall_rounds: int = 3
    cold_rounds: int = 2


FULL, LITTLE = (
    Effort(),
    Effort(rounds=2, tuning=0.05, least=0.05, most=0.5, stalled=0.05, stall_rounds=1, cold_rounds=1),
)


class Failed(Exception):
    "Why a peer could not be measured, in a sentence"


class Child:
    "The process of one peer, which ends with this one"

    def __init__(self, name: str, folder: Path, peers: dict = PEERS, script: str = "peer_process.py"):
        self.name, self.peer = name, peers[name]
        self.log = folder / f"{self.peer.__name__}.log"
        python = STREAMING if self.peer.distribution == "mosaicml-streaming" else Path(sys.executable)
        if not python.exists():
            raise Failed(f"there is no {python}: make bench sets it up")
        roots = f"{Path(__file__).parent.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [python, Path(__file__).parent / script, name, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | quiet | {"PYTHONPATH": roots, "PYTHONWARNINGS": "ignore"},
                start_new_session=True,  # so that it can be ended with its workers
            )

    def receive(self, patience: float = PATIENCE):
        ready, _, _ = select.select([self.process.stdout], [], [], patience)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.end()
            said = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            what = "ended" if ready else f"did not answer for {patience} s"
            raise Failed(f"its process {what}: {said[0][:200]}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["value"]

    def tell(self, do: str, **arguments):
        try:
            self.process.stdin.write(json.dumps({"do": do} | arguments).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed("its process has ended") from None

    def ask(self, do: str, patience: float = PATIENCE, **arguments):
        self.tell(do, **arguments)
        return self.receive(patience)

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Field:
    "The peers that are measured together: who fails in one thing is left out from there on"

    def __init__(self, key: str, names: list[str], folder: Path, **of_child):
        self.key, self.began = key, time.perf_counter()
        self.children, self.absent = {}, {}
        for name in names:
            try:
                self.children[name] = Child(name, folder, **of_child)
            except Failed as error:
                self.absent[name] = str(error)
        self.rows = {name: {"rates": [], "cold": []} for name in self.children}

    def each(self, what: str, act: Callable[[str, Child, dict], None]):
        "Does something with each in turn"
        for name in list(self.children):
            try:
                act(name, self.children[name], self.rows[name])
            except Failed as error:
                print(f"{self.key} {name}: {what} failed: {error}", flush=True)
                self.absent[name] = f"{what}: {error}"
                self.children.pop(name).end()
        print(f"{self.key} {what}: {time.perf_counter() - self.began:.0f} s", flush=True)

    def convert(self, first: str):
        "`first` converts first, because what brings no format of its own reads its pack"
        order = [first, *(name for name in self.children if name != first)]
        self.children = {name: self.children[name] for name in order if name in self.children}
        made = {}

        def convert(name, child, row):
            kept = child.peer.kept
            if hasattr(child.peer, "convert") and kept not in made:
                made[kept] = child.ask("convert", patience=600)
            row["converted"] = made.get(kept, {"seconds": 0.0, "bytes": None})

        self.each("converting", convert)

    def measured(self, names: list[str]) -> dict[str, dict]:
        "{name: row} of those that did not fail"
        return {name: self.rows[name] for name in names if name in self.children}

    def end(self):
        for child in self.children.values():
            child.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few samples, writes nothing")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=PEERS, help="these and our own")
    parser.add_argument("--large", action="store_true", help="ours alone, with files of several GB")
    parser.add_argument("--again", action="store_true", help="tables and picture of the stored numbers")
    parser.add_argument("--folder", type=Path, help="where the datasets go (by default a temporary folder)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of `finally`, which ends the children
    if arguments.again:
        return report(json.loads((RESULTS / "peers.json").read_text()))
    names = [name for name in PEERS if not arguments.only or name in (BASE, ALONE, PACKED_ROW, OURS)]
    names += [name for name in arguments.only or () if name not in names]
    effort = LITTLE if arguments.quick else FULL
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="peers-") as folder:
        here = machine(folder)
        found = {"machine": here, "date": time.strftime("%Y-%m-%d"), "workloads": {}}
        if arguments.large:
            found["workloads"]["large"] = large(Path(folder), arguments.quick, effort)
        else:
            for key, workload in (QUICK if arguments.quick else WORKLOADS).items():
                found["workloads"][key] = measure(key, workload, Path(folder) / key, names, effort)
    print(f"{time.perf_counter() - began:.0f} s", flush=True)
    if arguments.quick or arguments.only:
        return print(tables(found))
    file = RESULTS / ("peers_large.json" if arguments.large else "peers.json")
    file.write_text(json.dumps(found, indent=1) + "\n")
    report(found, file)


def measure(key: str, workload: Workload, folder: Path, names: list[str], effort: Effort) -> dict:
    "All numbers of one workload: {name: row}, the gather limit of each round, and why who is absent"
    folder.mkdir()
    write(synthetic(workload.samples, workload.shape, workload.dtype), folder / "article")
    expected = source_of(folder / "article")
    field = Field(key, names, folder)
    each = field.each
    try:
        each("starting", lambda name, child, row: child.receive())
        each("describing", lambda name, child, row: row.update(child.ask("describe")))
        field.convert(PACKED_ROW)
        each("tuning", lambda name, child, row: row.update(workers=tune(child, effort)))
        each("checking", lambda name, child, row: check(child, row["workers"], expected))
        for _ in range(effort.cold_rounds):
            each("cold", lambda name, child, row: cold(child, row))
        each("memory", lambda name, child, row: row.update(memory=memory(child, row, effort)))
        limits = []
        for _ in range(effort.rounds):
            limits.append(limit(folder / "article" / "packed" / "samples.npy", effort.least))
            each("rates", lambda name, child, row: row["rates"].append(rate(child, row, effort)))
        each("first batch", lambda name, child, row: row.update(first=first(child, row)))
        each("stalls", lambda name, child, row: row.update(stalls=stalls(child, row, effort)))
        small = small_memory(workload, folder / "small", effort)
    finally:
        field.end()
    rows = field.measured(names)
    return {"said": workload.said, "limits": limits, "rows": rows, "absent": field.absent, "small": small}


def rate(child: Child, row: dict, effort: Effort) -> float:
    return child.ask("rate", workers=row["workers"], least=effort.least, most=effort.most)


def tune(child: Child, effort: Effort) -> int:
    "The number of workers with which it is fastest: the fewest within 2 % of that"
    if len(child.peer.workers) == 1:
        return child.peer.workers[0]
    found = child.ask("tune", rounds=2, most=effort.tuning)
    rates = {int(workers): median(values) for workers, values in found.items()}
    return next(workers for workers, rate in rates.items() if rate >= 0.98 * max(rates.values()))


def check(child: Child, workers: int, expected: dict):
    found = child.ask("check", workers=workers)
    for what in ("kinds", "samples"):
        if found[what] != expected[what]:
            raise Failed(
                f"it delivers {len(found['samples']):,} samples, {' and '.join(found['kinds'])}, and not "
                f"each of the {len(expected['samples']):,}, {' and '.join(expected['kinds'])}, once, with "
                "its bytes and label"
            )


def cold(child: Child, row: dict):
    "Adds a rate, or why there is none. In the first round it is found out how many workers are best."
    if child.peer.__name__ == "InMemory" or "not_cold" in row:
        return
    most = child.peer.workers[-1]
    tried = {row["cold_workers"]} if "cold_workers" in row else {row["workers"], most}
    try:
        found = {workers: child.ask("cold", workers=workers, batches=20) for workers in tried}
    except Failed as error:
        row["not_cold"] = str(error)
        return
    best = max(found, key=lambda workers: found[workers]["rate"])
    row["cold_workers"], row["resident"] = best, found[best]["resident"]
    row["cold"].append(found[best]["rate"])


def memory(child: Child, row: dict, effort: Effort) -> int:
    return child.ask("memory", workers=row["workers"], most=effort.most)


def first(child: Child, row: dict) -> float:
    return median(child.ask("first", workers=row["workers"], rounds=3))


def stalls(child: Child, row: dict, effort: Effort) -> dict[str, float]:
    "{'kind of step, seconds': share}"
    how = {"workers": row["workers"], "batches": 60, "most": effort.stalled, "rounds": effort.stall_rounds}
    return {
        f"{kind}, {seconds}": child.ask("stall", kind=kind, seconds=seconds, **how)
        for kind, seconds in product(STEPS, LENGTHS)
    }


def limit(file: Path, least: float) -> float:
    "Samples/s that this thread gathers from the mapped file, whole epochs of shuffled batches of 64"
    X = torch.from_numpy(numpy.load(file, mmap_mode="c"))
    warm([file])
    order = torch.randperm(len(X))[: len(X) // 64 * 64].split(64)
    buffer = torch.empty(64, *X.shape[1:], dtype=X.dtype)
    for indices in order:
        torch.index_select(X, 0, indices, out=buffer)
    taken, began = 0, time.perf_counter()
    while time.perf_counter() - began < least:
        for indices in order:
            torch.index_select(X, 0, indices, out=buffer)
        taken += 64 * len(order)
    return taken / (time.perf_counter() - began)


def small_memory(workload: Workload, folder: Path, effort: Effort) -> dict[str, int]:
    "The memory of our loaders with a tenth of the samples"
    write_pack(workload, workload.samples // 10, folder / "article")
    found = {}
    for name in (PACKED_ROW, OURS):
        child = Child(name, folder)
        try:
            child.receive()
            found[name] = child.ask("memory", workers=0, most=effort.most)
        finally:
            child.end()
    return found


def write_pack(workload: Workload, samples: int, root: Path):
    "A pack of noise without the samples' own files, as after deleting them; 64 MB at a time are in memory"
    packed = root / "packed"
    packed.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    size = numpy.prod(workload.shape).item()
    with sole_writer(root), open(packed / "samples.npy", "wb") as stream:
        head = header(getattr(torch, workload.dtype), (samples, *workload.shape))
        assert len(head) == HEADER
        stream.write(head)
        many = max(1, (1 << 24) // size)
        for begin in range(0, samples, many):
            values = random.integers(0, 255, (min(many, samples - begin), size), numpy.uint8)
            stream.write(values.astype(workload.dtype).tobytes())
    IDs = [f"id-{i + 1}" for i in range(samples)]
    labels = {ID: i % 10 for i, ID in enumerate(IDs)}
    numpy.save(packed / "labels.npy", numpy.array(list(labels.values())))
    numpy.save(packed / "IDs.npy", numpy.array([ID.encode() for ID in IDs]))
    manifest = {
        "version": 1,
        "samples": samples,
        "dtype": workload.dtype,
        "shape": list(workload.shape),
        "files": {name: (packed / name).stat().st_size for name in FILES},
        "digest": digest(packed, FILES),
    }
    write_json(manifest, packed / "manifest.json")
    write_json(labels, root / "labels.json")
    write_json({"train": IDs[1:], "validation": IDs[:1]}, root / "partition.json")


def large(folder: Path, quick: bool, effort: Effort) -> dict:
    "Ours with several GB: rates warm and cold, and memory; the article's files would be 1.3 million"
    samples = 20_000 if quick else LARGE.samples
    write_pack(LARGE, samples, folder / "article")
    print("written", flush=True)
    rows, children, limits = {}, {name: Child(name, folder) for name in (PACKED_ROW, OURS)}, []
    try:
        for name, child in children.items():
            child.receive()
            rows[name] = child.ask("describe") | {"workers": 0, "rates": [], "cold": []}
            rows[name]["converted"] = {"seconds": 0.0, "bytes": None}
            for _ in range(effort.cold_rounds):
                cold(child, rows[name])
            rows[name]["memory"] = memory(child, rows[name], effort)
        for _ in range(effort.rounds):
            limits.append(limit(folder / "article" / "packed" / "samples.npy", effort.least))
            for name, child in children.items():
                rows[name]["rates"].append(rate(child, rows[name], effort))
        for name, child in children.items():
            rows[name] |= {"first": first(child, rows[name]), "stalls": stalls(child, rows[name], effort)}
    finally:
        for child in children.values():
            child.end()
    said = LARGE.said.replace("1,300,000", f"{samples:,}")
    small = small_memory(LARGE, folder / "small", effort) if not quick else {}
    return {"said": said, "limits": limits, "rows": rows, "absent": {}, "small": small}


def ratios(values: list[float], others: list[float]) -> float:
    "The median of what was measured in the same rounds, one by the other"
    return median(a / b for a, b in zip(values, others, strict=True))


def base(of: dict) -> list[float] | None:
    "The article's rates with its best number of workers, which may be 0"
    rows = [of["rows"][name]["rates"] for name in (BASE, ALONE) if name in of["rows"]]
    return max(rows, key=median) if rows else None


def base_cold(of: dict) -> float | None:
    rates = [of["rows"][name]["cold"] for name in (BASE, ALONE) if name in of["rows"]]
    return max(median(of_one) for of_one in rates) if all(rates) and rates else None


def fastest(of: dict) -> str | None:
    "The peer library with the highest rate; what measures our own idea in a library's file is none"
    rates = {name: median(row["rates"]) for name, row in libraries(of).items()}
    return max(rates, key=rates.get) if rates else None


def libraries(of: dict) -> dict:
    return {name: row for name, row in of["rows"].items() if row["distribution"] and not row["recipe"]}


def tables(found: dict) -> str:
    parts = []
    for key, of in found["workloads"].items():
        parts += [f"## {key}: {of['said']}", rates_table(of), stalls_table(of), costs_table(of)]
        parts += [f"{name} could not be measured. {reason}" for name, reason in of["absent"].items()]
    if "W1" in found["workloads"]:
        parts += ["## What was to be reached", goals_table(found["workloads"])]
        parts += wins(found["workloads"])
    return "\n\n".join(part for part in parts if part)


def rates_table(of: dict) -> str:
    lines = [
        "| | workers | samples/s (least–greatest) | × article | % of limit | first batch ms | cold samples/s "
        "| × article cold | shuffle |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    article, article_cold = base(of), base_cold(of)
    for name, row in sorted(of["rows"].items(), key=lambda pair: -median(pair[1]["rates"])):
        times = number(ratios(row["rates"], article)) if article else ""
        share = number(100 * ratios(row["rates"], of["limits"]), 2)
        iced = number(median(row["cold"])) if row["cold"] else "–"
        iced_times = number(median(row["cold"]) / article_cold, 2) if row["cold"] and article_cold else "–"
        cells = [name, row["workers"], spread(row["rates"])]
        cells += [times, share, number(1e3 * row["first"], 2), iced, iced_times, row["shuffle"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines.append(f"| *gather limit, one thread* | | {spread(of['limits'])} | | 100 | | | | |")
    why = sorted({row["not_cold"] for row in of["rows"].values() if "not_cold" in row})
    return "\n".join(lines + [f"\nNot cold: {reason}." for reason in why])


def spread(rates: list[float]) -> str:
    return f"{number(median(rates))} ({number(min(rates))}–{number(max(rates))})"


def stalls_table(of: dict) -> str:
    "In percent"
    head = [f"{kind} {1e3 * seconds:g} ms" for kind, seconds in product(STEPS, LENGTHS)]
    lines = ["| data stall, % | " + " | ".join(head) + " |", "|---" * (1 + len(head)) + "|"]
    for name, row in of["rows"].items():
        cells = [f"{100 * share:.0f}" for share in row["stalls"].values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def costs_table(of: dict) -> str:
    lines = [
        "| | memory above idle MB | seconds to convert | MB on the disk | lines to write | MB installed |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in of["rows"].items():
        size, installed = row["converted"]["bytes"], row["installed"]
        cells = [number(row["memory"] / 1e6), number(row["converted"]["seconds"], 2)]
        cells += [number(size / 1e6) if size else "–", row["lines"]]
        cells += [number(installed / 1e6, 2) if installed else "–"]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def goals_table(workloads: dict) -> str:
    "Of issues 5 and 18, the later where both have one, and whether they were reached"
    lines = ["| | W1: goal | found | | W2: goal | found | |", "|---" * 7 + "|"]
    goals = [  # (what, goals of W1 and W2, whether that is the least, how to find it)
        ("PrefetchLoader against the article at its best, ×", (220, 7), True, against_article(OURS)),
        ("PrefetchLoader against the gather limit", (0.7, 0.8), True, against_limit),
        ("PrefetchLoader against the fastest peer library, ×", (2.5, 2), True, against_fastest),
        ("PackedDataset in DataLoader, 0 workers, against the article, ×", (150, 10), True,
         against_article(PACKED_ROW)),
        ("stall behind 2 ms, sleeping, %", (1, 1), False, stalled("sleeping")),
        ("stall behind 2 ms, holding the lock, %", (3, 15), False, stalled("holding the lock")),
        ("stall behind 2 ms, all cores busy, %", (5, 25), False, stalled("all cores busy")),
        ("cold, random rows, against the article cold, ×", (4, 1.5), True, against_cold),
        ("memory above idle with 10 × the samples: MB more for each 100 MB of data", (5, 5), False, grown),
    ]  # fmt: skip
    for what, wanted, least, find in goals:
        cells = [what]
        for goal, of in zip(wanted, workloads.values(), strict=True):
            value = find(of)
            sign = "≥" if least else "≤"
            cells.append(f"{sign} {goal}")
            if value is None:
                cells += ["–", "not measured"]
            else:
                reached = value >= goal if least else value <= goal
                cells += [number(value, 2), "reached" if reached else "**missed**"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def against_article(name: str):
    def find(of):
        rows, article = of["rows"], base(of)
        return ratios(rows[name]["rates"], article) if name in rows and article else None

    return find


def against_limit(of: dict) -> float | None:
    return ratios(of["rows"][OURS]["rates"], of["limits"]) if OURS in of["rows"] else None


def against_fastest(of: dict) -> float | None:
    other = fastest(of)
    if not other or OURS not in of["rows"]:
        return None
    return ratios(of["rows"][OURS]["rates"], of["rows"][other]["rates"])


def against_cold(of: dict) -> float | None:
    rates, article = of["rows"].get(OURS, {}).get("cold"), base_cold(of)
    return median(rates) / article if rates and article else None


def stalled(kind: str):
    return lambda of: 100 * of["rows"][OURS]["stalls"][f"{kind}, 0.002"] if OURS in of["rows"] else None


def grown(of: dict) -> float | None:
    if OURS not in of["rows"] or OURS not in of["small"]:
        return None
    more = of["rows"][OURS]["converted"]["bytes"] * 0.9
    return 100 * max(0, of["rows"][OURS]["memory"] - of["small"][OURS]) / more


def wins(workloads: dict) -> list[str]:
    "Where a peer is ahead of PrefetchLoader, in sentences"
    said = []
    for key, of in workloads.items():
        ours = of["rows"].get(OURS)
        others = libraries(of)
        if not ours or not others:
            continue
        measures = {
            "warm": lambda row: median(row["rates"]),
            "cold": lambda row: median(row["cold"]) if row["cold"] else 0,
            "to the first batch": lambda row: 1 / row["first"],
            "in memory": lambda row: 1 / max(row["memory"], 1),
            "in stall behind 2 ms, all cores busy": lambda row: -row["stalls"]["all cores busy, 0.002"],
        }
        for what, measure_of in measures.items():
            ahead = [name for name, row in others.items() if measure_of(row) > measure_of(ours)]
            if ahead:
                said.append(f"{key}: ahead of PrefetchLoader {what}: {', '.join(ahead)}.")
    said.append(
        "Not measured, because ours do not have it: streaming from remote storage (LitData, MosaicML "
        "Streaming, WebDataset, Lance), and resuming within an epoch, on many nodes (LitData, MosaicML "
        "Streaming, torchdata.nodes, Grain)."
    )
    return said


def report(found: dict, file: Path = RESULTS / "peers.json"):
    "Prints the tables, and writes them and the picture beside the numbers"
    write_text("Ours beside the peers", "peers.py", found, f"![]({file.stem}.png)\n\n{tables(found)}", file)
    draw(found, file.with_suffix(".png"))


def write_text(heading: str, script: str, found: dict, text: str, file: Path):
    "Prints it, and writes it beside the numbers"
    print(text)
    head = ", ".join(f"{what} {value}" for what, value in found["machine"].items())
    file.with_suffix(".md").write_text(
        f"# {heading}\n\nWritten by `python3 benchmarks/{script}`, which says what was measured. "
        f"{found['date']}; {head}.\n\n{text}\n"
    )


def draw(found: dict, file: Path):
    "The rates of all rows against the gather limit"
    workloads = found["workloads"]
    first_of = next(iter(workloads.values()))["rows"]
    names = sorted(first_of, key=lambda name: median(first_of[name]["rates"]))
    with plt.rc_context(STYLE):
        figure, places = plt.subplots(
            1, len(workloads), figsize=(9, 1.5 + 0.25 * len(names)), sharey=True, squeeze=False
        )
        for axes, (key, of) in zip(places[0], workloads.items(), strict=True):
            axes.axvline(median(of["limits"]), color="0.6", linestyle=":")
            for name in names:
                if name not in of["rows"]:
                    continue
                row = of["rows"][name]
                colour = KINDS[kind_of(name, row)]
                rates = row["rates"]
                axes.plot([min(rates), max(rates)], [name, name], color=colour, lw=1)
                axes.plot(median(rates), name, "o", color=colour)
                place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
                axes.annotate(number(float(f"{median(rates):.3g}")), (median(rates), name), **place)
            axes.set(xscale="log", xlabel="samples/s (dotted: what one thread can gather)")
            axes.set_title(f"{key}: {of['said']}")
            axes.grid(axis="y", color="0.9")
            axes.margins(x=0.18)
        figure.suptitle(title(workloads), x=0.01, ha="left", fontsize=10)
        marks = [Line2D([], [], color=colour, marker="o", lw=0, label=kind) for kind, colour in KINDS.items()]
        figure.legend(handles=marks, loc="outside lower left", ncols=4, fontsize=8)
        figure.savefig(file)
        plt.close(figure)


KINDS = {
    "ours": COLOURS["computing"],
    "a library": COLOURS["waiting"],
    "the article's": OTHERS[0],
    "our way, in other files or another loop": OTHERS[2],
}


def kind_of(name: str, row: dict) -> str:
    if name in (PACKED_ROW, OURS):
        return "ours"
    if name in (BASE, ALONE):
        return "the article's"
    return list(KINDS)[3 if row["recipe"] else 1]


def title(workloads: dict) -> str:
    said = []
    for key, of in workloads.items():
        if OURS in of["rows"] and (other := fastest(of)):
            times, article = against_fastest(of), against_article(OURS)(of)
            said.append(f"{number(article, 2)} × the article and {number(times, 2)} × {other} ({key})")
    if said:
        return "PrefetchLoader delivers " + ", ".join(said)
    share = median(against_limit(of) for of in workloads.values())
    return f"PrefetchLoader delivers {100 * share:.0f} % of what one thread can gather"


if __name__ == "__main__":
    main()
