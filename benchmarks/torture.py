"""Kills, interrupts, fills, mutates and swaps, and counts what comes of it.

    make torture                                             # all of it; rewrites results/torture.md
    PYTHONPATH=. python3 benchmarks/torture.py --scale 0.02 --only kills swaps --seed 7    # a part of it

A sample's value and its label are the edition of its dataset, so that a mixture of two shows. Each operation
runs in a child, forked from a process that has imported everything. An outcome that begins with ✗ must not
occur: a mixture, a loss, a hang over 10 s, a bare traceback, a write outside, something left behind.
"""

import argparse
import ctypes
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy
import torch
import torch._dynamo  # what an optimizer imports: once, before the forks
from PIL import Image
from tqdm import tqdm

import pytorch_script
from feedgpu import DatasetError, PackedDataset, PrefetchLoader, load_notation
from feedgpu.command import main as command
from feedgpu.command import run
from feedgpu.images import ImageDataset
from feedgpu.measure import machine
from feedgpu.prepare import Source, check, pack, write
from my_classes import Dataset

RESULTS = Path(__file__).parent / "results" / "torture.md"
SCRIPT = Path(pytorch_script.__file__)
PROGRAM = compile(SCRIPT.read_text(encoding="utf-8"), str(SCRIPT), "exec")
LIMIT = 10  # seconds, after which something hangs
IDS = [f"{'deep/' * (i % 2)}id-{i}" for i in range(12)]
OWN = {"partition.json", "labels.json", "classes.json", "packed", "deep"}


def edition(number: int, shape=(1, 8, 8), IDs=IDS) -> Source:
    "A dataset of which every value and every label is its number"
    partition = {"train": IDs[:-3], "validation": IDs[-3:]}
    return Source(partition, dict.fromkeys(IDs, number), None, lambda ID: torch.full(shape, float(number)))


def child(work: Callable[[], object], log: Path) -> int:
    "Forks a process that does it, with a group and a Ctrl-C of its own; its words go to `log`"
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # no interrupt is for the fork itself
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return pid
    code = 130  # of an interrupt before the work has begun, or after its end
    try:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        code = code_of(work)
    finally:
        os._exit(code)


def code_of(work: Callable[[], object]) -> int:
    "The exit code that a process would have that does it; a traceback is printed"
    try:
        code = work()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and is_default():
            return 130  # it struck before the program's first statement
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0


def is_default() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def ended(pid: int, limit: float = LIMIT) -> int | None:
    "The exit code of a child, negative for a signal; None if it hangs, and then it is killed"
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def bare(log: Path) -> str | None:
    "The error of a traceback that was printed, if one was"
    lines = log.read_text(errors="replace").splitlines()
    if not any(line.startswith("Traceback") for line in lines):
        return None
    return next((line[:80] for line in reversed(lines) if line and not line.startswith(" ")), "?")


def state(root: Path) -> str:
    "none, the number of the one edition that is there and right, or ✗ mixture"
    try:
        partition, labels = load_notation(root, None)
    except DatasetError:
        return "none"
    numbers = set(labels.values())
    try:
        IDs = [ID for IDs in partition.values() for ID in IDs]
        dataset = Dataset(IDs, labels, root)
        numbers |= {
            value for X, _ in map(dataset.__getitem__, range(len(IDs))) for value in X.unique().tolist()
        }
    except DatasetError as error:
        return f"✗ lost: {error}"
    return str(int(numbers.pop())) if len(numbers) == 1 else f"✗ mixture {numbers}"


def pack_state(root: Path) -> str:
    "none or refused, right, or ✗ mixture"
    try:
        partition, labels = load_notation(root, None)
        IDs = [ID for IDs in partition.values() for ID in IDs]
        X, y = PackedDataset(IDs, labels, root).__getitems__(range(len(IDs))).X, set(labels.values())
    except DatasetError:
        return "refused"
    return "right" if {*X.unique().tolist()} == y else f"✗ mixture of {X.unique().tolist()} and {y}"


# Kills


def train(root: Path, *options: str) -> Callable[[], object]:
    "The script, as its users start it"

    def run() -> None:
        sys.argv = [str(SCRIPT), "--data", str(root), "--checkpoint", str(root.parent / "c.pt"), *options]
        sys.argv += ["--num-workers", "0", "--max-epochs", "3", "--batch-size", "4"]
        exec(PROGRAM, {"__name__": "__main__", "__file__": str(SCRIPT)})

    return run


