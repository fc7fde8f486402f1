"""The time line: what is recorded, and that the loader delivers what it would have delivered."""

import json
import os
import time

import psutil
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torch.utils.data._utils.pin_memory import pin_memory

from feedgpu import DatasetError, EpochSampler, PrefetchLoader
from feedgpu.measure import loaders
from feedgpu.measure.loaders import first_batches, samples_in, similar
from feedgpu.measure.recorder import Recorded, recording
from feedgpu.measure.stand_in import Device
from feedgpu.measure.timeline import Span, Timeline, gathered, record
from feedgpu.measure.workloads import Costly
from feedgpu.prefetch import tensors
from my_classes import Dataset


class Broken(Costly):
    def __getitem__(self, index):
        if index == 5:
            raise ValueError("sample 5 is broken")
        return super().__getitem__(index)


class Stuck(Costly):
    def __getitem__(self, index):
        if index == 2:
            time.sleep(60)
        return super().__getitem__(index)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(4))


class Whole(TensorDataset):
    "Makes a batch at once"

    def __getitems__(self, indices):
        return [tuple(row) for row in zip(*(tensor[indices] for tensor in self.tensors), strict=True)]


def half(X):
    return X / 2


def children() -> set:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_run_is_recorded(dataset, workers):
    root, partition, labels = dataset(training=10)
    training_set = Dataset(partition["train"], labels, root, transform=half)
    loader = DataLoader(training_set, batch_size=4, num_workers=workers)
    seen = []
    timeline = record(loader, lambda X, y: seen.append((X, y)))

    for (X, y), (wanted, label) in zip(seen, loader, strict=True):
        assert torch.equal(X, wanted) and torch.equal(y, label)
    makers = {0: {"main"}, 1: {0}, 2: {0, 1}}[workers]
    assert {span.who for span in timeline.spans if span.what == "collating"} == makers
    count = {}
    for span in timeline.spans:
        count[span.what] = count.get(span.what, 0) + 1
        assert 0 <= span.start <= span.end <= timeline.seconds
    copies = {"copying": 3} if workers else {}
    assert count == {
        "starting": 1, "waiting": 4, "computing": 3,
        "making": 10, "reading": 10, "transforming": 10, "collating": 3,
    } | copies  # fmt: skip
    assert timeline.samples == 10
    # waiting and computing are the whole time of the main process
    known = timeline.total("starting", "waiting", "computing", who="main")
    assert known == pytest.approx(timeline.seconds, abs=0.02)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_is_made_at_once_is_one_making(workers):
    loader = DataLoader(Whole(torch.arange(6), torch.arange(6)), batch_size=4, num_workers=workers)
    timeline = record(loader)
    assert [span.batch for span in timeline.spans if span.what == "making"] == [0, 1]
    assert timeline.samples == 6


def test_reading_and_transforming_lie_within_a_sample(dataset):
    root, partition, labels = dataset(training=4)
    loader = DataLoader(Dataset(partition["train"], labels, root, transform=half), batch_size=2)
    spans = record(loader).spans
    for inner in (span for span in spans if span.what in ("reading", "transforming")):
        around = [s for s in spans if s.what == "making" and s.start <= inner.start and inner.end <= s.end]
        assert len(around) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda d: Subset(d, [3, 1, 0]),
        lambda d: ConcatDataset([d, d]),
        lambda d: TensorDataset(torch.arange(6), torch.arange(6)),
        lambda d: [(i, 2 * i) for i in range(5)],
    ],
    ids=["Subset", "ConcatDataset", "TensorDataset", "list"],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_any_dataset_can_be_recorded(dataset, make, workers):
    root, partition, labels = dataset()
    loader = DataLoader(make(Dataset(partition["train"], labels, root)), batch_size=2, num_workers=workers)
    seen = []
    timeline = record(loader, lambda X, y: seen.append((X, y)))
    for (X, y), (wanted, label) in zip(seen, loader, strict=True):
        assert torch.equal(X, wanted) and torch.equal(y, label)
    assert sum(span.what == "making" for span in timeline.spans) == timeline.samples == len(loader.dataset)


