"""Where PrefetchLoader's time goes: a batch of 64 with an empty loop body, from the bare gather upwards.

    PYTHONPATH=. python3 benchmarks/prefetch_profile.py    # 20 s; rewrites results/prefetch_profile.json

Each line does what the one above does, and more: the gather limit of benchmarks/peers.py; as many batches at
once as PrefetchLoader takes together, into five blocks in turn, as many as are about in it; the batches of
PackedDataset, gathered so, collated and cut; the same in a thread of its own; a PrefetchLoader whose order is
known; and one that draws its order. And for comparison PackedDataset, each batch by itself. Medians of
alternating rounds, and the least and greatest.
"""

import json
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from peers import WORKLOADS, write_pack

from feedgpu import PackedDataset, PrefetchLoader, load_notation
from feedgpu.asked import Source
from feedgpu.measure import alternate, machine

RESULTS = Path(__file__).parent / "results" / "prefetch_profile.json"
BATCH, HELD = 64, 5


def steps(root: Path) -> dict[str, Callable]:
    "{what is done: a function that does it for an epoch}"
    partition, labels = load_notation(root, suffix=None)
    dataset = PackedDataset([ID for IDs in partition.values() for ID in IDs], labels, root)
    rows = dataset.pack.fields[0].values
    order = torch.randperm(len(rows))[: len(rows) // BATCH * BATCH]
    batches = order.split(BATCH)
    loader = PrefetchLoader(dataset, BATCH, shuffle=True, drop_last=True)
    many = Source(dataset, loader.batch_sampler).many(BATCH)
    pieces = order.split(BATCH * many)
    mapped = torch.from_numpy(numpy.load(root / "packed" / "samples.npy", mmap_mode="c"))
    blocks = [torch.empty(BATCH * many, *rows.shape[1:], dtype=mapped.dtype) for _ in range(HELD)]
    known = PrefetchLoader(dataset, BATCH, sampler=order.tolist())

    def gather(lists, places: int):
        for i, indices in enumerate(lists):
            torch.index_select(mapped, 0, indices, out=blocks[i % places][: len(indices)])

    def make():
        held = deque(maxlen=HELD)
        for indices in pieces:
            gathered = dataset.__getitems__(indices.numpy())
            held.append(list(gathered.batches([BATCH] * (len(indices) // BATCH))))

    def one_by_one():
        held = deque(maxlen=HELD)
        for indices in batches:
            held.append(loader.collate_fn(dataset.__getitems__(indices.numpy())))

    def in_a_thread(work: Callable):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    return {
        "gather into one block": lambda: gather(batches, 1),
        f"gather {many} batches at once": lambda: gather(pieces, HELD),
        "PackedDataset, as many at once": make,
        "the same, in a thread": lambda: in_a_thread(make),
        "PrefetchLoader, order known": lambda: deque(known, maxlen=0),
        "PrefetchLoader": lambda: deque(loader, maxlen=0),
        "PackedDataset, one by one": one_by_one,
    }


def seconds_a_batch(work: Callable, batches: int) -> Callable[[], float]:
    def run() -> float:
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < 0.25:
            work()
            done += batches
        return (time.perf_counter() - start) / done

    return run


def main():
    torch.set_num_threads(1)
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "seconds a batch": {}}
    for key, workload in WORKLOADS.items():
        with tempfile.TemporaryDirectory() as folder:
            write_pack(workload, workload.samples, Path(folder))
            works = {
                what: seconds_a_batch(work, workload.samples // BATCH)
                for what, work in steps(Path(folder)).items()
            }
            for run in works.values():
                run()
            took = alternate(works, rounds=7)
        print(f"{key}: {workload.said}")
        for what, spread in took.items():
            print(f"  {what:30} {spread:µs}")
        found["seconds a batch"][key] = {what: vars(spread) for what, spread in took.items()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