def kills(rounds: int, rng: random.Random, folder: Path) -> Counter:
    "SIGKILL at a random moment of preparing, packing and training"
    found: Counter = Counter()
    root, log, number = folder / "data", folder / "log", 1
    write(edition(1), root)
    for _ in range(rounds):
        what = rng.choice(["prepare", "prepare", "pack", "pack", "pack and prepare", "train"])
        new = number + 1

        def both(new=new) -> None:
            pack(root)
            write(edition(new), root, force=True)
            pack(root)

        works = {
            "prepare": lambda new=new: write(edition(new), root, force=True),
            "pack": lambda: pack(root),
            "pack and prepare": both,
            "train": train(root, *["--resume"] * (folder / "c.pt").exists()),
        }
        pid = child(lambda: works[what]() and None, log)  # noqa: B023  it is done at once
        time.sleep(rng.random() * {"train": 0.4, "pack and prepare": 0.05}.get(what, 0.02))
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        code = ended(pid)
        moment = "killed" if code == -signal.SIGKILL else "was through"
        there = state(root)
        if there == "none":  # the next run completes it
            write(edition(new), root, force=True)
            after = state(root)
            there = "none, then the new one" if after == str(new) else f"✗ none, then {after}"
            number = new
        elif there in (str(number), str(new)):
            there, number = ("the old one" if there == str(number) else "the new one"), int(there)
        elif not there.startswith("✗"):
            there = f"✗ another one, {there}"
        found[f"{what} {moment}: {there}"] += 1
        packed = pack_state(root)
        if packed.startswith("✗"):
            found[f"{what} {moment}: pack {packed}"] += 1
        if (folder / "c.pt").exists():
            try:
                torch.load(folder / "c.pt", weights_only=True)
            except Exception as error:
                found[f"✗ checkpoint: {error}"] += 1
        if there.startswith("✗"):
            shutil.rmtree(root)
            write(edition(number := new), root)
    write(edition(number + 1), root, force=True)
    if left := set(os.listdir(root)) - OWN - {f"{ID}.pt" for ID in IDS}:
        found[f"✗ left behind: {left}"] += 1
    return found


# Full disks


