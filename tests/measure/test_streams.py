"""The stand-in for a GPU keeps its books as a GPU would, and notices what a GPU does not tell.

With a CUDA device the same calls are made on it (marked gpu).
"""

import pickle
import threading
import time
from collections import UserDict
from statistics import median
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from feedgpu import PrefetchLoader, prefetch
from feedgpu.course import gpu_results
from feedgpu.measure import streams as gpu_module
from feedgpu.measure.streams import NO_WAIT, NOT_KEPT, Cuda, OnDevice, StandIn, the_gpu


@pytest.fixture
def gpu():
    return StandIn()


SLOW = 1e6  # bytes/s of a bus: a kilobyte takes a millisecond


# Copies and steps


def test_what_is_sent_arrives(gpu):
    X = torch.arange(6).view(2, 3)
    for sent in (gpu.send(X), gpu.send(gpu.pin(X)), gpu.send(gpu.pin(X), non_blocking=True)):
        assert isinstance(sent, OnDevice) and torch.equal(sent.values, X)
        assert (sent.shape, sent.dtype, sent.nbytes) == (X.shape, X.dtype, X.nbytes)
        assert torch.equal(gpu.fetch(sent), X)
    assert gpu.sent == 3 and gpu.races == []


@pytest.mark.parametrize(
    "X", [torch.tensor(7), torch.empty(0, 3), torch.ones(4, 4).t()[:2], torch.ones(3).bool()]
)
def test_any_tensor_can_be_sent(gpu, X):
    for sent in (gpu.send(X), gpu.send(gpu.pin(X))):
        assert torch.equal(sent.values, X) and sent.values.dtype == X.dtype


def test_a_copy_takes_as_long_as_the_bus_needs():
    gpu, X = StandIn(SLOW), torch.zeros(25_000)
    run = gpu.recorded(lambda: gpu.send(gpu.pin(X)))
    assert run.total("copying", who="bus") == pytest.approx(0.1)
    assert run.seconds >= 0.1


def test_only_a_copy_from_pinned_memory_comes_back_at_once():
    gpu, X = StandIn(SLOW), torch.zeros(50_000)
    pinned = gpu.pin(X)
    start = time.perf_counter()
    sent = gpu.send(pinned, non_blocking=True)
    assert time.perf_counter() - start < 0.1
    gpu.synchronize()
    assert time.perf_counter() - start >= 0.2
    gpu.compute(sent, 0.2)
    start = time.perf_counter()
    gpu.send(X[:1], non_blocking=True)  # pageable: it waits until the stream is done
    assert time.perf_counter() - start > 0.1
    start = time.perf_counter()
    gpu.send(X)  # and without non_blocking for the bus as well
    assert time.perf_counter() - start >= 0.2


def test_in_one_stream_all_is_done_in_turn_and_two_overlap(gpu):
    X = gpu.pin(torch.zeros(25_000))
    slow = StandIn(SLOW)

    def alternating(gpu, stream):
        def run():
            for _ in range(3):
                with gpu.stream(stream):
                    sent = gpu.send(gpu.pin(X), non_blocking=True)
                gpu.compute(sent, 0.1)

        return gpu.recorded(run).seconds

    assert alternating(slow, slow.current_stream()) >= 0.6
    run = alternating(slow, slow.Stream())
    assert 0.3 <= run < 0.6


def test_a_copy_back_is_there_when_it_has_been_waited_for(gpu):
    ones = gpu.send(torch.ones(1_000))
    gpu.compute(ones, 0.2)
    back = gpu.fetch(ones, non_blocking=True)
    assert back.sum() == 0
    gpu.synchronize()
    assert back.sum() == 1_000
    gpu.compute(ones, 0.1)
    assert gpu.fetch(ones).sum() == 1_000


def test_a_copy_back_does_not_hold_up_a_copy_to_the_device():
    gpu = StandIn(SLOW)
    X, other = gpu.send(torch.ones(3)), gpu.Stream()
    gpu.compute(X, 1.0)
    gpu.fetch(X, non_blocking=True)
    with gpu.stream(other):
        gpu.send(gpu.pin(torch.ones(3)), non_blocking=True)
    assert other.end < gpu.default.end - 0.5
    gpu.synchronize()


