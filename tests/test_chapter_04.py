"""Chapter 04 says what a DataLoader adds when its workers cannot find a class of a notebook cell. To show it
there would take too many of the reader's seconds."""

import subprocess
import sys

CELL = """
import torch

class Mine(torch.utils.data.Dataset):
    def __len__(self):
        return 1
    def __getitem__(self, index):
        return index

next(iter(torch.utils.data.DataLoader(Mine(), num_workers=1, multiprocessing_context="spawn")))
"""


def test_the_worker_names_the_class_and_the_loader_only_the_worker():
    run = subprocess.run([sys.executable, "-c", CELL], capture_output=True, text=True, timeout=100)
    assert "AttributeError" in run.stderr and "'Mine'" in run.stderr
    last = run.stderr.strip().split("\n")[-1]
    assert last.startswith("RuntimeError: DataLoader worker (pid") and "exited unexpectedly" in last
