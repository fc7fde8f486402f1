"""From a source straight into a pack: at which rate, beside bare loops over the same source.

    PYTHONPATH=. python3 benchmarks/sources.py           # 6 minutes; rewrites results/sources.json and .md
    PYTHONPATH=. python3 benchmarks/sources.py --quick   # 20 s, writes nothing: does all of it run?

200,000 samples of 256 bytes (64 float32) with a class, in each kind of source (40,000 in LMDB and .tar).
"Sample by sample" is the loop that one writes first, and "in blocks" the fastest one that the library offers;
both make arrays of what they read and keep nothing. "Packed" is `feedgpu prepare from` until the dataset is
there, with its partition, its digests and all on the disk. Alternating rounds, one thread, files in the page
cache.

At last 1,000,000 samples from one array: seconds from the start of a process to its first shuffled batch, and
its peak memory.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy
import torch

from feedgpu.measure import alternate, machine
from feedgpu.measure.words import number
from feedgpu.prepare.any_source import pack_from

RESULTS = Path(__file__).parent / "results" / "sources.json"
BLOCK = 16_384
FEW = 20_000  # samples of a loop that takes one at a time, where it can stop
Loops = dict[str, Callable[[], int]]


def npy_of(values) -> bytes:
    stream = io.BytesIO()
    numpy.save(stream, values)
    return stream.getvalue()


def of_npy(folder: Path, X, y) -> tuple[Path, dict, Loops]:
    numpy.save(folder / "x.npy", X)
    numpy.save(folder / "y.npy", y)
    x = numpy.load(folder / "x.npy", mmap_mode="r")
    return folder / "x.npy", {"y": str(folder / "y.npy")}, by_rows(lambda a, b: numpy.array(x[a:b]), len(X))


def by_rows(read, rows: int) -> Loops:
    "The two loops over what is read by slices"

    def one_by_one() -> int:
        return sum(len(read(i, i + 1)) for i in range(min(rows, FEW)))

    def in_blocks() -> int:
        return sum(len(read(i, min(i + BLOCK, rows))) for i in range(0, rows, BLOCK))

    return {"sample by sample": one_by_one, "in blocks": in_blocks}


def of_hdf5(folder: Path, X, y) -> tuple[Path, dict, Loops]:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["x"], file["y"] = X, y
    stored = h5py.File(folder / "a.h5", "r")

    def read(a, b):
        stored["y"][a:b]
        return stored["x"][a:b]

    return folder / "a.h5", {}, by_rows(read, len(X))


def of_safetensors(folder: Path, X, y) -> tuple[Path, dict, Loops]:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    save_file({"x": X, "y": y}, folder / "a.safetensors")
    stored = safe_open(folder / "a.safetensors", framework="pt")
    x, labels = stored.get_slice("x"), stored.get_slice("y")

    def read(a, b):
        labels[a:b]
        return x[a:b].clone()  # else nothing is read

    return folder / "a.safetensors", {}, by_rows(read, len(X))


def of_parquet(folder: Path, X, y) -> tuple[Path, dict, Loops]:
    import pyarrow
    import pyarrow.parquet

    x = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.reshape(-1)), X.shape[1])
    pyarrow.parquet.write_table(pyarrow.table({"x": x, "y": y}), folder / "a.parquet")

    def batches():
        return pyarrow.parquet.ParquetFile(folder / "a.parquet").iter_batches(BLOCK)

    def one_by_one() -> int:
        found = 0
        for batch in batches():
            for x, _ in zip(batch.column("x"), batch.column("y"), strict=True):
                found += len(numpy.array(x.values)) > 0
        return found

    def in_blocks() -> int:
        return sum(len(batch.column("x").flatten().to_numpy().reshape(len(batch), -1)) for batch in batches())

    return folder / "a.parquet", {}, {"sample by sample": one_by_one, "in blocks": in_blocks}


def of_lmdb(folder: Path, X, y) -> tuple[Path, dict, Loops]:
    import lmdb

    with lmdb.open(str(folder / "a.lmdb"), map_size=1 << 31) as made, made.begin(write=True) as transaction:
        for i, (values, label) in enumerate(zip(X, y, strict=True)):
            transaction.put(b"%09d.npy" % i, npy_of(values))
            transaction.put(b"%09d.cls" % i, b"%d" % label)

    def one_by_one() -> int:
        with (
            lmdb.open(str(folder / "a.lmdb"), readonly=True, lock=False) as stored,
            stored.begin() as transaction,
        ):
            return sum(
                len(numpy.load(io.BytesIO(value))) > 0 if key.endswith(b"npy") else 0 * int(value)
                for key, value in transaction.cursor()
            )

    return folder / "a.lmdb", {}, {"sample by sample": one_by_one}


def of_tar(folder: Path, X, y) -> tuple[Path, dict, Loops]:
    with tarfile.open(folder / "a.tar", "w") as archive:
        for i, (values, label) in enumerate(zip(X, y, strict=True)):
            for ending, content in (("npy", npy_of(values)), ("cls", b"%d" % label)):
                member = tarfile.TarInfo(f"{i:09}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

    def one_by_one() -> int:
        with tarfile.open(folder / "a.tar") as archive:
            return sum(
                len(numpy.load(io.BytesIO(archive.extractfile(member).read()))) > 0
                if member.name.endswith("npy")
                else 0 * int(archive.extractfile(member).read())
                for member in archive
            )

    return folder / "a.tar", {}, {"sample by sample": one_by_one}


def of_datasets(folder: Path, X, y) -> tuple[Path, dict, Loops]:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {"x": datasets.Sequence(datasets.Value("float32"), X.shape[1]), "y": datasets.Value("int64")}
    )
    saved = datasets.Dataset.from_dict({"x": X, "y": y}, features=features)
    saved.save_to_disk(folder / "saved")
    stored = datasets.load_from_disk(str(folder / "saved")).with_format("numpy")

    def one_by_one() -> int:
        return sum(len(stored[i]["x"]) > 0 for i in range(min(len(stored), FEW)))

    def in_blocks() -> int:
        return sum(len(batch["x"]) for batch in stored.iter(BLOCK))

    return folder / "saved", {}, {"sample by sample": one_by_one, "in blocks": in_blocks}


SOURCES = {
    ".npy": of_npy,
    "HDF5": of_hdf5,
    "safetensors": of_safetensors,
    "Parquet": of_parquet,
    "HF datasets": of_datasets,
    "LMDB": of_lmdb,
    ".tar": of_tar,
}
MILLION = """
import re, sys, time
from feedgpu import PackedDataset, PrefetchLoader
from feedgpu.prepare.any_source import pack_from
folder, rows = sys.argv[1], int(sys.argv[2])
partition, labels = pack_from(f"{folder}/x.npy", f"{folder}/data", y=f"{folder}/y.npy")
training_set = PackedDataset(partition["train"], labels, f"{folder}/data")
X, y = next(iter(PrefetchLoader(training_set, 256, shuffle=True)))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())  # not what a fork brought along
print(time.time() - float(sys.argv[3]), 1024 * int(peak[1]))
"""


def rates(rows: int, rounds: int) -> dict:
    "Samples a second of each source, by each way: the median and its range"
    rng, found, whole = numpy.random.default_rng(0), {}, rows
    for name, write in SOURCES.items():
        rows = whole // 5 if name in ("LMDB", ".tar") else whole  # which are read one at a time
        X, y = rng.random((rows, 64), numpy.float32), rng.integers(0, 10, rows)
        with tempfile.TemporaryDirectory() as folder:
            path, how, loops = write(Path(folder), X, y)

            def packed(path=path, how=how, folder=folder, rows=rows) -> float:
                start = time.perf_counter()
                with contextlib.redirect_stdout(io.StringIO()):
                    pack_from(path, Path(folder, "data"), force=True, **how)
                return rows / (time.perf_counter() - start)

            def looped(loop) -> Callable[[], float]:
                def run() -> float:
                    start = time.perf_counter()
                    return loop() / (time.perf_counter() - start)

                return run

            runs = {way: looped(loop) for way, loop in loops.items()} | {"packed": packed}
            spreads = alternate(runs, rounds)
            found[name] = {way: [spread.low, spread.median, spread.high] for way, spread in spreads.items()}
            print(name, {way: f"{spread.median:,.0f}" for way, spread in spreads.items()}, flush=True)
    return found


def first_batch(rows: int) -> dict:
    "From one array to the first batch, in a process of its own"
    with tempfile.TemporaryDirectory() as folder:
        rng = numpy.random.default_rng(0)
        numpy.save(Path(folder, "x.npy"), rng.integers(0, 256, (rows, 256), numpy.uint8))
        numpy.save(Path(folder, "y.npy"), rng.integers(0, 10, rows))
        command = [sys.executable, "-c", MILLION, folder, str(rows), str(time.time())]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, peak = map(float, done.stdout.split()[-2:])
        packed = Path(folder, "data", "packed")
        beside = sum(file.stat().st_size for file in packed.iterdir() if file.name != "samples.npy")
    return {"samples": rows, "seconds": seconds, "peak": peak, "bytes a sample": beside / rows}


def tables(found: dict) -> str:
    lines = [
        "| source | sample by sample | in blocks | packed | ÷ sample by sample | ÷ in blocks |",
        "|---|---|---|---|---|---|",
    ]
    for name, ways in found["rates"].items():
        packed = ways["packed"][1]
        loops = [ways[way][1] if way in ways else None for way in ("sample by sample", "in blocks")]
        shown = [f"{loop:,.0f}" if loop else "–" for loop in loops] + [f"{packed:,.0f}"]
        shown += [number(packed / loop, 2) if loop else "–" for loop in loops]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    first = found["first batch"]
    size = first["bytes a sample"]
    lines += [
        "",
        f"{first['samples']:,} samples of 256 bytes in one array: {first['seconds']:.1f} s from the start of "
        f"the process to the first shuffled batch, {first['peak'] / 1e6:,.0f} MB at its peak. Beside the "
        f"values a pack takes {size:.0f} bytes a sample on the disk (ID, class, partition), {size / 10:.1f} "
        "GB for 10⁸ samples. In memory a dataset holds 8 bytes a sample (row and class), 0.8 GB.",
    ]
    return "\n".join(lines)


def main(quick: bool) -> None:
    torch.set_num_threads(1)
    if quick:
        rates(2_000, 1)
        print(first_batch(10_000))
        return
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "rates": rates(200_000, 3)}
    found["first batch"] = first_batch(1_000_000)
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    head = __doc__.partition("\n\n")[0]
    RESULTS.with_suffix(".md").write_text(f"# {head}\n\n{tables(found)}\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few samples, one round, nothing is written")
    main(parser.parse_args().quick)
