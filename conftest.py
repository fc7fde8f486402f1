"""What every run of the tests needs, whatever folder pytest is started in."""

import os
import signal
import tempfile

import pytest
from run_notebooks import NOISE_FILE, isolate_kernels

# A user's dataset may have 100,000 files: nothing to collect there.
collect_ignore = ["data"]


def pytest_configure(config):
    # In pyproject.toml this path would be looked for in the working directory.
    config.option.nbval_sanitize_with = str(NOISE_FILE)
    # Two processes that compute on the same CPUs then take turns, where torch's threads would spin and wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A shell lets what it starts in the background ignore Ctrl-C, and the tests' own processes would, too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    isolate_kernels(folder.name)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch  # slow to import, and most tests do without it here

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
