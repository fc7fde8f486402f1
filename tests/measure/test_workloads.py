"""Samples of a known cost."""

import time

import pytest
import torch

from feedgpu.measure.workloads import Costly, Multiplied, Ready, compute


def test_a_sample_waits_and_computes_as_long_as_it_says():
    dataset = Costly(4, waiting=0.02, computing=0.03, shape=(3, 5, 7))
    began, used = time.perf_counter(), time.thread_time()
    X, y = dataset[3]
    assert time.perf_counter() - began >= 0.05
    assert 0.03 <= time.thread_time() - used < 0.045
    assert X.shape == (3, 5, 7) and X.dtype == torch.uint8 and y == 3


def test_computing_is_time_of_the_cpu():
    used = time.thread_time()
    compute(0.02)
    assert time.thread_time() - used >= 0.02


def test_they_end():
    assert len(list(Costly(3))) == 3
    batches = list(torch.utils.data.DataLoader(Ready(3, (4, 2)), batch_size=None))
    assert [tuple(batch.shape) for batch in batches] == [(4, 2)] * 3
    with pytest.raises(IndexError, match="no batch 3 among 3"):
        Ready(3, (4, 2))[3]


def test_samples_that_multiply_tell_the_threads_of_torch():
    assert list(Multiplied(3)) == [torch.get_num_threads()] * 3
