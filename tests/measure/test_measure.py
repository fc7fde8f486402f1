"""feedgpu.measure: rates and stalls of loops whose costs are built in. Times only where the gap is large."""

import json
import time

import psutil
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from feedgpu import PackedDataset, measure, read_sample
from feedgpu.measure import (
    Spread,
    alternate,
    because,
    data_stall,
    each,
    repeat,
    run_epoch,
    sample_parts,
    stalls,
)
from feedgpu.measure.diagnosis import files_opened
from feedgpu.measure.epoch import hold, replay
from feedgpu.measure.page_cache import NotCold
from feedgpu.measure.stand_in import Device
from feedgpu.measure.workloads import Costly
from feedgpu.prepare import pack
from my_classes import Dataset


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(8))


class Broken(Costly):
    def __getitem__(self, index):
        raise ValueError("nothing here")


class Stuck(Costly):
    def __getitem__(self, index):
        if torch.utils.data.get_worker_info():
            time.sleep(60)
        return super().__getitem__(index)


def nothing(*batch):
    pass


def children() -> set:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_a_loop_that_only_waits_and_one_that_never_does():
    slow = DataLoader(Costly(8, waiting=0.02), batch_size=2)
    assert data_stall(slow, nothing) > 0.9
    quick = DataLoader(TensorDataset(torch.zeros(8, 1)), batch_size=2)
    assert data_stall(quick, Device(0.05)) < 0.5


def test_as_many_batches_are_replayed_as_there_were():
    device = Device(0.001, run_ahead=2)
    data_stall(DataLoader(Costly(10), batch_size=2), device)
    assert len(device.ends) == 2 * 5


def test_a_host_that_runs_ahead_waits_while_the_device_has_no_stall():
    "The reason for replaying: the host's waiting is no measure of an asynchronous device."
    loader = DataLoader(Costly(20, waiting=0.02), batch_size=1)
    device = Device(0.04, run_ahead=50)
    meter = run_epoch(loader, device)
    host = sum(meter.waiting) / (sum(meter.waiting) + sum(meter.computing[:-1]))
    assert host > 0.9, "the host does little but wait"
    assert device.idle_share() < 0.5, "and the device has always something to do"
    assert meter.seconds >= 20 * 0.04, "the last steps belong to the epoch"


def test_the_meter_of_a_loop_is_its_wall_time():
    began = time.perf_counter()
    meter = run_epoch(DataLoader(Costly(10, waiting=0.01), batch_size=2), Device(0.02, run_ahead=3))
    wall = time.perf_counter() - began
    assert meter.seconds == pytest.approx(wall, abs=0.02)
    assert sum(meter.waiting) + sum(meter.computing) == pytest.approx(meter.seconds)


def test_what_can_be_gone_through_once_is_refused():
    with pytest.raises(ValueError, match="only once: give the loader"):
        data_stall(iter([(1, 2)]), nothing)


def test_a_loader_that_yields_nothing():
    empty = DataLoader(Costly(3), batch_size=4, drop_last=True)
    for measured in (data_stall, stalls):
        with pytest.raises(ValueError, match="yields no batch"):
            measured(empty, nothing)
    with pytest.raises(ValueError, match="yields no batch"):
        sample_parts(empty)


def test_no_more_is_held_than_allowed():
    batches = [torch.zeros(100, dtype=torch.uint8)] * 10
    assert len(hold(batches, most=250)) == 3
    assert len(hold(batches)) == 10
    assert list(replay(["a", "b"], 5)) == ["a", "b", "a", "b", "a"]


def test_the_stalls_of_files(dataset):
    root, partition, labels = dataset(training=24)
    training_set = Dataset(partition["train"], labels, root)
    seen = []

    def step(X, y):
        seen.append(tuple(y.tolist()))

    found = stalls(DataLoader(training_set, batch_size=8, shuffle=True), step, rounds=2)
    assert found.ingestion.median > 5 * found.warm.median  # nothing but a list to go through
    assert 0.5 < found.prep_stall.median <= 1 and found.waiting.median > 0.5
    assert len(set(seen)) == 3, "the same batches in every epoch"
    if found.cold:
        assert len(seen) == 3 * 3 * 2 and found.fetch_stall.low >= 0 and not found.not_cold
    else:
        assert found.not_cold and found.fetch_stall is None
    for word in ("ingestion rate", "prep stall", "cold rate", "first batch"):
        assert word in str(found)


def test_without_files_it_gives_the_first_two():
    found = stalls(DataLoader(Costly(8, waiting=0.002), batch_size=2), Device(0.001), rounds=1)
    assert found.cold is None and found.fetch_stall is None
    assert found.not_cold == "no file was seen to be opened when samples were read"
    assert "not measured: no file" in str(found)


def test_where_nothing_gets_cold_it_says_why(dataset, monkeypatch):
    root, partition, labels = dataset()

    def evict(files):
        raise NotCold("this disk is made of memory")

    monkeypatch.setattr(measure.diagnosis, "evict", evict)
    found = stalls(DataLoader(Dataset(partition["train"], labels, root), batch_size=4), nothing, rounds=2)
    assert found.cold is None and "not measured: this disk is made of memory" in str(found)