@pytest.mark.parametrize("method", torch.multiprocessing.get_all_start_methods())
def test_under_every_start_method(dataset, method):
    root, partition, labels = dataset()
    loader = DataLoader(
        Dataset(partition["train"], labels, root), 4, num_workers=1, multiprocessing_context=method
    )
    assert {span.who for span in record(loader).spans} == {"main", 0}


def test_the_dataset_and_the_loader_are_left_alone(dataset):
    root, partition, labels = dataset()
    training_set = Dataset(partition["train"], labels, root)
    loader = DataLoader(training_set, batch_size=4)
    record(loader)
    assert type(loader.dataset) is Dataset and vars(training_set).keys() == {
        "list_IDs", "labels", "root", "transform", "augment", "seed", "edition",
    }  # fmt: skip


def test_a_device_that_lags_behind_is_waited_for():
    device = Device(0.02, run_ahead=10)
    timeline = record(DataLoader(Costly(8), batch_size=2), device)
    assert timeline.seconds >= 4 * 0.02
    assert timeline.spans[-1].what == "computing"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_and_leaves_no_process(workers):
    before = children()
    with pytest.raises(ValueError, match="sample 5 is broken"):
        record(DataLoader(Broken(20), batch_size=2, num_workers=workers))
    assert children() <= before


def test_the_error_of_a_dataset_keeps_its_sentence(dataset):
    root, partition, labels = dataset()
    (root / "id-3.pt").unlink()
    loader = DataLoader(Dataset(partition["train"], labels, root), batch_size=4, num_workers=1)
    with pytest.raises(DatasetError, match="^sample 'id-3': .* there is no such file$"):
        record(loader)


def test_a_step_that_raises_leaves_no_process():
    before = children()
    with pytest.raises(ZeroDivisionError):
        record(DataLoader(Costly(20), batch_size=2, num_workers=2), lambda X, y: 1 / 0)
    assert children() <= before


def test_a_worker_that_hangs_ends_in_a_sentence():
    before = children()
    with pytest.raises(TimeoutError, match="no batch came for 1 s: a worker hangs"):
        record(DataLoader(Stuck(20), batch_size=2, num_workers=1), timeout=1)
    assert children() <= before


def test_what_cannot_be_recorded_is_refused():
    for wrong in (DataLoader(Stream()), [1, 2]):
        with pytest.raises(ValueError, match="only a DataLoader or PrefetchLoader over a dataset with __g"):
            record(wrong)


def test_a_similar_loader_has_all_settings_but_those_changed():
    sampler = EpochSampler(10, seed=3)
    loader = DataLoader(Costly(10), batch_size=3, sampler=sampler, drop_last=True, num_workers=2, timeout=7)
    other = similar(loader, num_workers=0)
    assert (other.batch_size, other.drop_last, other.num_workers, other.timeout) == (3, True, 0, 0)
    assert other.sampler is sampler
    names = {name for name in vars(loader) if not name.startswith("_")} - {"batch_sampler"}
    again = similar(loader)
    assert {name: getattr(again, name) for name in names} == {name: getattr(loader, name) for name in names}

    given = DataLoader(Costly(10), batch_sampler=[[0, 1], [2]])
    assert [y.tolist() for _, y in similar(given)] == [[0, 1], [2]]
    with pytest.raises(ValueError, match="batch_sampler of this loader decides"):
        similar(given, batch_size=4)
    alone = DataLoader(Costly(3), batch_size=None)
    assert [y for _, y in first_batches(alone, 2)] == [0, 1]
    assert [int(y) for y in first_batches(DataLoader(Stream(), batch_size=None), 2)] == [0, 1, 2, 3]


def test_samples_of_a_batch_are_counted_in_any_form():
    X = torch.zeros(5, 3)
    for batch in (X, [X, X], (X, torch.zeros(5)), {"X": X}, [[1, 2], X][1:], list("abcde"), [{"X": X}]):
        assert samples_in(batch) == 5
    assert samples_in(torch.tensor(1)) == samples_in("one") == 1
    assert samples_in([torch.zeros(3), torch.zeros(9), torch.zeros(4)]) == 3, "samples that do not stack"


