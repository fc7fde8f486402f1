"""A PrefetchLoader under the instruments that take a DataLoader: time lines, stalls, parts, predictions."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, pairwise
from statistics import fmean

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from feedgpu import ConcatPacked, PackedDataset, PrefetchLoader, measure
from feedgpu.images import ImageDataset
from feedgpu.measure import diagnosis, loaders, recorder, sample_parts, stalls
from feedgpu.measure.page_cache import NotCold, evict, resident
from feedgpu.measure.parts import Parts, measure_parts
from feedgpu.measure.recorder import recording
from feedgpu.measure.simulation import rate, simulate
from feedgpu.measure.timeline import Span, Timeline, gathered, record
from feedgpu.measure.workloads import Costly, Counted
from feedgpu.prepare import pack
from my_classes import Dataset


def half(X):
    return X / 2


def slowly(X):
    time.sleep(0.01)
    return X


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
    before, seen = makers(), []
    timeline = record(loader, lambda X, y: seen.append((X, y)))
    assert makers() <= before
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


def test_threads_of_a_part_of_a_dataset_are_noted_too(folder):
    loader = PrefetchLoader(Subset(images(folder), range(8, 40)), batch_size=8)
    making = [span for span in record(loader).spans if span.what == "making"]
    assert Counter(span.batch for span in making) == {0: 8, 1: 8, 2: 8, 3: 8}
    assert all(span.who.startswith("ImageDataset_") for span in making)


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


def makers() -> set:
    return {thread for thread in threading.enumerate() if thread.name == "PrefetchLoader"}


@pytest.mark.gpu
def test_recorded_batches_arrive_on_the_device_as_others_do():
    seen = []
    loader = PrefetchLoader(Costly(12), batch_size=4, device="cuda")
    timeline = record(loader, lambda X, y: seen.append(X.device.type))
    assert seen == ["cuda"] * 3 and timeline.samples == 12
    assert sample_parts(loader, rounds=1)["make"].low > 0 and measure_parts(loader).within
    assert stalls(loader, lambda X, y: X.sum(), rounds=1, device="cuda").warm.median > 0


def test_an_error_leaves_no_thread():
    before = makers()
    with pytest.raises(ValueError, match="sample 5 is broken") as kept:
        record(PrefetchLoader(Broken(20), batch_size=2))
    with pytest.raises(ZeroDivisionError) as also:
        record(PrefetchLoader(Costly(20), batch_size=2), lambda X, y: 1 / 0)
    assert makers() <= before and kept.value is not also.value


def test_the_stalls_of_files_behind_a_prefetch_loader(dataset):
    root, partition, labels = dataset(training=24)
    seen = []
    loader = PrefetchLoader(Dataset(partition["train"], labels, root), batch_size=8, shuffle=True)
    found = stalls(loader, lambda X, y: seen.append(tuple(y.tolist())), rounds=2)
    assert found.warm.median > 0 and len(set(seen)) == 3, "the same batches in every epoch"
    assert "no file was seen" not in found.not_cold
    if found.cold:
        assert len(seen) == 3 * 3 * 2 and found.fetch_stall.low >= 0


@pytest.mark.parametrize("kind", [DataLoader, PrefetchLoader])
@pytest.mark.parametrize(
    "inside", [lambda d: d, lambda d: Subset(d, range(8)), lambda d: ConcatPacked([d, d])]
)
def test_the_files_of_a_pack_get_cold(pack_of, kind, inside, monkeypatch):
    evicted = []
    monkeypatch.setattr(measure.diagnosis, "evict", lambda files: evicted.append(set(files)))
    found = stalls(kind(inside(pack_of), batch_size=4), lambda X, y: None, rounds=2)
    assert found.cold and not found.not_cold
    assert evicted == [{file.resolve() for file in (pack_of.root / "packed").iterdir()}] * 2


def test_a_pack_in_use_leaves_the_page_cache(pack_of):
    files = diagnosis.files_of_packs(pack_of)
    before = [pack_of[i][0] for i in range(len(pack_of))]
    try:
        evict(sorted((pack_of.root).glob("id-*.pt")))
    except NotCold as error:
        pytest.skip(str(error))
    evict(files)
    assert resident(files) == 0
    assert all(torch.equal(pack_of[i][0], X) for i, X in enumerate(before)) and resident(files) > 0


def test_the_parts_of_a_sample_of_files(dataset):
    root, partition, labels = dataset()
    training_set = Dataset(partition["train"], labels, root, transform=slowly)
    parts = sample_parts(PrefetchLoader(training_set, batch_size=4), rounds=2)
    assert list(parts) == ["open and read", "make", "transform", "the rest", "collate"]
    assert parts["transform"].low >= 0.01 and parts["open and read"].low > 0


def test_the_parts_of_a_sample_of_a_pack(pack_of, monkeypatch):
    read = []
    monkeypatch.setattr(diagnosis, "warm", read.append)
    parts = sample_parts(PrefetchLoader(pack_of, batch_size=10), rounds=2)
    assert read == [[], []], "though all the pack is hardly more than its one batch"
    assert parts["make"].low > 0 and parts["transform"].high == parts["the rest"].high == 0
    changed = PackedDataset(["id-1", "id-2"], {"id-1": 0, "id-2": 1}, pack_of.root, transform=slowly)
    parts = sample_parts(PrefetchLoader(changed, batch_size=2), rounds=1)
    assert parts["transform"].low >= 0.01 > parts["the rest"].high


@pytest.mark.parametrize("kind", [DataLoader, PrefetchLoader])
@pytest.mark.parametrize("inside", [lambda d: d, lambda d: Subset(d, range(40))])
def test_the_parts_of_an_image_are_those_of_one_thread(folder, kind, inside, monkeypatch):
    made_by, read = set(), ImageDataset.load

    def load(self, file, random=None):
        made_by.add(threading.current_thread())
        time.sleep(0.005)
        return read(self, file, random)

    monkeypatch.setattr(ImageDataset, "load", load)
    training_set = images(folder, threads=8)
    began = time.perf_counter()
    parts = sample_parts(kind(inside(training_set), batch_size=40), rounds=2)
    took = time.perf_counter() - began
    assert made_by == {threading.current_thread()} and training_set.threads == 8
    assert parts["make"].low + parts["open and read"].high >= 0.005
    # two rounds, and two before them
    assert 40 * 2 * sum(part.low for part in parts.values()) <= took


def test_calibration_finds_what_was_built_in():
    parts = measure_parts(PrefetchLoader(Costly(64, waiting=0.004), batch_size=4))
    assert parts.batch_size == 4 and len(parts.samples) == 32 and parts.within and parts.threads == 1
    assert 0.0036 <= fmean(parts.samples) and parts.cpu_share < 0.5
    assert parts.receiving == parts.starting == parts.arriving == parts.ending == 0 <= parts.copying
    computing = measure_parts(PrefetchLoader(Costly(32, computing=0.004), batch_size=4))
    assert computing.cpu_share > 3 * parts.cpu_share


def test_calibration_leaves_the_loader_alone_and_refuses_an_empty_one():
    loader = PrefetchLoader(Costly(8), batch_size=2)
    measure_parts(loader, batches=2)
    assert [y.tolist() for _, y in loader] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    with pytest.raises(ValueError, match="yields no batch"):
        measure_parts(PrefetchLoader(Costly(3), batch_size=4, drop_last=True))


@pytest.mark.parametrize("kind", [DataLoader, PrefetchLoader])
def test_threads_that_make_the_samples_at_once_are_counted(folder, kind, monkeypatch):
    "What each of them waits, all wait together"
    make = ImageDataset.__getitem__

    def slow(self, index):
        time.sleep(0.02)
        return make(self, index)

    monkeypatch.setattr(ImageDataset, "__getitem__", slow)
    parts = measure_parts(kind(images(folder, threads=4), batch_size=8)).alone
    assert parts.threads == 4 and fmean(parts.samples) >= 0.018 and parts.cpu_share < 0.9
    assert parts.making == fmean(parts.samples) / 4


def test_no_thread_waited_for_a_cpu_for_longer_than_its_samples_took(folder, monkeypatch):
    "A thread also waits before its samples and behind them, as for the answer how long it has waited."
    monkeypatch.setattr(recorder, "queued", count(0, 100).__next__)
    for recorded in recording(PrefetchLoader(images(folder), batch_size=8)):
        took = sum(end - start for _, what, start, end in recorded.notes.spans if what != "reading")
        assert 0 <= recorded.notes.queued_seconds <= took


PARTS = Parts([1.0], 0.0, batch_size=4, cpus=2, within=True)


def test_one_thread_is_simulated_as_a_worker_within_the_process():
    timeline = simulate(PARTS, workers=1, batches=5, step=1)
    assert timeline.seconds == 20 + 1 and {span.who for span in timeline.spans} == {"main", "PrefetchLoader"}
    assert rate(PARTS, workers=1) == 1 and rate(PARTS, workers=0, step=4) == 1 / 2
    assert simulate(PARTS, workers=0, batches=2, step=1).seconds == 2 * (4 + 1), "as a DataLoader would"
    for predict in (rate, simulate):
        with pytest.raises(ValueError, match="has one thread: give workers=1"):
            predict(PARTS, workers=2)


def test_samples_that_several_threads_make_take_a_share_of_the_time():
    waiting = replace(PARTS, threads=4)
    assert simulate(waiting, workers=1, batches=5).seconds == 5 and rate(waiting, workers=1) == 4
    computing = replace(waiting, cpu_share=1.0)
    assert simulate(computing, workers=1, batches=5).seconds == pytest.approx(10), "four threads, two CPUs"
    assert rate(computing, workers=1) == 2
    with pytest.raises(ValueError, match="threads of at least 1"):
        replace(PARTS, threads=0)


def test_an_epoch_is_predicted():
    "Half or double would be a fault of the model."
    loader = PrefetchLoader(Costly(96, waiting=0.005), batch_size=8)
    predicted = simulate(measure_parts(loader), workers=1, batches=12).rate
    assert 0.5 < record(loader).rate / predicted < 2


def test_the_picture_names_the_threads(monkeypatch):
    plt, names = pytest.importorskip("matplotlib.pyplot"), []
    from feedgpu.course import pictures

    def show():
        names.extend(label.get_text() for label in plt.gca().get_yticklabels())
        plt.close()

    monkeypatch.setattr(plt, "show", show)
    whos = ["ImageDataset_1", "PrefetchLoader", "ImageDataset_0"]
    spans = [Span("main", "waiting", 0, 0, 1), *(Span(who, "collating", 0, 0, 1) for who in whos)]
    pictures.gantt({"measured": Timeline(spans, 1.0, 4)}, "threads")
    assert names == ["main process", "PrefetchLoader", "ImageDataset 1", "ImageDataset 0"]
