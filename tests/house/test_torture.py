"""A short form of benchmarks/torture.py: nothing of what must not occur does."""

import os
import re
import subprocess
import sys

import pytest
from syntax import ROOT

PARTS = {"kills": 0.02, "disks": 0.04, "mutations": 0.01, "interrupts": 0.03, "loops": 0.02}
PARTS |= {"swaps": 0.01, "special": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("part", PARTS)
def test_what_must_not_occur_does_not(part):
    command = [
        sys.executable,
        ROOT / "benchmarks" / "torture.py",
        "--only",
        part,
        "--scale",
        str(PARTS[part]),
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(map(int, re.findall(r"^ +(\d+)  ", done.stdout, re.MULTILINE))) >= 10
