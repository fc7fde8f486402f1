"""What is asked of the answers to the exercises, chapter by chapter; verdicts.py says what becomes of it."""

import copy
import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy
import torch
from torch.utils.data import DataLoader

from feedgpu.gpu import OnDevice, StandIn
from feedgpu.measure import alternate, run_epoch
from feedgpu.predict import Parts, calibrate, simulate
from feedgpu.stand_in import Device
from feedgpu.timeline import Timeline, similar
from feedgpu.verdicts import Right, check, exercise, short
from feedgpu.workloads import Costly
from my_classes import describe

__all__ = ["check", "time_lines"]


@contextmanager
def told(what: str):
    "Says `what` was asked of an answer that raises."
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


# Chapter 00 · What can this machine show me?


@exercise
def waiting_share(answer):
    "the share of the whole time, also of an epoch that took none"
    for waiting, computing, expected in (
        ([1, 1], [2], 0.5),
        ([3.0], [], 1),
        ([0.5, 0.25], [0.75, 1.5], 0.25),
        ([], [], 0),
    ):
        asked = f"waiting {waiting} and computing {computing}"
        with told(f"for {asked}"):
            given = answer(list(waiting), list(computing))
        if not isinstance(given, (int, float)) or abs(given - expected) > 1e-9:
            why = "the whole is waiting and computing together" if waiting else "no time at all was spent"
            if isinstance(given, (int, float)) and abs(given - 100 * expected) < 1e-9:
                why = "yours is in percent, a share goes from 0 to 1"
            return f"expected {expected} for {asked}, you gave {short(given)}: {why}"


# Chapter 01 · The previous situation