def test_rows_are_taken_on_the_device(gpu):
    X = torch.arange(12).view(4, 3)
    taken = gpu.take(gpu.send(X), gpu.send(torch.tensor([2, 0])))
    assert torch.equal(taken.values, X[[2, 0]]) and gpu.races == []


def test_pinned_memory_is_used_again_but_not_while_somebody_holds_it(gpu):
    places = {gpu.pin(torch.full((100,), i)).data_ptr() for i in range(5)}
    assert len(places) == 1
    held = [gpu.pin(torch.full((100,), i)) for i in range(5)]
    assert [X[0].item() for X in held] == [0, 1, 2, 3, 4]
    sent = [gpu.send(gpu.pin(torch.full((100,), i)), non_blocking=True) for i in range(5)]
    assert [X.values[0].item() for X in sent] == [0, 1, 2, 3, 4]


def test_each_thread_has_its_own_current_stream(gpu):
    stream, found = gpu.Stream(), []
    with gpu.stream(stream):
        thread = threading.Thread(target=lambda: found.append(gpu.current_stream()))
        thread.start()
        thread.join()
        assert gpu.current_stream() is stream
    assert found == [gpu.default] and gpu.current_stream() is gpu.default


# What it notices


def one_step(gpu, wait=True, keep=True, how="wait_event"):
    stream = gpu.Stream()
    with gpu.stream(stream):
        X = gpu.send(gpu.pin(torch.ones(3)), non_blocking=True)
        arrived = stream.record_event()
    if wait and how == "wait_event":
        gpu.current_stream().wait_event(arrived)
    elif wait and how == "wait_stream":
        gpu.current_stream().wait_stream(stream)
    elif wait:
        arrived.synchronize()
    if keep:
        X.record_stream(gpu.current_stream())
    gpu.compute(X, 0.001)
    return X


@pytest.mark.parametrize("how", ["wait_event", "wait_stream", "the host"])
def test_what_is_waited_for_is_no_race(gpu, how):
    one_step(gpu, how=how)
    assert gpu.races == []


def test_it_notices_a_batch_that_is_read_too_early(gpu):
    X = one_step(gpu, wait=False)
    assert gpu.races == [NO_WAIT]
    gpu.synchronize()
    gpu.compute(X, 0.001)
    assert gpu.races == [NO_WAIT]  # now it has arrived


def test_an_event_from_before_the_copy_does_not_help(gpu):
    stream = gpu.Stream()
    early = stream.record_event()
    with gpu.stream(stream):
        X = gpu.send(gpu.pin(torch.ones(3)), non_blocking=True)
    gpu.current_stream().wait_event(early)
    gpu.compute(X, 0.001)
    assert gpu.races == [NO_WAIT]


def test_it_notices_memory_that_goes_back_too_early(gpu):
    X = one_step(gpu, keep=False)
    del X
    assert gpu.races == [NOT_KEPT]


def test_what_was_fetched_may_be_dropped(gpu):
    X = one_step(gpu, keep=False)
    gpu.fetch(X)
    del X
    assert gpu.races == []


def test_memory_may_go_back_once_the_step_is_over(gpu):
    X = one_step(gpu, keep=False)
    gpu.synchronize()
    del X
    assert gpu.races == []
    X = one_step(gpu, keep=False)
    X.stream.wait_stream(gpu.current_stream())  # as CUDA semantics describes it
    del X
    assert gpu.races == []


# PrefetchLoader's way onto the device, which needs a GPU, run on the stand-in


