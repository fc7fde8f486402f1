"""The stand-in device: a queue that runs beside its host. Orders and counts; times only as lower bounds."""

import time

import pytest

from feedgpu.measure.stand_in import Device, HoldsTheLock, KeepsCoresBusy


def test_steps_follow_one_another_on_the_device():
    device = Device(0.01, run_ahead=5)
    for _ in range(4):
        device()
    assert all(start >= end for start, end in zip(device.starts[1:], device.ends[:-1], strict=True))
    device.synchronize()
    assert time.perf_counter() >= device.ends[-1]


def test_the_host_runs_ahead_until_the_queue_is_full():
    device = Device(0.02, run_ahead=2)
    before = time.perf_counter()
    device(), device()
    ahead = time.perf_counter()
    device()  # the third waits for the first to end
    assert ahead < device.ends[1]
    assert time.perf_counter() >= device.ends[0] >= before + 0.02


def test_without_running_ahead_a_step_returns_when_it_is_done():
    device = Device(0.01)
    device("batch", "labels")
    assert time.perf_counter() >= device.ends[-1]


def test_it_uses_no_cpu():
    device = Device(0.1)
    before = time.process_time()
    device()
    assert time.process_time() - before < 0.05


def test_idle_is_what_lies_between_the_steps():
    device = Device(0.01)
    device.starts, device.ends = [0.0, 0.03], [0.01, 0.04]
    assert device.idle_share() == pytest.approx(0.5)
    assert Device(0.01).idle_share() == 0


@pytest.mark.parametrize("step", [HoldsTheLock, KeepsCoresBusy])
def test_the_others_use_the_cpu(step):
    before, began = time.process_time(), time.perf_counter()
    step(0.1)("batch")
    assert time.perf_counter() - began >= 0.1
    assert time.process_time() - before > 0.02  # much less than 0.1 only where others have the CPU


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="cannot be"):
        Device(-1)
    with pytest.raises(ValueError, match="cannot be"):
        Device(1, run_ahead=-1)
