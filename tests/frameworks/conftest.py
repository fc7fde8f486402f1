"""The frameworks on a small packed dataset: each in one process, and in two that train together."""

import functools

import pytest
from processes import played
from samples import write_samples


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    "The folder of the dataset"
    return write_samples(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def play(root):
    "What became of each scene of a module, on each rank; each module is played once"
    return functools.cache(functools.partial(played, root))