@exercise
def batches(answer):
    "each sample once, whatever the number of samples and of a batch"
    pairs = [(n, size) for n in range(1, 41) for size in range(1, 13)]
    for n, size in [(1438, 64), (1000, 64), (128, 64), (5, 64), (0, 64), *pairs]:
        given = answer(n, size)
        if not hasattr(given, "__iter__"):
            return f"expected batches to loop over, you gave {short(given)}"
        indices, lengths = [], []
        for batch in itertools.islice(given, n + 1):  # n batches are the most, and an answer may be endless
            if not hasattr(batch, "__len__"):
                return f"expected a range or a list of indices for each batch, you gave {short(batch)}"
            indices += [int(index) for index in batch]
            lengths.append(len(batch))
        visits, said = Counter(indices), f"with n = {n:,} and batch_size = {size},"
        if missed := [index for index in range(n) if index not in visits]:
            return f"{said} {named(missed)} never visited: {why_missed(missed, n, size, lengths)}"
        if beyond := [index for index in visits if not 0 <= index < n]:
            return f"{said} index {max(beyond, key=abs):,} is visited, and has no sample: the last stop is n"
        if repeated := [index for index in visits if visits[index] > 1]:
            return f"{said} {named(repeated)} visited again: a batch begins where the one before ended"
        if lengths != (expected := [size] * (n // size) + [n % size] * (n % size > 0)):
            return f"{said} expected batches of {short(expected)} samples, you gave {short(lengths)}"


def named(indices: list[int]) -> str:
    "How many samples these are, and which comes first."
    if len(indices) == 1:
        return f"sample {indices[0]:,} is"
    return f"{len(indices):,} samples (the first: {min(indices):,}) are"


def why_missed(missed: list[int], n: int, size: int, lengths: list[int]) -> str:
    if missed != list(range(missed[0], n)):
        return "a batch begins where the one before ended"
    if len(lengths) >= -(-n // size) and max(lengths) == size:
        return "a range ends before its stop, so the last stop is n"
    if len(missed) < size:
        return "the last batch is smaller than the others, and has to be made too"
    return f"{len(lengths):,} batches of at most {max(lengths, default=0)} cannot reach the end"


# Chapter 02 · Which sample is where?


@exercise
def validator(answer):
    "all four faults where they were planted, and none in the sound dataset"
    sides = {f"id-{i}": "train" if i < 12 else "validation" for i in range(18)} | {"cats/no.7": "validation"}
    one_by_one = [
        {},
        {"both": ["id-3", "id-9"]},
        {"no label": ["id-2", "id-13"]},
        {"no file": ["id-4", "id-14"]},
        {"no class": {"id-5": "2", "id-7": -1, "id-15": 1.0}},
    ]
    all_at_once = {"both": ["id-0"], "no label": ["id-16"], "no file": ["id-8"], "no class": {"id-12": "0"}}
    for planted in [*one_by_one, all_at_once]:
        partition = {name: [ID for ID in sides if sides[ID] == name] for name in ("train", "validation")}
        partition["validation"] += planted.get("both", [])
        # A label, even a wrong one, and a file that no partition names are no fault.
        labels = {ID: i % 3 for i, ID in enumerate(sides)} | planted.get("no class", {})
        labels["id-99"] = "unknown"
        labels = {ID: y for ID, y in labels.items() if ID not in planted.get("no label", [])}
        files = [f"{ID}.pt" for ID in [*sides, "id-98"] if ID not in planted.get("no file", [])]
        with told(
            f"with these faults planted: {planted}" if planted else f"and one label is {labels['id-99']!r}"
        ):
            given = answer(copy.deepcopy(partition), dict(labels), [*files, "labels.json", "partition.json"])
        if not isinstance(given, dict):
            return f'expected a dictionary {{"both": IDs, "no label": IDs, …}}, you gave {short(given)}'
        for kind in all_at_once:
            if not isinstance(IDs := given.get(kind, []), (list, tuple, set, frozenset, dict)):
                return f'expected a list or set of IDs under "{kind}", you gave {short(IDs)}'
            expected = set(planted.get(kind, []))
            if missed := sorted(expected - set(IDs)):
                side = "both lists" if kind == "both" else sides[missed[0]]
                why = why_a_fault(kind, labels.get(missed[0]))
                return f'{missed[0]}, in {side}, is missing under "{kind}": {why}'
            if wrong := sorted(set(IDs) - expected, key=str):
                why = why_no_fault(kind, wrong[0], sides, labels)
                return f'you gave {short(wrong[0])} under "{kind}": {why}'


def why_a_fault(kind: str, label) -> str:
    return {
        "both": "the model would be tested on what it has learned",
        "no label": "training would end in an error at the batch that has it",
        "no file": "training would end in an error at the batch that has it",
        "no class": f"its label is {label!r}, and the loss takes classes 0, 1, 2, …, integers all",
    }[kind]


def why_no_fault(kind: str, ID, sides: dict, labels: dict) -> str:
    if ID not in sides:
        label = f"its label is {labels[ID]!r}, but " if kind == "no class" and ID in labels else ""
        return label + "no partition names it, so no epoch asks for it"
    if kind == "both":
        return f"it is in {sides[ID]} alone"
    if kind == "no file":
        return f"{ID}.pt is in files; an ID may hold / and dots"
    if ID not in labels:
        return "it has no label at all, which is another fault"
    return f"its label is {labels[ID]!r}" + (", a class like any other" if labels[ID] == 0 else "")


# Chapter 03 · The Dataset


@exercise
def swollen(answer):
    "all files that store more than their tensor shows, and neither the large nor the small ones that do not"
    shapes = [(1, 8, 8), (3, 16, 16), (3, 16, 2048)]  # the last, a panorama, is larger than any storage below
    planted = {"id-4": 50, "id-9": 2, "id-13": 50, "id-22": 2}  # ID: samples in its storage
    with tempfile.TemporaryDirectory() as folder:
        files, needed = {}, {}
        for i in range(30):
            ID = f"id-{i}"
            X = torch.zeros(planted.get(ID, 1), *shapes[i % 3 if ID not in planted else i % 2])[0]
            files[ID], needed[ID] = Path(folder) / f"{ID}.pt", X.nbytes
            torch.save(X, files[ID])
        given = answer(dict(files))
        sizes = {ID: file.stat().st_size for ID, file in files.items()}
    if not isinstance(given, (list, tuple, set, dict)):
        return f"expected a list of IDs, you gave {short(given)}"
    counts = f"expected {len(planted)} IDs, you gave {len(set(given))}"
    for ID in sorted(set(given) - set(planted), key=str):
        if ID not in files:
            return f"{counts}: {short(ID)} is none of the IDs"
        has = f"{ID} has {sizes[ID]:,} bytes for a tensor of {needed[ID]:,}"
        return f"{counts}: {has}, and its storage is no larger than that tensor"
    for ID in sorted(set(planted) - set(given)):
        stored = planted[ID] * needed[ID]
        return f"{counts}, without {ID}, whose tensor shows {needed[ID]:,} bytes of a storage of {stored:,}"


# Chapter 04 · The DataLoader


@exercise
def feed(answer):
    "every sample once an epoch, in an order that depends on the epoch and on nothing else"
    dataset = list(range(100, 127))
    epochs = seen(answer(dataset, 0))
    if isinstance(epochs, str):
        return epochs
    for number, epoch in enumerate(epochs, 1):
        samples = sum(epoch, [])
        twice, missed = len(samples) - len(set(samples)), len(set(dataset) - set(samples))
        if twice:
            return (
                f"expected 27 samples once, but epoch {number} repeats {twice} and misses {missed}: "
                "iter(loader) begins a new pass, so next(iter(loader)) is always a first batch"
            )
        if missed:
            return f"expected 27 samples, epoch {number} has {len(samples)}: where is the last, small batch?"
        if [len(batch) for batch in epoch] != [8, 8, 8, 3]:
            return f"expected batches of 8, 8, 8 and 3 samples, you gave {[len(batch) for batch in epoch]}"
    orders = [sum(epoch, []) for epoch in epochs]
    if dataset in orders:
        return f"expected a random order, epoch {orders.index(dataset) + 1} has that of the dataset"
    if orders[0] == orders[1] or orders[1] == orders[2] or orders[0] == orders[2]:
        return "expected a new order each epoch, two are equal: does set_epoch tell the sampler its epoch?"
    if seen(answer(dataset, 0)) != epochs:
        return "expected the same order at every call, a second call gave another: the order has no seed"
    others = seen(answer(dataset, 2))
    if isinstance(others, str):
        return f"right with no workers, but with 2: {others}"
    if others != epochs:
        wrong = 1 + [a == b for a, b in zip(epochs, others, strict=True)].index(False)
        return (
            f"expected the same order for 0 and 2 workers, epoch {wrong} differs: the generator also gives "
            "the workers' seed, but to persistent ones only once. Make the order from (seed, epoch)"
        )


def seen(epochs) -> list | str:
    "Three epochs as lists of lists of numbers, or what else they are."
    if not isinstance(epochs, (list, tuple)) or len(epochs) != 3:
        return f"expected a list of three epochs, you gave {short(epochs)}"
    try:
        return [[torch.as_tensor(batch).tolist() for batch in epoch] for epoch in epochs]
    except (TypeError, ValueError, RuntimeError):
        return f"expected each epoch as a list of the loader's batches, you gave {short(epochs[0])}"


# Chapter 05 · The script


class Batch(torch.Tensor):
    "Is a plain tensor once it was sent to a device: so a model can see whether it was."

    def to(self, *args, **kwargs):
        return self.as_subclass(torch.Tensor).to(*args, **kwargs)


class Probe(torch.nn.Module):
    "Says of each sample the class that is written in it; keeps how it was asked."

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.asked = []

    def forward(self, X):
        self.asked.append((self.training, isinstance(X, Batch), torch.is_grad_enabled()))
        return torch.nn.functional.one_hot(X[:, 0].long(), 4) * self.scale


@exercise
def evaluate(answer):
    "exact with a small last batch, in eval mode, on the device, without a graph, and the mode comes back"
    said = torch.tensor([[0], [1], [2], [3], [0], [1], [2], [3], [0]])
    labels = torch.tensor([0, 1, 3, 2, 0, 2, 3, 0, 0])  # right are 2 of 4, 1 of 4 and 1 of 1

    def collate(samples):
        return [torch.stack(part).as_subclass(Batch) for part in zip(*samples, strict=True)]

    samples = torch.utils.data.TensorDataset(said, labels)
    generator = torch.utils.data.DataLoader(samples, batch_size=4, collate_fn=collate)
    for training in (True, False):
        model = Probe().train(training)
        given = answer(model, generator, torch.device("cpu"))
        if len(model.asked) != 3:
            return f"expected the model to be asked about 3 batches, you asked it {len(model.asked)} times"
        in_train_mode, left_behind, with_graph = (any(was) for was in zip(*model.asked, strict=True))
        if in_train_mode:
            return (
                "expected a model in eval mode, you asked it in train mode, where a sample's answer "
                "depends on the others of its batch: model.eval() comes first"
            )
        if left_behind:
            return (
                "expected batches on the device, the model was given one that never went there: a model "
                "on a GPU refuses it; .to(device) returns the tensor to use"
            )
        if with_graph:
            return (
                "expected no graph, but gradients were on while the model answered: each batch's operations "
                "were kept for a backward() that never comes; torch.inference_mode() turns them off"
            )
        if not isinstance(given, (int, float, torch.Tensor)):
            return f"expected a number, you gave {short(given)}"
        if abs(given - 4 / 9) > 1e-6:
            mistakes = [
                (7 / 12, "that is the mean of the batches' means, where the last sample counts for four"),
                (4 / 12, "you divide by three full batches, but the last one holds 1 sample"),
                (4, "that is their number: divide it by that of the samples"),
                (400 / 9, "that is in percent"),
            ]
            why = [why for wrong, why in mistakes if abs(given - wrong) < 1e-4]
            why = why[0] if why else "add up right answers and samples"
            return f"expected 4 of 9 right answers, {4 / 9:.4f}, you gave {float(given):.4f}: {why}"
        if model.training != training:
            came, left = ("train", "eval") if training else ("eval", "train")
            return (
                f"the share is right, but a model that came in {came} mode was left in {left} mode: keep "
                "model.training before you change it, and give it back to model.train()"
            )


# Chapter 06 · Is the model waiting?


CAUSES = {
    1: "the device is the limit",
    2: "too few workers",
    3: "samples take too long to make",
    4: "the workers start in every epoch",
    5: "one slow sample holds up the line",
    6: "handing batches over takes too long",
}
LOOK = {  # of each time line its cause, and where that shows
    "A": (3, "neither worker ever rests; with both CPUs taken, what would a third worker get?"),
    "B": (1, "which row has no break after the first batch, and which rows have many?"),
    "C": (5, "for most of the time the workers rest; what else ends where the one long wait ends?"),
    "D": (2, "the only worker never rests; what does the second CPU do meanwhile?"),
    "E": (4, "once an epoch runs there is hardly a wait; what does each of the three begin with?"),
}


def time_lines() -> dict[str, Timeline]:
    "Five runs on a machine with two CPUs, simulated: the same on every machine"
    parts = Parts(
        [0.0010, 0.0012, 0.0011, 0.0014],
        cpu_share=1,
        collating=0.0006,
        copying=0.0004,
        receiving=0.0003,
        starting=0.004,
        arriving=0.012,
        ending=0.006,
        batch_size=8,
        cpus=2,
    )
    long = replace(parts, samples=[0.0025, 0.0028, 0.0031])
    short = replace(parts, samples=[0.0008, 0.0009, 0.0010])
    one_long = replace(parts, samples=[0.0010] * 159 + [0.11])
    slow_start = replace(parts, starting=0.008, arriving=0.035)
    return {
        "A": simulate(long, workers=2, batches=26, step=0.005),
        "B": simulate(short, workers=2, batches=22, step=0.014),
        "C": simulate(one_long, workers=2, batches=26, step=0.0115),
        "D": simulate(parts, workers=1, batches=30, step=0.0055),
        "E": in_turn([simulate(slow_start, workers=2, batches=6, step=0.008, seed=n) for n in range(3)]),
    }


def in_turn(epochs: list[Timeline]) -> Timeline:
    "One after another, as one run"
    whole, batches = Timeline(), 0
    for epoch in epochs:
        for span in epoch.spans:
            later = {"start": whole.seconds + span.start, "end": whole.seconds + span.end}
            whole.spans.append(replace(span, batch=batches + span.batch, **later))
        batches += 1 + max(span.batch for span in epoch.spans)
        whole.seconds, whole.samples = whole.seconds + epoch.seconds, whole.samples + epoch.samples
    return whole


@exercise
def causes(answer):
    "A has no CPU for a third worker, D one for a second; C waits for one sample, E for workers, B hardly"
    if not isinstance(answer, (list, tuple)) or len(answer) != len(LOOK):
        return f"expected five numbers, for A to E, you gave {short(answer)}"
    if strange := [number for number in answer if number not in CAUSES]:
        return f"expected numbers from 1 to {len(CAUSES)}, you gave {short(strange[0])}"
    right = sum(given == cause for given, (cause, _) in zip(answer, LOOK.values(), strict=True))
    for given, (line, (cause, where)) in zip(answer, LOOK.items(), strict=True):
        if given != cause:
            return f"{right} of 5 are right; look again at {line}: {where}"


# Chapter 07 · How is a worker born?


@exercise(seconds=90)
def portable(answer):
    "the right sum under every start method of this machine, from a worker"
    script = Path(answer).resolve()
    source = script.read_text(encoding="utf-8")
    if re.search(r"^raise NotImplementedError", source, re.MULTILINE):
        raise NotImplementedError
    if not re.search(r"num_workers\W+[1-9]", source):
        return "expected a loader with a worker, I see no num_workers of 1 or more in your script"
    content = bytes(range(3, 60))
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "numbers.bin").write_bytes(content)
        try:
            for method in start_methods():
                command = [sys.executable, script, method, "numbers.bin"]
                streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
                runs[method] = subprocess.Popen(
                    command, cwd=folder, text=True, start_new_session=True, **streams
                )
            faults = {method: fault_of(run, 10 * sum(content)) for method, run in runs.items()}
        finally:
            for run in runs.values():
                end(run)
    if any(faults.values()):
        told = {}
        for method, fault in faults.items():
            told.setdefault(fault or "right", []).append(method)
        said = ". ".join(f"{' and '.join(methods)}: {fault}" for fault, methods in told.items())
        hidden = [what for what, sign in STILL_THERE.items() if sign(source) and what not in said]
        return f"{said}. Behind that error waits {' and '.join(hidden)}" if hidden else said
    ends = [f"{method} printed it and ended with exit {run.returncode}" for method, run in runs.items()]
    return Right(f"Expected {10 * sum(content)}: {', '.join(ends)}")


def start_methods() -> list[str]:
    "Those that this system has and advises: macOS has fork too, but its own libraries may not survive it"
    methods = multiprocessing.get_all_start_methods()
    return [method for method in methods if method != "fork" or sys.platform == "linux"]


def fault_of(run: subprocess.Popen, expected: int, seconds: float = 60) -> str:
    "What went wrong when a script was run, in a sentence, or nothing"
    try:
        said, complaints = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no answer after {seconds:.0f} s, so a worker hangs"
    number = said.strip().rpartition("\n")[2]
    if run.returncode == 0 and number_in(number) == expected:
        return ""
    if run.returncode == 0:
        fault = f"expected {expected}, it printed {short(number)}"
        if expected == 10 * number_in(number):
            fault += ", so scale is 1 in the worker, which imports the file afresh: give it to the dataset"
        return fault
    for sign, sentence in SIGNS.items():
        if re.search(sign, complaints):
            return sentence
    told = re.findall(r"^\w[\w.]*(?:Error|Exception)\b.*", complaints, re.MULTILINE)
    told = [error for error in told if not re.search("Caught|exited unexpectedly", error)]
    return f"it ended in {short(told[-1] if told else complaints[-200:], 200)}"


def end(run: subprocess.Popen):
    "Ends a script and the workers that it may have left."
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    run.kill()
    run.communicate()


def number_in(text: str) -> int:
    "The first integer in a text, as in tensor(3), or 0"
    return int((re.findall(r"-?\d+", text) or [0])[0])


# What a script that is not portable says in its errors, and what that means. The first that fits is told.
SIGNS = {
    r"bootstrapping phase": (
        "a fresh worker imports your file, which starts a worker again: what starts them belongs under "
        '`if __name__ == "__main__":`'
    ),
    r"(?i)pickle '_io\.": (
        "an open file cannot be sent to a worker: keep its name in the dataset, and open it where the first "
        "sample is read"
    ),
    r"<lambda>": (
        "a function is sent by its name in a module, and a lambda has none: give collate_fn one that has"
    ),
    r"(?:local object|<locals>)": (
        "what is defined inside a function is not found by a worker: define it at the top level of the file"
    ),
}

# Python tells one error at a time, so a reader who begins with another fault would see no progress.
STILL_THERE = {
    "a lambda": lambda source: re.search(r"\blambda\b", code_of(source)),
    "a start of workers without `if __name__ ==`": lambda source: "__main__" not in code_of(source),
}


def code_of(source: str) -> str:
    "A script without what follows a #"
    return re.sub("#.*", "", source)


# Chapter 08 · How many workers?


@exercise(seconds=90)
def choose(answer):
    "each choice is within 15 % of the best measured rate, or within 30 % where the simulation errs as much"
    loaders = {
        "samples that wait for 8 ms": loader_of(Costly(64, waiting=0.008)),
        "12 samples that wait for 2 ms": loader_of(Costly(12, waiting=0.002)),
        "samples that compute for 2 ms": loader_of(Costly(96, computing=0.002)),
    }
    why = {
        "samples that wait for 8 ms": "a worker that waits needs no CPU, so more of them pay, until the step "
        "or their own start takes longer",
        "12 samples that wait for 2 ms": "each worker has to start, and the epoch is over before that pays",
        "samples that compute for 2 ms": "workers take work from the loop, until all CPUs are taken",
    }
    step = 0.004
    chosen = {}
    for name, loader in loaders.items():
        chosen[name] = answer(loader, step)
        if type(chosen[name]) is not int or not 0 <= chosen[name] <= 4:
            return f"{name}: expected a number of workers from 0 to 4, you gave {short(chosen[name])}"
    told = []
    for name, loader in loaders.items():
        rates, simulated = measured_choice(loader, step, chosen[name])
        if not near_enough(rates, chosen[name], simulated):
            again = answer(
                loader, step
            )  # others may have used the CPUs when it chose, or when it was measured
            if type(again) is int and 0 <= again <= 4 and again != chosen[name]:
                chosen[name] = again
                rates, simulated = measured_choice(loader, step, again)
        best, lost = max(rates, key=rates.get), f"≈ {100 * loses(rates, chosen[name]):.0f} %"
        if not near_enough(rates, chosen[name], simulated):
            return (
                f"{name}: you chose {chosen[name]} workers, {rates[chosen[name]]:,.0f} samples/s; {best} "
                f"give {rates[best]:,.0f} samples/s, so your choice loses {lost}. The simulation would have "
                f"chosen {simulated}. Why: {why[name]}"
            )
        yours = f"≈ {chosen[name]} workers gave {rates[chosen[name]]:,.0f} samples/s"
        told.append(f"{name}: {yours}, the best, ≈ {best}, {rates[best]:,.0f} samples/s, regret {lost}")
    return Right("Measured: " + "; ".join(told))


def measured_choice(loader: DataLoader, step: float, chosen: int) -> tuple[dict[int, float], int]:
    "The rates by number of workers, and the number that the simulation would have chosen"
    parts = calibrate(loader)
    foreseen = [simulate(parts, n, batches=len(loader), step=step).rate for n in range(5)]
    simulated = min(n for n in range(5) if foreseen[n] >= 0.95 * max(foreseen))
    rates = rates_of(loader, step, range(5), rounds=1)
    if loses(rates, chosen) > 0.15:  # a single round may have been disturbed
        rates = rates_of(loader, step, {chosen, simulated, max(rates, key=rates.get)}, rounds=3)
    return rates, simulated


def loader_of(dataset) -> DataLoader:
    "With one worker, so that it is known how workers are born: quickly, where the system can fork"
    context = "fork" if sys.platform == "linux" else None
    return DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context=context)


def rates_of(loader: DataLoader, step: float, numbers: Iterable[int], rounds: int) -> dict[int, float]:
    "{number of workers: samples/s of an epoch in which they start}, the median of so many rounds in turn"
    runs = {}
    for n in sorted(numbers):
        one = similar(loader, num_workers=n)
        runs[n] = lambda one=one: len(one.dataset) / run_epoch(one, Device(step)).seconds
    return {n: spread.median for n, spread in alternate(runs, rounds).items()}


def near_enough(rates: dict[int, float], chosen: int, simulated: int) -> bool:
    "Whether a choice is good, or hardly worse than the simulation's, which may err, but not by any amount"
    allowed = min(0.3, max(0.15, 0.05 + loses(rates, simulated)))
    return loses(rates, chosen) <= allowed


def loses(rates: dict[int, float], workers: int) -> float:
    "The share of the best rate that this number of workers gives away, 0 to 1"
    return 1 - rates[workers] / max(rates.values())


# Chapter 09 · What is the price of a file?


@exercise
def getitems(answer):
    "right for indices in any order, repeated and negative, an IndexError for others, no batch changes"
    values = numpy.random.default_rng(0).random((3_000, 64), numpy.float32)
    labels = numpy.arange(3_000)[::-1].copy()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        numpy.save(Path(folder, "rows.npy"), values)
        rows = numpy.load(Path(folder, "rows.npy"), mmap_mode="c")
        try:
            return fault_of_batches(answer, rows, labels, values) or speed_of(answer, rows, labels)
        finally:
            rows._mmap.close()


def fault_of_batches(answer, rows, labels, values) -> str | None:
    "What is wrong with the batches that an answer makes"
    asked = {
        "unsorted": [5, 0, 2_999, 3],
        "repeated": [7, 2, 7, 7],
        "negative": [-1, 4, -3_000],
        "one": [11],
        "in a row": [20, 21, 22, 23],
    }
    held = {}
    for kind, indices in asked.items():
        try:
            given = answer(rows, labels, list(indices))
        except IndexError as error:
            return (
                f"{indices} led to an IndexError, {error}; but each of them has a row: a negative index "
                "counts from the end"
            )
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            return f"expected (X, y) for {indices}, you gave {short(given)}"
        if wrong := [part for part in given if not isinstance(part, torch.Tensor)]:
            return f"expected two tensors, you gave {short(wrong[0])}: torch.from_numpy makes one of an array"
        X, y = given
        if tuple(X.shape) != (len(indices), 64) or X.dtype != torch.float32:
            return (
                f"expected X to be float32 of shape {len(indices)}×64 for {indices}, yours is {describe(X)}"
            )
        if tuple(y.shape) != (len(indices),):
            return f"expected {len(indices)} labels for {indices}, you gave {short(y)}"
        for place, index in enumerate(indices):
            if not numpy.array_equal(X[place].numpy(), values[index]):
                found = numpy.flatnonzero((values == X[place].numpy()).all(1))
                told = f"row {found[0]:,}" if len(found) else "a row that is none of them"
                why = {"unsorted": "the order is that of the indices", "negative": COUNTED_FROM_THE_END}
                why = why.get(kind, "an index asked for twice is two rows")
                return f"for {indices} place {place} has {told}, expected row {index % 3_000:,}: {why}"
            if y[place].item() != labels[index]:
                return (
                    f"for {indices} label {place} is {short(y[place].item())}, expected {labels[index]}: y "
                    "follows the same indices as X"
                )
        if numpy.shares_memory(X.numpy(), rows):
            return f"for {indices} X is a view of the map, so each page of it may wait for the disk: copy"
        held[kind] = X, X.clone()
    for kind, (X, before) in held.items():
        if not torch.equal(X, before):
            return (
                f"the batch of {asked[kind]} changed when a later one was made, and it was still held: "
                "memory may be used again only when nobody holds it"
            )
    for beyond in (3_000, -3_001):
        try:
            answer(rows, labels, [0, beyond])
        except IndexError:
            continue
        return (
            f"expected an IndexError for index {beyond:,} of 3,000 rows, you gave a batch: "
            'a wrong sample without a word. mode="clip" and mode="wrap" do that'
        )


COUNTED_FROM_THE_END = 'a negative index counts from the end; with mode="clip" it is row 0'


def speed_of(answer, rows, labels) -> str:
    "How many times as fast as row by row an answer is: a fault if that is no more than chance"
    batches = torch.randperm(3_000).split(64)[:40]

    def seconds(make) -> float:
        begin = time.perf_counter()
        for indices in batches:
            make(indices.tolist())
        return time.perf_counter() - begin

    ways = {
        "rows": lambda indices: torch.stack([torch.from_numpy(rows[index].copy()) for index in indices]),
        "take": lambda indices: torch.from_numpy(numpy.take(rows, indices, 0)),
        "yours": lambda indices: answer(rows, labels, indices),
    }
    found = alternate({name: lambda make=make: seconds(make) for name, make in ways.items()})
    times = found["rows"].low / found["yours"].low
    if times < 1.4:
        return (
            f"the values are right, at ≈ {times:.1f} times the speed of row by row: gather all rows at once"
        )
    said = f"It is ≈ {times:.1f} times as fast as row by row"
    if found["yours"].low > 2 * found["take"].low:
        said += f"; a copy of whole rows would be ≈ {found['rows'].low / found['take'].low:.1f} times as fast"
    return Right(said)


@exercise
def prefetched(answer):
    "the copy of the next batch is on its way when a batch is handed over, and nothing is read too early"
    batches = [[torch.full((2, 3), float(i)), torch.tensor([i, i + 1])] for i in range(7)]
    for after_each_step in (True, False):
        gpu, given, own = StandIn(), 0, 0
        handed = answer(iter(batches), gpu)
        if not hasattr(handed, "__next__"):
            return f"expected a generator, you gave {short(handed)}: hand a batch over with `yield`"
        for batch in handed:
            if given == len(batches):
                return f"expected {len(batches)} batches, you hand over more"
            if fault := fault_of_sent(batch, batches[given], given + 1, gpu):
                return fault
            given += 1
            sent = gpu.sent / 2
            if sent < min(given + 1, len(batches)):
                return (
                    f"batch {given} was handed over before batch {given + 1} was sent: a loop that waits for "
                    "its step would have it sent only afterwards"
                )
            if sent > given + 3:
                return f"{sent:.0f} batches were sent when batch {given} was handed over: at most three ahead"
            stream = gpu.current_stream()
            if stream is not gpu.default:
                return (
                    "your stream was still the current one when a batch was handed over, so that the steps "
                    "would be put there: `yield` after the `with gpu.stream(...)`, not in it"
                )
            if any(stream.clock.get(part.stream, 0) > max(one.written for one in batch) for part in batch):
                return (
                    f"the step on batch {given} has to wait for the copy of batch {given + 1}: wait for a "
                    "batch's own copy, when you hand it over"
                )
            for part in batch:
                gpu.compute(part, 0.001)
            if after_each_step:
                before = gpu.waited
                stream.synchronize()  # as .item() does
                own += gpu.waited - before
            del batch, part
        if given < len(batches):
            return f"expected {len(batches)} batches, you handed over {given}: the last ones are missing"
        if gpu.pageable:
            return (
                f"{gpu.pageable} of {gpu.sent} tensors were sent without gpu.pin: the host copies and waits"
            )
        if gpu.waited > own:
            return (
                f"the host waited {gpu.waited - own} times: send with non_blocking=True, and let the stream "
                "of the steps wait, not the host"
            )
        if gpu.races:
            return gpu.races[0]


def fault_of_sent(batch, expected: list, number: int, gpu: StandIn) -> str | None:
    "What is wrong with a batch that was handed over, apart from its time"
    if not isinstance(batch, (list, tuple)) or len(batch) != 2:
        return f"expected batch {number} as a list of two tensors on the device, you gave {short(batch)}"
    for part, values in zip(batch, expected, strict=True):
        if not isinstance(part, OnDevice):
            return f"a part of batch {number} is not on the device: gpu.send returns one that is"
        if not torch.equal(part.values, values):
            return f"batch {number} has other numbers than those it came with: is it the one that was due?"
        if part.stream is gpu.default:
            return (
                f"batch {number} was sent on the stream of the steps, where a copy waits for the step before "
                "it: gpu.Stream() makes another one"
            )