def test_batches_that_do_not_stack_have_stalls_too():
    samples = [torch.zeros(length) for length in (3, 9, 4, 5)]
    seen = []
    loader = DataLoader(samples, batch_size=2, collate_fn=list)
    found = stalls(loader, lambda *batch: seen.append([len(X) for X in batch]), rounds=1)
    assert found.warm.median > 0 and seen == [[3, 9], [4, 5]] * 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_has_stalls_too(workers):
    found = stalls(DataLoader(Stream(), batch_size=2, num_workers=workers), Device(0.001), rounds=1)
    assert found.warm.median > 0


def test_a_dataset_that_raises_and_one_that_hangs_leave_no_process():
    before = children()
    with pytest.raises(ValueError, match="nothing here"):
        stalls(DataLoader(Broken(8), batch_size=2, num_workers=1), nothing)
    with pytest.raises(TimeoutError, match="no batch came for 1 s"):
        stalls(DataLoader(Stuck(8), batch_size=2, num_workers=1), nothing, timeout=1)
    with pytest.raises(ZeroDivisionError):
        stalls(DataLoader(Costly(8), batch_size=2, num_workers=1), lambda *batch: 1 / 0)
    assert children() <= before


def test_the_files_that_samples_open_are_found(dataset, tmp_path):
    root, partition, labels = dataset()
    this = json.__file__  # a file of Python's own is no sample
    with files_opened() as files:
        read_sample(root / "id-1.pt")
        open(root / "labels.json").close()
        open("/dev/null").close()
        open(this).close()
    assert files == sorted([(root / "id-1.pt").resolve(), (root / "labels.json").resolve()])
    read_sample(root / "id-2.pt")
    assert len(files) == 2, "the block is over"


def twice_as_long(X):
    time.sleep(0.01)
    return X


def test_where_the_time_of_a_sample_goes(dataset):
    root, partition, labels = dataset()
    training_set = Dataset(partition["train"], labels, root, transform=twice_as_long)
    parts = sample_parts(DataLoader(training_set, batch_size=4, num_workers=1), rounds=2)
    assert list(parts) == [
        "open and read", "make", "transform", "the rest", "collate", "copy", "receive",
    ]  # fmt: skip
    assert parts["transform"].low >= 0.01
    assert max(parts, key=lambda name: parts[name].median) == "transform"
    assert parts["make"].median > 0 and parts["open and read"].median > 0
    pack(root)
    packed = sample_parts(DataLoader(PackedDataset(partition["train"], labels, root), batch_size=2), rounds=1)
    assert packed["open and read"].median < 5e-6, "the file of all samples is not read for one batch"
    costly = sample_parts(DataLoader(Costly(8, waiting=0.01), batch_size=2), rounds=1)
    assert costly["make"].median > 0.01, "without a method load all of a sample is one part"
    assert costly["open and read"].median < 0.001


def of(*values):
    return Spread.of(values)


def test_the_sentence_names_the_largest_part():
    found = measure.Stalls(of(100), of(50), of(25), of(0.5), of(0.1), of(0.5), of(0.5))
    said = because(found, {"open and read": of(1), "make": of(3)})
    assert said == (
        "The model waits for data: with free batches an epoch would take 50 % less. The largest part of a "
        "sample is 'make', 75 %. With cold files an epoch takes 2.0 times as long."
    )
    found = measure.Stalls(of(100), of(99), None, of(0), of(0.1), of(0.01), None, "no files")
    assert because(found, {"collate": of(1)}) == (
        "Data is not the limit: with free batches an epoch would take 1 % less."
    )


def test_a_spread_in_units():
    spread = Spread.of([0.5, 0.25, 0.75])
    assert f"{spread:s}" == "0.500 s (0.250–0.750 s)"
    assert f"{spread:ms}" == "500 ms (250–750 ms)"
    assert f"{spread:%}" == "≈ 50 % (≈ 25 to ≈ 75 %)"


def test_things_are_measured_in_turn():
    order = []

    def run(name):
        order.append(name)
        return len(order)

    found = alternate({"a": lambda: run("a"), "b": lambda: run("b")}, rounds=3)
    assert order == list("ababab")
    assert found == {"a": Spread(3, 1, 5), "b": Spread(4, 2, 6)}


def test_one_thing_repeated():
    values = iter([3, 1, 2])
    assert repeat(lambda: next(values), rounds=3) == Spread(2, 1, 3)


def test_a_ratio_says_whether_the_ranges_overlap():
    assert Spread(4, 3, 5).times(Spread(2, 1, 2.5)) == "2.0 ×"
    assert Spread(4, 3, 5).times(Spread(2, 1, 3)) == "2.0 × (the ranges overlap)"
    assert Spread(2, 1, 3).times(Spread(4, 3, 5)) == "0.5 × (the ranges overlap)"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_items(threads):
    done = []
    seconds = each(done.append, list(range(7)), threads)()
    assert sorted(done) == list(range(7)) and seconds > 0