def disks(rounds: int, rng: random.Random, folder: Path) -> Counter:
    "Preparing, packing and saving meet a limit of a file's bytes, or, where the system lets us, a full disk"
    found = walls(rounds - rounds // 2, rng, folder, None)
    disk, result = folder / "disk", folder / "result"
    disk.mkdir()

    def run() -> None:
        mount(disk, 4 << 20)
        result.write_text(json.dumps(walls(rounds // 2, rng, folder, disk)))

    code = ended(child(run, folder / "words"), 10 + rounds)
    if code == 0:
        return found + Counter(json.loads(result.read_text()))
    words = (folder / "words").read_text()
    forbidden = "PermissionError" in words
    found["full disks not tried: no mounts here" if forbidden else f"✗ full disks: {code}, {words}"] += 1
    return found


def mount(folder: Path, size: int) -> None:
    "A disk of so many bytes, which this process and its children see, and nobody else"
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    new_mounts, new_user, private = 0x20000, 0x10000000, 0x44000
    if libc.unshare(new_mounts | new_user * (user != 0)):
        raise PermissionError(ctypes.get_errno(), "no namespaces here")
    if user != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(text)
    libc.mount(None, b"/", None, private, None)
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={size}".encode()):
        raise PermissionError(ctypes.get_errno(), "no mounts here")


def walls(rounds: int, rng: random.Random, folder: Path, disk: Path | None) -> Counter:
    found: Counter = Counter()
    root, log = (disk or folder) / "data", folder / "log"
    write(edition(1), root)
    pack(root)
    works = {
        "prepare": lambda: told(lambda: write(edition(2), root, force=True)),
        "pack": lambda: command(["pack", "--data", str(root)]),
        "train": train(root),
    }
    for _ in range(rounds):
        what = rng.choice(list(works))
        for file in root.parent.glob("c*.pt"):
            file.unlink()
        torch.save([1], root.parent / "c.pt")
        if disk:
            fill(disk, {"prepare": 24, "pack": 8, "train": 500}[what], rng)
        limit = None if disk else rng.randrange({"prepare": 1_500, "pack": 3_500, "train": 1_200_000}[what])
        code = ended(child(limited(works[what], limit), log))
        if disk:
            (disk / "filler").unlink()
        there, packed = state(root), pack_state(root)
        try:
            kept = [torch.load(file, weights_only=True) for file in root.parent.glob("c*.pt")]
        except Exception as error:
            kept = [error]
        place = f"{what}, {'full disk' if disk else 'limit of a file'}"
        if code is None:
            found[f"✗ {place}: hangs"] += 1
        elif error := bare(log):
            found[f"✗ {place}: {error}"] += 1
        elif there == "none" or there.startswith("✗") or packed.startswith("✗"):
            found[f"✗ {place}: {there}, pack {packed}"] += 1
        elif [1] not in kept or not all(isinstance(content, list | dict) for content in kept):
            found[f"✗ {place}: checkpoint {kept}"] += 1
        elif left := [*root.parent.glob("*.unfinished")]:
            found[f"✗ {place}: left {left}"] += 1
        else:
            found[f"{place}: {'a sentence' if code else 'went through'}, all whole"] += 1
        if there != "1":
            write(edition(1), root, force=True)
            pack(root)
    return found


def told(work: Callable[[], object]) -> None:
    "It, and a DatasetError of it as a command tells it"
    try:
        work()
    except DatasetError as error:
        sys.exit(str(error))


def fill(disk: Path, pages: int, rng: random.Random) -> None:
    "Leaves fewer than so many pages of it free"
    free = os.statvfs(disk).f_bavail
    with open(disk / "filler", "wb") as stream:
        stream.write(bytes((free - rng.randrange(pages)) * 4096))


def limited(work: Callable[[], object], limit: int | None) -> Callable[[], object]:
    "It, with an end of what may be written to any file; without its words, which are written to one"

    def run() -> object:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return work()

    return run


# Mutations


def mutated(data: bytes, rng: random.Random) -> bytes:
    "Bits flipped, a cut, an insertion, a run of zeros, or two of them"
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2])):
        place = rng.randrange(max(1, len(found)))
        how = rng.randrange(5)
        if how == 0:
            for _ in range(rng.choice([1, 1, 8])):
                if found:
                    found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
        elif how == 1:
            del found[place:]
        elif how == 2:
            found[place:place] = rng.randbytes(rng.randrange(1, 40))
        elif how == 3:
            found[place : place + rng.randrange(1, 60)] = bytes(rng.randrange(1, 60))
        else:
            del found[place : place + rng.randrange(1, 60)]
    return bytes(found)


def pictures(folder: Path) -> list[Path]:
    image = Image.fromarray(numpy.random.default_rng(0).integers(0, 255, (40, 50, 3), numpy.uint8))
    for kind in ("jpg", "png", "webp", "gif", "tiff", "bmp"):
        image.save(folder / f"a.{kind}")
    image.save(folder / "b.jpg", progressive=True)
    return sorted(folder.glob("[ab].*"))


def mutations(rounds: int, rng: random.Random, folder: Path) -> Counter:
    "Files changed at random: each is read, or refused in a sentence"
    root = folder / "data"
    write(edition(1), root)
    pack(root)
    checkpoint = folder / "c.pt"
    ended(child(train(root), folder / "log"), 60)
    images = folder / "images"
    images.mkdir()
    partition, labels = load_notation(root)

    def see_sample() -> None:
        Dataset(["id-0"], labels, root)[0]

    def see_image(file: Path) -> None:
        ImageDataset([file.name], {file.name: 0}, images, (24, 24))[0]

    def see_pack() -> None:
        PackedDataset(IDS, labels, root).__getitems__(range(12))

    def see_lists() -> None:
        load_notation(root)
        check(root)

    def see_checkpoint() -> None:
        train(root, "--resume")()

    files = [(file, lambda file=file: see_image(file)) for file in pictures(images)]
    groups = {
        "images": files,
        ".pt": [(root / "id-0.pt", see_sample)],
        "packs": [(file, see_pack) for file in sorted((root / "packed").iterdir())],
        "JSON": [(root / name, see_lists) for name in ("partition.json", "labels.json")],
        "checkpoints": [(checkpoint, see_checkpoint)],
    }
    found: Counter = Counter()
    for name, group in groups.items():
        done = 0
        while done < rounds:
            many = min(rounds - done, 25)
            seeds = [rng.getrandbits(40) for _ in range(many)]
            found += mutated_in_a_child(name, group, seeds, folder)
            done += many
    return found


def mutated_in_a_child(name: str, group: list, seeds: list[int], folder: Path) -> Counter:
    "Whatever a mutation does to the process, the next ones are looked at by another one"
    log, result = folder / "log", folder / "result"
    result.write_text("")
    originals = {file: file.read_bytes() for file, _ in group}

    def run() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        with open(result, "a") as stream:
            for seed in seeds:
                rng = random.Random(seed)
                file, see = rng.choice(group)
                file.write_bytes(mutated(originals[file], rng))
                outcome = "read"
                try:
                    see()
                except DatasetError:
                    outcome = "a sentence"
                except SystemExit as end:
                    outcome = "a sentence" if isinstance(end.code, str) else "read"
                except BaseException as error:
                    outcome = f"✗ {type(error).__name__}: {str(error)[:60]} ({file.name}, {seed})"
                file.write_bytes(originals[file])
                stream.write(json.dumps(f"{name}: {outcome}") + "\n")
                stream.flush()

    code = ended(child(run, log), 120)
    for file, data in originals.items():
        file.write_bytes(data)
    found = Counter(map(json.loads, result.read_text().splitlines()))
    if code != 0:
        found[f"✗ {name}: the process ended with {code} ({seeds[sum(found.values())]})"] += 1
    return found


# Interrupts


ANEW = "from feedgpu.command import run; print('ready', flush=True); run()"


def shell(words: list[str]) -> None:
    "The command feedgpu, as a shell calls it"
    sys.argv = ["feedgpu", *words]
    run()


def interrupts(rounds: int, rng: random.Random, folder: Path) -> Counter:
    "Ctrl-C at a random moment of each command: ended by it, exit code 130 or 0; no traceback, nothing left"
    found: Counter = Counter()
    root, log = folder / "data", folder / "log"
    write(edition(1), root)
    pack(root)
    words = f"prepare synthetic --samples 60 --shape 1 8 8 --force --data {folder / 'other'}".split()
    works = {
        "prepare": partial(shell, words),
        "pack": partial(shell, ["pack", "--data", str(root)]),
        "check": partial(shell, ["check", "--data", str(root)]),
        "train": train(root),
        "train --packed": train(root, "--packed"),
    }
    longest = dict.fromkeys(works, 0.03) | {"train": 0.25, "train --packed": 0.25, "check, anew": 1.5}
    anew = [sys.executable, "-c", ANEW, "check", "--data", str(root)]
    for number in range(rounds):
        what = rng.choice(list(works)) if number % 20 else "check, anew"  # a process that imports torch
        pid = child(works.get(what, partial(os.execv, sys.executable, anew)), log)
        while what not in works and (not log.exists() or "ready" not in log.read_text()):
            time.sleep(0.001)
        time.sleep(0.003 + rng.random() * longest[what])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        code = ended(pid)
        if code is None:
            found[f"✗ {what} hangs"] += 1
        elif error := bare(log):
            found[f"✗ {what}: exit code {code}, {error}"] += 1
            print(log.read_text())
        elif code not in (0, 130, -signal.SIGINT):  # 130 in a shell, too: before or after the work
            found[f"✗ {what}: exit code {code}: {log.read_text()[-80:]!r}"] += 1
        else:
            found[f"{what}: exit code {code}"] += 1
        if state(root) != "1" or pack_state(root) != "right":
            found[f"✗ {what}: {state(root)}, pack {pack_state(root)}"] += 1
    return found


def loops(rounds: int, rng: random.Random, folder: Path) -> Counter:
    "Ctrl-C at a random moment of a loop in this process: the next loop is right, and no thread is left"
    root = folder / "data"
    many = [f"id-{i}" for i in range(300)]
    write(edition(1, (3, 32, 32), many), root)
    pack(root)
    images = folder / "images"
    images.mkdir()
    picture = io.BytesIO()
    Image.new("RGB", (40, 40), (9, 9, 9)).save(picture, "JPEG")
    names = [f"{i}.jpg" for i in range(60)]
    for name in names:
        (images / name).write_bytes(picture.getvalue())
    partition, labels = load_notation(root)
    packed = PackedDataset(many, labels, root)
    decoded = ImageDataset(names, dict.fromkeys(names, 1), images, (32, 32))
    decoded.threads = 3
    loaders = {
        "PrefetchLoader, packed": (PrefetchLoader(packed, 8), 300),
        "PrefetchLoader, images": (PrefetchLoader(decoded, 8), 60),
        "DataLoader, packed": (torch.utils.data.DataLoader(packed, 8), 300),
    }
    found: Counter = Counter()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for name, (loader, size) in loaders.items():
            for _ in range(rounds):
                found[f"{name}: {struck(loader, size, rng)}"] += 1
    finally:
        signal.signal(signal.SIGINT, before)
    return found


def struck(loader, size: int, rng: random.Random) -> str:
    "What comes of one interrupt"
    timer = threading.Timer(rng.random() * 0.02, os.kill, (os.getpid(), signal.SIGINT))
    came = False
    try:
        timer.start()
        while timer.is_alive():
            for _ in loader:
                pass
        time.sleep(0.001)
    except KeyboardInterrupt:
        came = True
    start = time.monotonic()
    timer.join()
    seen = sum(len(y) for _, y in loader)
    if time.monotonic() - start > LIMIT:
        return "✗ the next loop hangs"
    if seen != size:
        return f"✗ the next loop has {seen} samples"
    left = [thread for thread in threading.enumerate() if thread.name == "PrefetchLoader"]
    for thread in left:
        thread.join(1)
    if any(thread.is_alive() for thread in left):
        return "✗ a thread is left"
    return "interrupted, then right" if came else "✗ the interrupt was swallowed"


# Swaps


def swaps(rounds: int, rng: random.Random, folder: Path) -> Counter:
    "Readers open a dataset and its pack while another process replaces both, again and again"
    root = folder / "data"
    write(edition(1), root)
    pack(root)
    stop, log = folder / "stop", folder / "log"

    def replace() -> None:
        number = 1
        while not stop.exists():
            number += 1
            write(edition(number), root, force=True)
            pack(root)

    writer = child(replace, log)
    found: Counter = Counter()
    try:
        for method in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context(method)
            queue = context.SimpleQueue()
            each = -(-rounds // 6)
            readers = [context.Process(target=read_on, args=(str(root), each, queue)) for _ in range(2)]
            for reader in readers:
                reader.start()
            for reader in readers:
                found += Counter({f"{method}: {what}": n for what, n in queue.get().items()})
                reader.join()
    finally:
        stop.touch()
        if ended(writer, 60) != 0:
            found[f"✗ the writer: {log.read_text()[-200:]}"] += 1
    return found


def read_on(root: str, rounds: int, queue) -> None:
    found: dict[str, int] = {}
    for i in range(rounds):
        try:
            partition, labels = load_notation(root, None if i % 2 else ".pt")
            number = {float(y) for y in labels.values()}
            if i % 2:
                dataset = PackedDataset(partition["train"], labels, root)
                values = {*dataset.__getitems__(range(9)).X.unique().tolist()}
            else:
                dataset = Dataset(partition["train"], labels, root)
                values = {value for X, _ in dataset.__getitems__(range(9)) for value in X.unique().tolist()}
            outcome = "one dataset" if values == number else f"✗ mixture of {values} and {number}"
        except DatasetError:
            outcome = "a sentence"
        except Exception as error:
            outcome = f"✗ {type(error).__name__}: {str(error)[:80]}"
        key = f"{'packed' if i % 2 else 'files'}, {outcome}"
        found[key] = found.get(key, 0) + 1
    queue.put(found)


# Special files


def pipe(file: Path) -> None:
    os.mkfifo(file)


def links_in_a_loop(file: Path) -> None:
    file.symlink_to(file)


def clear(file: Path) -> None:
    "Takes it away, whatever it is"
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    elif os.path.lexists(file):
        file.unlink()


SPECIAL = {
    "a pipe": pipe,
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "a folder": lambda file: file.mkdir(),
    "a link to nothing": lambda file: file.symlink_to(file.with_name("nothing")),
    "a link to itself": links_in_a_loop,
    "an empty file": lambda file: file.touch(),
}


def special(rounds: int, rng: random.Random, folder: Path) -> Counter:
    "Pipes, devices, folders and links in the place of each file that is read"
    root, log = folder / "data", folder / "log"
    root.mkdir()
    found: Counter = Counter()
    sources = folder / "sources"
    (sources / "cat").mkdir(parents=True)
    for i in range(3):
        numpy.save(sources / "cat" / f"{i}.npy", numpy.ones((1, 8, 8), numpy.float32))
    (sources / "list.csv").write_text("id,path,label\n" + "".join(f"{i},cat/{i}.npy,0\n" for i in range(3)))
    packed = [f"packed/{name}" for name in ("samples.npy", "labels.npy", "IDs.npy", "manifest.json")]
    staged = [".incoming/partition.json", ".incoming/suffixes.json"]
    commands = {
        "check": (["id-0.pt", "partition.json", "labels.json", "classes.json", *packed], root),
        "pack": (["id-0.pt", "partition.json", "labels.json", "packed/manifest.json"], root),
        "train": (["id-0.pt", "partition.json", "labels.json"], root),
        "train --packed": (["partition.json", "labels.json", *packed], root),
        "train --resume": (["../c.pt"], root),
        "prepare synthetic --samples 9 --shape 1 8 8 --force": (["partition.json", *staged], root),
        f"prepare table {sources / 'list.csv'} --force": (["list.csv", "cat/1.npy"], sources),
    }
    for words, (names, place) in commands.items():
        for name in names:
            for kind, make in SPECIAL.items():
                shutil.rmtree(root)
                clear(folder / "c.pt")
                write(edition(1), root)
                pack(root)
                file = place / name
                kept = file.read_bytes() if place == sources else None
                file.parent.mkdir(exist_ok=True)
                clear(file)
                make(file)
                if words.startswith("train"):
                    work = train(root, *words.split()[1:])
                else:
                    work = lambda words=words: command([*words.split(), "--data", str(root)])  # noqa: E731
                code = ended(child(work, log))
                what = f"{words.split()[0]}, {name}, {kind}"
                if code is None:
                    found[f"✗ {what}: hangs"] += 1
                elif error := bare(log):
                    found[f"✗ {what}: {error}"] += 1
                else:
                    found["a sentence" if code else "went through"] += 1
                if kept is not None:
                    clear(file)
                    file.write_bytes(kept)
    return found


PARTS = {  # and how many rounds of each
    "kills": (kills, 1000),
    "disks": (disks, 500),
    "mutations": (mutations, 2000),
    "interrupts": (interrupts, 1000),
    "loops": (loops, 1000),
    "swaps": (swaps, 10_000),
    "special": (special, 1),
}


def table(found: dict[str, Counter], seed: int) -> str:
    told = machine()
    lines = [
        "# Torture\n\nWritten by `make torture`; `benchmarks/torture.py` says what is done. No ✗ may "
        f"occur. Seed {seed}; {told['CPUs that this process may use']} shared CPUs, "
        f"{told['versions']}, {time.strftime('%Y-%m-%d')}.\n",
        "| part | times | outcome |\n|---|---:|---|",
    ]
    for part, outcomes in found.items():
        for outcome, n in sorted(outcomes.items()):
            lines.append(f"| {part} | {n:,} | {outcome.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--scale", type=float, default=1, help="how much of it (1)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    torch.set_num_threads(1)  # a forked child has none of the other threads
    # tqdm has one lock for all processes, which a child that is killed would keep, and a thread
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0
    print(f"seed {args.seed}", flush=True)
    found = {}
    for name in args.only:
        part, rounds = PARTS[name]
        start = time.monotonic()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            rng = random.Random(f"{args.seed} {name}")
            place = Path(folder).resolve()
            outcomes = part(max(1, round(rounds * args.scale)), rng, place)
        # The folder is of this machine and gone by now; outcomes that differ in nothing else are one
        found[name] = Counter()
        for outcome, n in outcomes.items():
            found[name][outcome.replace(str(place), "FOLDER")] += n
        print(f"\n{name}, {time.monotonic() - start:.0f} s", flush=True)
        for outcome, n in sorted(found[name].items()):
            print(f"{n:7,}  {outcome}", flush=True)
    if args.scale == 1 and args.only == list(PARTS):
        RESULTS.write_text(table(found, args.seed), encoding="utf-8")
    return int(any("✗" in outcome for outcomes in found.values() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
