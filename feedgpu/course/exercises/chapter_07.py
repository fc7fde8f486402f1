"""The exercise of chapter 07: the judge of a portable script."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ..verdicts import Right, exercise, short


@exercise(seconds=90)
def portable(answer):
    "the right sum under every start method of this machine, from a worker"
    script = Path(answer).resolve()
    source = script.read_text(encoding="utf-8")
    if re.search(r"^raise NotImplementedError", source, re.MULTILINE):
        raise NotImplementedError
    if not re.search(r"num_workers\W+[1-9]", source):
        return "expected a loader with a worker, but your script has no num_workers of 1 or more"
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
            with watched(runs) as seen:
                faults = {method: fault_of(run, 10 * sum(content)) for method, run in runs.items()}
        finally:
            for run in runs.values():
                end(run)
    for method in runs:
        if not faults[method] and method in FRESH and method not in seen[method]:
            faults[method] = (
                f"no worker was started by {method}: the loader's multiprocessing_context must be the method "
                "that the command names"
            )
    if any(faults.values()):
        told = {}
        for method, fault in faults.items():
            told.setdefault(fault or "right", []).append(method)
        said = ". ".join(f"{' and '.join(methods)}: {fault}" for fault, methods in told.items())
        hidden = [what for what, sign in STILL_THERE.items() if sign(source) and what not in said]
        return f"{said}. Your script also still has {' and '.join(hidden)}" if hidden else said
    ends = [f"{method} printed it and exited with {run.returncode}" for method, run in runs.items()]
    return Right(f"The expected sum is {10 * sum(content)}: {', '.join(ends)}")


def start_methods() -> list[str]:
    "The start methods of this system, but no fork on macOS, whose own libraries may crash after it"
    methods = multiprocessing.get_all_start_methods()
    return [method for method in methods if method != "fork" or sys.platform == "linux"]


# What the command line of a fresh process says, in which workers run or of which they are copies
FRESH = {"spawn": "spawn_main", "forkserver": "multiprocessing.forkserver"}


@contextmanager
def watched(runs: dict[str, subprocess.Popen]) -> Iterator[dict[str, set[str]]]:
    """For each run the start methods of which a process was seen below it, during the block.

    A fresh Python imports torch before it works, for a second or so: it cannot be missed.
    """
    seen: dict[str, set[str]] = {method: set() for method in runs}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for method, run in runs.items():
                with suppress(psutil.Error):
                    for child in psutil.Process(run.pid).children(recursive=True):
                        with suppress(psutil.Error):
                            command = " ".join(child.cmdline())
                            seen[method] |= {name for name, sign in FRESH.items() if sign in command}

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def fault_of(run: subprocess.Popen, expected: int, seconds: float = 60) -> str:
    "What went wrong in a script's run, in a sentence, or an empty string"
    try:
        said, complaints = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no answer after {seconds:.0f} s, so a worker probably hangs"
    number = said.strip().rpartition("\n")[2]
    if run.returncode == 0 and number_in(number) == expected:
        return ""
    if run.returncode == 0:
        fault = f"expected {expected}, it printed {short(number)}"
        if expected == 10 * number_in(number):
            fault += ", so scale is 1 in the worker: it imports the file, and does not run what is below "
            fault += '`if __name__ == "__main__":`. Give scale to the dataset'
        return fault
    for sign, sentence in SIGNS.items():
        if re.search(sign, complaints):
            return sentence
    told = re.findall(r"^\w[\w.]*(?:Error|Exception)\b.*", complaints, re.MULTILINE)
    told = [error for error in told if not re.search("Caught|exited unexpectedly", error)]
    return f"it ended in {short(told[-1] if told else complaints[-200:], 200)}"


def end(run: subprocess.Popen):
    "Ends a script and any workers that it left behind."
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    run.kill()
    run.communicate()


def number_in(text: str) -> int:
    "The first integer in a text, as in tensor(3), or 0"
    return int((re.findall(r"-?\d+", text) or [0])[0])


# Signs in the errors of a script that is not portable, and what each means. The first that fits is shown.
SIGNS = {
    r"bootstrapping phase": (
        "a fresh worker imports your file, and the file starts a worker again: put the lines that start "
        'workers under `if __name__ == "__main__":`'
    ),
    r"(?i)pickle '_io\.": (
        "an open file cannot be sent to a worker: store the file's name in the dataset, and open the file "
        "where the first sample is read"
    ),
    r"<lambda>": (
        "a worker finds a function by its name in a module, and a lambda has no name: give collate_fn a "
        "function with a name"
    ),
    r"(?:local object|<locals>)": (
        "a worker cannot find what is defined inside a function: define it at the top level of the file"
    ),
}

# Python shows one error at a time; without this a reader who repairs a different fault sees no progress.
STILL_THERE = {
    "a lambda": lambda source: re.search(r"\blambda\b", code_of(source)),
    "a start of workers without `if __name__ ==`": lambda source: "__main__" not in code_of(source),
}


def code_of(source: str) -> str:
    "A script without its comments"
    return re.sub("#.*", "", source)