@pytest.fixture
def on_the_stand_in(gpu, monkeypatch):
    def stream_on(device):
        stream = gpu.Stream()
        stream.device = device
        return stream

    cuda = SimpleNamespace(
        Stream=stream_on,
        set_device=lambda device: None,
        stream=gpu.stream,
        current_stream=lambda device: gpu.current_stream(),
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(PrefetchLoader, "_copied", lambda self, X: gpu.send(gpu.pin(X), non_blocking=True))
    kinds = torch.Tensor, OnDevice
    monkeypatch.setattr(
        prefetch, "tensors", lambda batch: [X for X in tree_leaves(batch) if isinstance(X, kinds)]
    )
    return gpu


class Numbers:
    "Ten numbers"

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index


class Rows:
    "Ten samples that are gathered at once"

    def __len__(self):
        return 10

    def __getitems__(self, indices):
        return [(torch.full((3,), float(i)), i) for i in indices]


@pytest.mark.parametrize("slow", [False, True])
def test_the_loader_sends_its_batches_safely(on_the_stand_in, slow):
    gpu, given = on_the_stand_in, []
    for X, y in PrefetchLoader(Rows(), 3, device="cuda"):
        gpu.compute(X, 0.02 * slow)
        gpu.compute(y, 0)
        given.append([X.values.tolist(), y.values.tolist()])
        assert X.stream is not gpu.current_stream()
    del X, y
    assert given == [[X.tolist(), y.tolist()] for X, y in DataLoader(Rows(), 3)]
    assert gpu.races == []


def test_the_host_runs_ahead_by_a_few_steps_only(on_the_stand_in):
    "A batch's memory is free only when its step has run"
    gpu, ahead = on_the_stand_in, []
    for X, _ in PrefetchLoader(Rows(), 1, device="cuda"):
        ahead.append(gpu.free["device"] - time.perf_counter())
        gpu.compute(X, 0.05)
    assert 0 < max(ahead) < 0.05 * (prefetch.BEHIND + 1)


def test_a_batch_without_a_tensor_is_refused(on_the_stand_in):
    with pytest.raises(TypeError, match="there is no tensor in this UserDict"):
        list(PrefetchLoader(Rows(), 3, collate_fn=UserDict, device="cuda"))


def test_a_loader_with_a_stream_can_be_copied(on_the_stand_in):
    loader = PrefetchLoader(Rows(), 3, device="cuda")
    assert len(list(loader)) == 4
    assert len(list(pickle.loads(pickle.dumps(PrefetchLoader(Numbers(), 3))))) == 4
    assert loader.__getstate__()["_stream"] is None and loader._stream is not None


def test_the_loader_keeps_its_stream(on_the_stand_in):
    "The allocator keeps memory by stream: a new one in every epoch would take new memory"
    loader = PrefetchLoader(Rows(), 3, device="cuda")
    assert len({X.stream for _ in range(3) for X, _ in loader}) == 1


@pytest.mark.parametrize(
    ("left_out", "notices"), [("stream.wait_event(copied)", NO_WAIT), ("X.record_stream(stream)", NOT_KEPT)]
)
def test_the_stand_in_would_notice_if_it_did_not(on_the_stand_in, left_out, notices):
    receive = {
        "stream.wait_event(copied)": lambda self, batch, copied: [
            X.record_stream(on_the_stand_in.current_stream()) for X in batch
        ],
        "X.record_stream(stream)": lambda self, batch, copied: on_the_stand_in.current_stream().wait_event(
            copied
        ),
    }
    with patch.object(PrefetchLoader, "_receive", receive[left_out]):
        for X, _ in PrefetchLoader(Rows(), 3, device="cuda"):
            on_the_stand_in.compute(X, 0.001)
        del X
    assert set(on_the_stand_in.races) == {notices}


# What was measured on a GPU


def test_stored_results_are_shown_with_their_date(tmp_path, capsys):
    gpu_results(tmp_path / "gpu.json")
    assert "No results are stored yet" in capsys.readouterr().out


def test_without_a_gpu_there_is_the_stand_in(monkeypatch):
    monkeypatch.setattr(gpu_module.torch.cuda, "is_available", lambda: False)
    assert isinstance(the_gpu(), StandIn)


# The same calls on a CUDA device


@pytest.mark.gpu
def test_the_same_on_a_device():
    gpu = the_gpu()
    assert isinstance(gpu, Cuda)
    X = torch.arange(6).view(2, 3)
    sent = gpu.send(gpu.pin(X), non_blocking=True)
    assert torch.equal(gpu.fetch(sent), X)
    assert torch.equal(gpu.fetch(gpu.take(sent, gpu.send(torch.tensor([1])))), X[[1]])
    runs = [gpu.recorded(lambda: gpu.compute(sent, 0.05)) for _ in range(3)]
    assert median(run.total("computing", who="device") for run in runs) == pytest.approx(0.05, rel=0.3)
    stream = gpu.Stream()
    with gpu.stream(stream):
        sent = gpu.send(gpu.pin(X), non_blocking=True)
        arrived = stream.record_event()
    gpu.current_stream().wait_event(arrived)
    sent.record_stream(gpu.current_stream())
    assert torch.equal(gpu.fetch(sent), X)
