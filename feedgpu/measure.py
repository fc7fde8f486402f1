"""The measurements of the course: what this machine is, how an epoch's time is spent."""

import os
import platform
import shutil
from collections.abc import Callable, Iterable
from multiprocessing import get_start_method
from pathlib import Path

import psutil
import torch

from my_classes import Meter, available_cpus


def run_epoch(batches: Iterable, step: Callable, device="cpu") -> Meter:
    """Calls `step(*batch)` on every batch and returns the Meter of the loop, in seconds.

    `step` may be any function of a batch: the training of a model, or one that does nothing, to see how fast
    the batches alone can come.
    """
    meter = Meter(device)
    for batch in meter(batches):
        step(*batch)
    return meter


def training_step(model: torch.nn.Module, learning_rate: float = 0.003) -> Callable:
    """A function `step(local_batch, local_labels)` that trains `model` by one batch with Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    device = next(model.parameters()).device
    model.train()

    def step(local_batch, local_labels):
        loss = torch.nn.functional.cross_entropy(model(local_batch.to(device)), local_labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def data_stall(batches: Iterable, step: Callable, device="cpu") -> float:
    """Share of an epoch's time that would vanish if batches were free, 0 to 1.

    One epoch over `batches` as they come, then one over the same batches held in memory:
    1 - replayed / real. After DS-Analyzer (Mohan et al., VLDB 2021), which replays a cached batch. Unlike the
    waiting it also counts what the loading takes from the step, such as the CPUs that workers use.
    """
    real = run_epoch(batches, step, device).seconds
    held = list(batches)
    replayed = run_epoch(held, step, device).seconds
    return max(0.0, 1 - replayed / real)


def memory() -> int:
    """Bytes of memory that this process could have: the machine's, or its container's limit if less."""
    total = psutil.virtual_memory().total
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if Path(file).exists() and (limit := Path(file).read_text().strip()).isdecimal():
            total = min(total, int(limit))
    return total


def machine(folder=".") -> dict[str, str]:
    """What this machine can show: {what: in words}. `folder`: whose disk is looked at."""
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda, {torch.cuda.get_device_name()}"
    elif torch.backends.mps.is_available():
        device = "mps"
    return {
        "CPUs in the machine": str(os.cpu_count()),
        "CPUs that this process may use": str(available_cpus()),
        "threads of one torch operation": str(torch.get_num_threads()),
        "memory": f"{memory() / 1e9:.1f} GB",
        "free on this disk": f"{shutil.disk_usage(folder).free / 1e9:.0f} GB",
        "start method of workers": get_start_method(allow_none=False),
        "device": device,
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}",
    }
