"""A PrefetchLoader under the instruments that take a DataLoader: time lines, stalls, parts, predictions."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch.utils.data import DataLoader

from feedgpu import PackedDataset, PrefetchLoader
from feedgpu.images import ImageDataset
from feedgpu.measure import loaders
from feedgpu.measure.timeline import gathered, record
from feedgpu.measure.workloads import Costly, Counted
from feedgpu.prepare import pack
from my_classes import Dataset


def half(X):
    return X / 2


class Broken(Costly):
    def __getitem__(self, index):
        if index == 5:
            raise ValueError("sample 5 is broken")
        return super().__getitem__(index)


@pytest.fixture
def pack_of(dataset):
    root, partition, labels = dataset(training=10)
    pack(root)
    return PackedDataset(partition["train"], labels, root)


def test_the_thread_of_a_prefetch_loader_has_a_row_of_its_own(dataset):
    root, partition, labels = dataset(training=10)
    loader = PrefetchLoader(Dataset(partition["train"], labels, root, transform=half), batch_size=4)
    before, seen = threading.active_count(), []
    timeline = record(loader, lambda X, y: seen.append((X, y)))
    assert threading.active_count() == before
    for (X, y), (wanted, label) in zip(seen, loader, strict=True):
        assert torch.equal(X, wanted) and torch.equal(y, label)
    count = Counter((span.who, span.what) for span in timeline.spans)
    assert count == {
        ("main", "starting"): 1, ("main", "waiting"): 4, ("main", "computing"): 3,
        ("PrefetchLoader", "making"): 10, ("PrefetchLoader", "reading"): 10,
        ("PrefetchLoader", "transforming"): 10, ("PrefetchLoader", "collating"): 3,
    }  # fmt: skip
    assert all(0 <= span.start <= span.end <= timeline.seconds for span in timeline.spans)


def test_batches_that_are_made_ahead_are_made_while_the_step_computes():
    dataset = Counted(Costly(8))

    def step(X, y):  # ends when the next batch is there
        deadline = time.monotonic() + 60
        while dataset.made < min(8, y[-1] + 3) and time.monotonic() < deadline:
            time.sleep(0.001)

    spans = record(PrefetchLoader(dataset, batch_size=2), step).spans
    steps = [span for span in spans if span.what == "computing"]
    for span in (span for span in spans if span.what == "making" and span.batch):
        assert span.start < steps[span.batch - 1].end


@pytest.mark.parametrize("kind", [DataLoader, PrefetchLoader])
def test_a_pack_makes_its_batches_at_once_when_it_is_recorded(pack_of, kind):
    loader, seen = kind(pack_of, batch_size=4), []
    timeline = record(loader, lambda X, y: seen.append((X, y)))
    assert [span.batch for span in timeline.spans if span.what == "making"] == [0, 1, 2]
    for (X, y), (wanted, label) in zip(seen, loader, strict=True):
        assert torch.equal(X, wanted) and torch.equal(y, label)


def images(folder, threads=3, transform=None) -> ImageDataset:
    root, IDs, labels = folder
    made = ImageDataset(IDs, labels, root, 16, transform=transform)
    made.threads = threads
    return made


@pytest.mark.parametrize("order", [None, [3, 1, 3, 3, 0, 1, 3, 2, 3, 3]], ids=["each once", "some again"])
@pytest.mark.parametrize("kind", [DataLoader, PrefetchLoader])
def test_threads_that_decode_ahead_are_noted_for_the_right_batch(folder, order, kind, monkeypatch):
    noted = {}  # {(who, start): index}: what the threads themselves say
    make = ImageDataset.__getitem__

    def slow(self, index):
        noted.setdefault(threading.current_thread().name, []).append((time.perf_counter(), index))
        time.sleep(0.002)
        return make(self, index)

    monkeypatch.setattr(ImageDataset, "__getitem__", slow)
    loader = kind(images(folder), batch_size=4, sampler=order)
    timeline = record(loader, lambda X, y: time.sleep(0.01))
    spans = [span for span in timeline.spans if span.what == "making"]
    assert {span.who for span in spans} == noted.keys() <= {f"ImageDataset_{i}" for i in range(3)}
    for batch, wanted in enumerate(loader.batch_sampler):
        mine = [span for span in spans if span.batch == batch]
        found = []
        for who, of in noted.items():
            own = sorted((s for s in spans if s.who == who), key=lambda s: s.start)
            for span, (_, index) in zip(own, of, strict=True):  # each thread one sample after the other
                assert span.seconds >= 0.002
                found += [index] if span in mine else []
        assert sorted(found) == sorted(wanted)


def test_threads_that_decode_have_rows_and_the_maker_collates(folder):
    timeline = record(PrefetchLoader(images(folder), batch_size=8))
    drawn = gathered(timeline)
    assert {what for who, what in drawn if who == "PrefetchLoader"} == {"collating"}
    assert {what for who, what in drawn if str(who).startswith("ImageDataset")} == {"reading", "making"}
    for bars in (bars for (_, what), bars in drawn.items() if what == "reading"):
        # a thread does one thing at a time
        assert all(a + took <= b + 1e-9 for (a, took), (b, _) in pairwise(sorted(bars)))


def test_with_one_thread_the_maker_decodes_itself(folder):
    timeline = record(PrefetchLoader(images(folder, threads=1), batch_size=8))
    assert {span.who for span in timeline.spans if span.what == "making"} == {"PrefetchLoader"}


def test_images_with_a_transform_are_made_by_the_threads_too(folder):
    timeline = record(PrefetchLoader(images(folder, transform=half), batch_size=8))
    count = Counter(span.what for span in timeline.spans)
    assert count["transforming"] == count["making"] == 40


class Pooled(PrefetchLoader):
    "As a loader may: each sample by one of several threads"

    def __iter__(self):
        with ThreadPoolExecutor(2, "pool") as pool:
            for indices in self.batch_sampler:
                yield self.collate_fn(list(pool.map(self.dataset.__getitem__, indices)))


def test_samples_that_a_loader_makes_in_several_threads_are_told_apart(monkeypatch):
    monkeypatch.setattr(loaders, "PrefetchLoader", Pooled)
    timeline = record(Pooled(Costly(12, waiting=0.005), batch_size=4))
    making = [span for span in timeline.spans if span.what == "making"]
    assert Counter(span.batch for span in making) == {0: 4, 1: 4, 2: 4}
    assert {span.who for span in making} == {"pool_0", "pool_1"} and all(s.seconds >= 0.005 for s in making)


def test_an_error_leaves_no_thread():
    before = threading.active_count()
    with pytest.raises(ValueError, match="sample 5 is broken") as kept:
        record(PrefetchLoader(Broken(20), batch_size=2))
    with pytest.raises(ZeroDivisionError) as also:
        record(PrefetchLoader(Costly(20), batch_size=2), lambda X, y: 1 / 0)
    assert threading.active_count() == before and kept.value is not also.value
