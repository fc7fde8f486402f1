"""feedgpu/meter.py: the time of a loop, split into waiting and computing."""

import itertools
import signal
import time

import pytest
import torch

from feedgpu import Meter


def test_the_meter_splits_the_time(monkeypatch):
    clock = itertools.accumulate([0, 5, 1, 2, 1, 4])  # wait 5, compute 1, wait 2, compute 1, end 4
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    meter = Meter()
    assert list(meter("ab")) == ["a", "b"]
    assert meter.waiting == [5, 2, 4] and meter.computing == [1, 1]
    assert meter.seconds == 13 and meter.waiting_share == 11 / 13


def test_the_meter_accounts_for_the_wall_time():
    meter = Meter()
    start = time.perf_counter()
    for _ in meter(iter(range(3))):
        time.sleep(0.01)
    wall = time.perf_counter() - start
    assert len(meter.waiting) == 4 and len(meter.computing) == 3
    assert min(meter.computing) >= 0.01
    assert sum(meter.waiting) + sum(meter.computing) == pytest.approx(meter.seconds)
    assert meter.seconds <= wall


def test_the_meter_can_be_left_early_and_used_again():
    meter = Meter()
    assert meter.waiting_share == 0
    for _ in meter(range(3)):
        break
    assert len(meter.waiting) == 1
    assert list(meter([])) == [] and len(meter.waiting) == 1


def test_a_ctrl_c_while_workers_start_is_not_lost():
    class Starting:
        def __iter__(self):
            signal.raise_signal(signal.SIGINT)
            return iter("ab")

    with pytest.raises(KeyboardInterrupt):
        list(Meter()(Starting()))


@pytest.mark.gpu
def test_on_a_gpu_the_meter_sees_the_device_wait_and_not_the_host():
    x = torch.randn(4096, 4096, device="cuda")

    def slow(batches):
        for batch in range(batches):
            torch.cuda.synchronize()
            time.sleep(0.05)
            yield batch

    starved, fed = Meter("cuda"), Meter("cuda")
    for _ in starved(slow(10)):
        x @ x
    for _ in fed(range(10)):
        for _ in range(20):
            x @ x
    assert starved.waiting_share > 0.9 and fed.waiting_share < 0.1
