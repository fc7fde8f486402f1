"""What this machine brings: CPUs, memory, disk, versions."""

import os
import platform
import shutil
from multiprocessing import get_start_method
from pathlib import Path

import psutil
import torch

from ..system import available_cpus


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
