"""What is asked of the answer to chapter 11's exercise; verdicts.py says what becomes of it."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import torch

from ..verdicts import exercise, short

NAMES = ("crop", "mirror", "brightness")
ID_LIST = [f"shell/{number * 37 % 101}" for number in range(22)]  # of no order that an index would have
EPOCHS = 3


@exercise(seconds=120)
def repeatable(answer):
    "each number follows from seed, epoch and ID, here, in workers and in another process; none repeats"
    script = Path(answer).resolve()
    if re.search(r"^raise NotImplementedError", script.read_text(encoding="utf-8"), re.MULTILINE):
        raise NotImplementedError
    module = imported(script)

    def run(list_IDs=ID_LIST, seed=0, num_workers=0, first=0, last=EPOCHS):
        return drawn(module.epochs(list(list_IDs), seed, num_workers, first, last), list_IDs, first, last)

    try:
        workers = run(num_workers=2)
        alone, other_seed = run(), run(seed=1)
        others = {
            "when the same run is made again": (
                run(num_workers=2),
                "nobody seeds them, or an index has no epoch: EpochSampler sends it, shuffle=True does not",
            ),
            "without workers": (alone, "it depends on who draws, and on how many were drawn before"),
            "begun at epoch 2": (run(num_workers=1, first=2), "it depends on what was drawn before"),
            "with the same IDs in another order": (
                run(ID_LIST[::-1]),
                "it follows from the index, not from the ID",
            ),
        }
        faults = faults_of(workers, other_seed, others)
        if not faults:
            why = "hash() of a string differs there; hashed_seed does not"
            faults = faults_of(workers, other_seed, {"in another process": (in_another_process(script), why)})
    except ValueError as error:
        return str(error)
    if faults:
        return ". ".join(faults)
    if len({numbers for numbers in workers.values()} | {(n,) for one in workers.values() for n in one}) != (
        len(workers) + len(NAMES) * len(workers)
    ):
        return (
            "the three numbers of a sample are not three: two generators with one seed begin with the same "
            "number. Make one generator for each visit, and draw from it three times"
        )
    orders = {epoch: [ID for at, ID in alone if at == epoch] for epoch in range(EPOCHS)}
    if orders != {epoch: [ID for at, ID in workers if at == epoch] for epoch in range(EPOCHS)}:
        return "the draws are right, but the order of the samples differs between 0 and 2 workers: chapter 04"
    if len(set(map(tuple, orders.values()))) != EPOCHS:
        return (
            "the draws are right, but two epochs have the samples in the same order: they shall be shuffled"
        )


def imported(script: Path):
    "The module of a file, read anew, under the name by which workers can import it"
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    return module


def drawn(epochs, list_IDs, first: int, last: int) -> dict:
    "{(epoch, ID): its numbers}, in the order in which they came. Raises ValueError with the verdict."
    found = {}
    for epoch, batches in zip(range(first, last + 1), epochs, strict=False):
        for batch in batches:
            if not isinstance(batch, (list, tuple)) or len(batch) != 2:
                raise ValueError(f"expected batches (IDs, numbers), you gave {short(batch)}")
            IDs, numbers = batch
            if not isinstance(numbers, torch.Tensor) or tuple(numbers.shape) != (len(IDs), len(NAMES)):
                shape = tuple(numbers.shape) if isinstance(numbers, torch.Tensor) else short(numbers)
                raise ValueError(f"expected {len(IDs)}×{len(NAMES)} numbers for {len(IDs)} IDs, not {shape}")
            for ID, three in zip(IDs, numbers.tolist(), strict=True):
                if (epoch, ID) in found:
                    raise ValueError(f"epoch {epoch} has {ID!r} twice")
                found[epoch, ID] = tuple(three)
    wanted = {(epoch, ID) for epoch in range(first, last) for ID in list_IDs}
    if set(found) != wanted:
        missing, extra = sorted(wanted - set(found)), sorted(set(found) - wanted)
        said = f"{missing[0]} is missing" if missing else f"{extra[0]} is too much"
        raise ValueError(
            f"expected epochs {first} to {last - 1}, each with all {len(list_IDs)} IDs; of (epoch, ID) {said}"
        )
    return found


def faults_of(workers: dict, other_seed: dict, others: dict) -> list[str]:
    "A sentence for those of the three numbers that come more than once, or are others in another run"
    faults = {}
    for place, name in enumerate(NAMES):
        found = column(workers, place)
        runs = {run: (column(other, place), why) for run, (other, why) in others.items()}
        if fault := repeated(found, column(other_seed, place)) or unequal(found, runs):
            faults.setdefault(fault, []).append(name)
    return [f"{', '.join(names)}: {fault}" for fault, names in faults.items()]


def column(found: dict, place: int) -> dict:
    return {key: numbers[place] for key, numbers in found.items()}


def repeated(found: dict, other_seed: dict) -> str:
    "Which numbers come more than once, and what repeats them; nothing if none does"
    count = len(set(found.values()))
    if count < len(found):
        times = Counter(found.values())
        said = f"with 2 workers {len(found)} draws, {count} different"
        within = Counter((epoch, number) for (epoch, _), number in found.items()).most_common(1)[0][1] > 1
        first = {ID: number for (epoch, ID), number in found.items() if epoch == 0}
        if all(found[epoch, ID] == first[ID] for epoch, ID in found):
            return f"{said}: a sample draws the same in every epoch: nobody tells it of the next one"
        if within and max(times.values()) % 2 == 0:
            return f"{said}: both workers draw the same, each from a copy of one generator or from one seed"
        return f"{said}: other samples or epochs have the same seed, as a sum or a constant gives it"
    if shared := set(found.values()) & set(other_seed.values()):
        why = "the seed is not used" if len(shared) == len(found) else "as a sum with the epoch makes them"
        return f"runs with the seeds 0 and 1 share {len(shared)} of {len(found)} draws: {why}"
    return ""


def unequal(workers: dict, runs: dict) -> str:
    "Which of {run: (its numbers, why they may differ)} differs from the run with two workers, or nothing"
    for run, (found, why) in runs.items():
        if other := [key for key, number in found.items() if workers[key] != number]:
            epoch, ID = min(other)
            return (
                f"{len(other)} of {len(found)} draws differ {run}, such as that for {ID!r} in epoch {epoch}: "
                f"{why}"
            )
    return ""


def in_another_process(script: Path) -> dict:
    "{(0, ID): its numbers}: what epoch 0 draws in a Python of its own"
    code = (
        f"import sys; sys.path[:0] = {[str(script.parent), *filter(None, sys.path)]!r}\n"
        f"import {script.stem} as answer\n"
        f"for batches in answer.epochs({ID_LIST!r}, 0, 0, 0, 1):\n"
        "    for IDs, numbers in batches:\n"
        "        for ID, three in zip(IDs, numbers.tolist()):\n"
        "            print('drawn', ID, *map(repr, three))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "random"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    rows = [line.split()[1:] for line in said.stdout.splitlines() if line.startswith("drawn ")]
    if said.returncode or len(rows) != len(ID_LIST):
        reason = (said.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ValueError(f"in a Python of its own, without workers, your file ends in: {short(reason, 200)}")
    return {(0, ID): tuple(map(float, three)) for ID, *three in rows}