def test_what_is_recorded_can_be_pinned_and_copied(monkeypatch):
    (recorded,) = recording(DataLoader(Costly(2), batch_size=2), num_workers=0)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda X: X)  # where there is no GPU it raises
    pinned = pin_memory(recorded)
    assert type(pinned) is Recorded and pinned.notes is recorded.notes and len(pinned.batch) == 2
    assert len(tensors(recorded)) == 2, "and PrefetchLoader finds what it is to copy to the device"


def test_a_trace_can_be_read_back(tmp_path):
    timeline = Timeline([Span("main", "waiting", 0, 0.0, 0.5), Span(1, "reading", 0, 0.1, 0.4)], 0.5, 1)
    timeline.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    drawn = [event for event in events if event["ph"] == "X"]
    assert [(e["name"], e["ts"], round(e["dur"]), e["tid"]) for e in drawn] == [
        ("waiting", 0, 500_000, 0), ("reading", 100_000, 300_000, 2),
    ]  # fmt: skip
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert names == {0: "main process", 2: "worker 1"}


def test_a_batch_is_drawn_part_after_part():
    spans = [
        Span(0, "making", 0, 1.0, 2.0), Span(0, "reading", 0, 1.0, 1.7), Span(0, "transforming", 0, 1.7, 1.9),
        Span(0, "making", 0, 2.0, 3.0), Span(0, "reading", 0, 2.0, 2.9), Span(0, "collating", 0, 3.0, 3.5),
        Span("main", "waiting", 0, 0.0, 3.5),
    ]  # fmt: skip
    drawn = gathered(Timeline(spans, 3.5, 2))
    flat = {key: [tuple(round(x, 9) for x in one) for one in of] for key, of in drawn.items()}
    assert flat == {
        (0, "reading"): [(1.0, 1.6)], (0, "transforming"): [(2.6, 0.2)], (0, "making"): [(2.8, 0.2)],
        (0, "collating"): [(3.0, 0.5)], ("main", "waiting"): [(0.0, 3.5)],
    }  # fmt: skip


def test_rates_and_shares():
    timeline = Timeline([Span("main", "waiting", 0, 0, 1), Span("main", "computing", 0, 1, 4)], 4.0, 8)
    assert timeline.rate == 2 and timeline.waiting_share == 0.25
    assert timeline.total("waiting", "computing") == 4
    assert Timeline().rate == Timeline().waiting_share == 0


def test_workers_do_not_print(capfd):
    record(DataLoader(Costly(8), batch_size=2, num_workers=2))
    out, err = capfd.readouterr()
    assert out == "" and err == "", os.linesep.join((out, err))


def test_a_copy_of_a_prefetch_loader_is_one():
    loader = PrefetchLoader(Costly(20), batch_size=4, shuffle=True)
    for copy in (similar(loader), first_batches(loader, 3)):
        assert type(copy) is PrefetchLoader and copy.dataset is loader.dataset
    copy = first_batches(loader, 3)
    assert [len(batch[0]) for batch in copy] == [4, 4, 4]
    alone = similar(loader, DataLoader)
    assert type(alone) is DataLoader and alone.sampler is loader.sampler


def test_a_copy_of_a_prefetch_loader_has_its_threads(monkeypatch):
    given = []

    class Threaded(PrefetchLoader):
        threads = 3

        def __init__(self, *args, threads=1, **settings):
            given.append(threads)
            super().__init__(*args, **settings)

    monkeypatch.setattr(loaders, "PrefetchLoader", Threaded)
    loader = Threaded(Costly(8))
    similar(loader), similar(loader, threads=2)
    assert given == [1, 3, 2]


def test_all_threads_have_a_row_in_a_trace(tmp_path):
    whos = ["main", 0, 3, "PrefetchLoader", "ImageDataset_0"]
    Timeline([Span(who, "making", 0, 0.0, 0.5) for who in whos], 0.5, 1).write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {e["args"]["name"]: e["tid"] for e in events if e["ph"] == "M"}
    assert names == {
        "main process": 0, "worker 0": 1, "worker 3": 4, "ImageDataset 0": 5, "PrefetchLoader": 6,
    }  # fmt: skip
