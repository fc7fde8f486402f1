"""feedgpu/prefetch.py: the batches of DataLoader in their order, made by a thread that ends with its loop."""

import copy
import functools
import gc
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from feedgpu import DatasetError, EpochSampler, Meter, PackedDataset, PrefetchLoader, asked
from feedgpu.prepare import pack, pack_samples
from my_classes import Dataset

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Numbers(torch.utils.data.Dataset):
    "Sample i is a tensor of i; `broken` raises, `slow` takes its time"

    def __init__(self, size=100, broken=None, slow=0.0):
        self.size, self.broken, self.slow, self.asked = size, broken, slow, []

    def __len__(self):
        return self.size

    def __getitems__(self, indices):
        self.asked += indices
        time.sleep(self.slow)
        if self.broken in indices:
            raise DatasetError(f"sample 'id-{self.broken}' is torn")
        return [(torch.full((3,), i), i) for i in indices]


def running():
    return [thread for thread in threading.enumerate() if thread.name == "PrefetchLoader"]


@pytest.fixture(autouse=True)
def leaves_no_thread():
    yield
    gc.collect()
    assert not running()


def batches_of(loader):
    return [[X.clone() for X in batch] for batch in loader]


def equal(ones, others):
    pairs = [(a, b) for one, other in zip(ones, others, strict=True) for a, b in zip(one, other, strict=True)]
    return bool(pairs) and all(torch.equal(a, b) for a, b in pairs)


# The batches of DataLoader


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"batch_size": 7},
        {"batch_size": 7, "drop_last": True},
        {"batch_size": 1000, "num_workers": 0, "pin_memory": False},
        {"batch_size": 7, "sampler": [3, 3, 0, 99, 5]},
        {"batch_sampler": [[1, 2], [5], [2, 2, 2]]},
        {"batch_size": 7, "collate_fn": lambda samples: [torch.stack([X for X, _ in samples]).sum(0)]},
    ],
    ids=", ".join,
)
def test_batches_are_those_of_a_dataloader(how):
    loader = PrefetchLoader(Numbers(), **how)
    plain = DataLoader(Numbers(), **how)
    assert len(loader) == len(plain)
    assert equal(list(loader), list(plain)) and equal(list(loader), list(plain))


def test_random_orders_are_those_of_a_dataloader():
    def samplers():
        yield lambda: {"shuffle": True, "generator": torch.Generator().manual_seed(3)}
        yield lambda: {"sampler": EpochSampler(100, seed=3)}
        yield lambda: {  # which draws from torch's own generator, as the loader does not
            "sampler": WeightedRandomSampler([1.0] * 100, 50),
            "generator": torch.Generator().manual_seed(3),
        }

    for make in samplers():
        found = []
        for kind in (DataLoader, PrefetchLoader):
            torch.manual_seed(0)
            loader = kind(Numbers(), batch_size=8, **make())
            found.append(batches_of(loader) + batches_of(loader))
        assert equal(*found)


def order_of(loader):
    return torch.cat([labels for _, labels in loader]).tolist()


def test_a_sampler_that_draws_from_torchs_own_generator_is_all_that_does():
    sampler = WeightedRandomSampler([1.0] * 100, 50)
    torch.manual_seed(5)
    expected = [list(sampler) for _ in range(2)]
    loader = PrefetchLoader(Numbers(), 8, sampler=sampler)
    torch.manual_seed(5)
    assert [order_of(loader) for _ in range(2)] == expected


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"shuffle": True},
        {"shuffle": True, "generator": torch.Generator().manual_seed(2)},
        {"sampler": EpochSampler(100)},
        {"batch_sampler": [[1, 2], [3]]},
    ],
    ids=", ".join,
)
def test_the_random_numbers_of_the_model_are_left_alone(how):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    how = how if "batch_sampler" in how else how | {"batch_size": 8}
    loader = PrefetchLoader(Numbers(), **how)
    for _ in range(2):
        list(loader)
    for _ in loader:
        break
    assert torch.equal(torch.get_rng_state(), before)


def test_shuffling_is_repeatable_after_manual_seed():
    def epochs(seed):
        torch.manual_seed(seed)
        loader = PrefetchLoader(Numbers(), 8, shuffle=True)
        torch.rand(3)  # what else is drawn is nothing to it
        return [order_of(loader) for _ in range(2)]

    assert epochs(4) == epochs(4) != epochs(5)
    first, second = epochs(4)
    assert first != second and sorted(first) == sorted(second) == [*range(100)] != first


def test_shuffling_is_repeatable_with_a_generator_and_goes_on_where_it_stands():
    def epochs(kind, generator, many=2):
        loader = kind(Numbers(), batch_size=8, shuffle=True, generator=generator)
        return [order_of(loader) for _ in range(many)]

    ours, theirs = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    for _ in range(2):  # the second time from where the first has left them
        torch.manual_seed(0)
        found = epochs(PrefetchLoader, ours)
        assert found == epochs(DataLoader, theirs)
        assert torch.equal(ours.get_state(), theirs.get_state())
    assert found != epochs(PrefetchLoader, torch.Generator().manual_seed(7))


def test_many_epochs_of_a_packed_dataset(dataset):
    root, partition, labels = dataset(training=203, shape=(3, 8, 8))
    pack(root)
    files, rows = (kind(partition["train"], labels, root) for kind in (Dataset, PackedDataset))
    for put in (lambda one: one, lambda one: Subset(one, range(5, 150))):
        sampler = EpochSampler(len(put(rows)))
        loaders = [
            kind(put(one), 16, sampler=sampler) for kind, one in ((DataLoader, files), (PrefetchLoader, rows))
        ]
        for epoch in range(5):
            sampler.set_epoch(epoch)
            assert equal(*map(list, loaders))


def test_datasets_without_batches_will_do():
    X = torch.arange(20.0)
    assert equal(list(PrefetchLoader(TensorDataset(X), 6)), list(DataLoader(TensorDataset(X), 6)))


def test_it_passes_for_a_dataloader():
    loader = PrefetchLoader(numbers := Numbers(), batch_size=8, drop_last=True)
    assert loader.dataset is numbers and loader.batch_size == 8 and loader.drop_last
    assert loader.num_workers == 0 and len(loader.sampler) == 100
    meter = Meter()
    assert len(list(meter(loader))) == len(meter.computing) == 12
    assert not hasattr(loader, "no_such")


def test_kept_batches_stay_as_they_are(dataset):
    root, partition, labels = dataset(training=200)
    pack(root)
    rows = PackedDataset(partition["train"], labels, root)
    kept = list(PrefetchLoader(rows, 8))
    copies = [X.clone() for X, _ in kept]
    for _ in range(3):
        for X, _ in PrefetchLoader(rows, 8, shuffle=True):
            X.zero_()
    assert all(torch.equal(X, copy) for (X, _), copy in zip(kept, copies, strict=True))
    assert all(X.untyped_storage().nbytes() == X.nbytes for X, _ in kept)


def settled(numbers, many):
    "Waits until so many samples were asked for. Whether no more are, then, although there is time"
    while len(numbers.asked) < many:
        time.sleep(0.001)
    time.sleep(0.2)
    return len(numbers.asked) == many


def test_it_makes_batches_ahead_but_not_without_bound(monkeypatch):
    monkeypatch.setattr(asked, "PIECE", 1)
    numbers = Numbers(1000)
    iterator = iter(PrefetchLoader(numbers, batch_size=10))
    next(iterator)
    assert settled(numbers, 10 * asked.AHEAD)
    iterator.close()


@pytest.fixture
def packed(tmp_path):
    "100 samples of three integers and their targets, as a pack"
    return packed_numbers(tmp_path, lambda i: 3)


def packed_numbers(root, length):
    samples = [(str(i), torch.full((length(i),), i), i) for i in range(101)]
    partition, labels = pack_samples({"train": samples[:100], "validation": samples[100:]}, root)
    return PackedDataset(partition["train"], labels, root)


@pytest.fixture
def asks(packed, monkeypatch):
    "How many samples a pack is asked for, each time"
    found, gather = [], type(packed.pack).gather
    monkeypatch.setattr(type(packed.pack), "gather", lambda *how: found.append(len(how[1])) or gather(*how))
    return found


ORDERS = {
    "in their order": lambda: {},
    "shuffled": lambda: {"shuffle": True, "generator": torch.Generator().manual_seed(5)},
    "the last one left out": lambda: {"shuffle": True, "generator": torch.Generator(), "drop_last": True},
    "EpochSampler": lambda: {"sampler": EpochSampler(100, 3)},
    "with weights": lambda: {"sampler": EpochSampler(100, 3, weights=[1, 2] * 50)},
    "a share": lambda: {"sampler": EpochSampler(100, 3, rank=1, ranks=3)},
    "WeightedRandomSampler": lambda: {
        "sampler": WeightedRandomSampler([1.0] * 100, 77, generator=torch.Generator())
    },
    "half of them": lambda: {
        "sampler": RandomSampler(range(100), num_samples=51, generator=torch.Generator())
    },
    "a list": lambda: {"sampler": [3, 3, 0, 99, 5, -1, 8, 9, 7]},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("subset", [False, True])
def test_batches_that_are_gathered_together_are_those_of_a_dataloader(
    packed, asks, order, subset, monkeypatch
):
    "epoch after epoch, with what a generator has drawn"
    monkeypatch.setattr(asked, "PIECE", 3 * 7 * 24)  # three batches of seven
    dataset = Subset(Subset(packed, range(99, -1, -1)), [*range(50), *range(50)]) if subset else packed
    loader, plain = (make(dataset, 7, **ORDERS[order]()) for make in (PrefetchLoader, DataLoader))
    for _ in range(3):
        found = [[X.clone(), y.clone()] for X, y in loader]
        assert max(asks) == 21 or order == "a list"
        assert equal(found, plain)


def test_one_batch_comes_first_and_then_several_together(packed, asks, monkeypatch):
    monkeypatch.setattr(asked, "PIECE", 5 * 4 * 24)
    assert len(list(PrefetchLoader(packed, 4))) == 25
    assert asks == [4, 20, 20, 20, 20, 16]
    asks.clear()
    monkeypatch.setattr(asked, "MOST", 2)
    list(PrefetchLoader(packed, 4))
    assert asks == [4] + [8] * 12
    asks.clear()
    list(PrefetchLoader(packed, batch_sampler=[[1, 2], [3], [4, 5, 6], [7]]))
    assert asks == [2, 4, 1]


@pytest.mark.parametrize("kind", ["pack", "batch by batch", "threads"])
def test_a_batch_sampler_may_fill_one_list_again(packed, kind, monkeypatch):
    monkeypatch.setattr(asked, "PIECE", 2 * 4 * 24)

    class Reusing:
        def __iter__(self):
            one = []
            for start in range(0, 100, 4):
                one[:] = range(start, start + 4)
                yield one

        __len__ = lambda self: 25  # noqa: E731

    dataset, threads = (
        Numbers(slow=0.001) if kind == "batch by batch" else packed,
        2 if kind == "threads" else None,
    )
    loader = PrefetchLoader(dataset, batch_sampler=Reusing(), threads=threads)
    assert [y.tolist() for _, y in loader] == [[*range(start, start + 4)] for start in range(0, 100, 4)]


def test_batches_that_are_still_to_be_collated_are_made_one_by_one(packed, asks):
    "so that none waits for the collating of others, and whoever leaves does not either"
    collated = []

    def slowly(samples):
        collated.append(len(samples))
        time.sleep(0.05)
        return default_collate(samples)

    batches = iter(PrefetchLoader(packed, 4, collate_fn=slowly))
    next(batches)
    batches.close()
    assert set(asks) == {4} and len(collated) <= 3


def test_each_of_them_has_a_storage_of_its_own(packed, tmp_path):
    for X, y in list(PrefetchLoader(packed, 10))[3:5]:
        assert X.untyped_storage().nbytes() == X.nbytes and y.untyped_storage().nbytes() == y.nbytes
        X.zero_()
    for X, y in PrefetchLoader(packed, 10):
        assert torch.equal(X[:, 0], y)


def test_the_error_of_one_comes_after_the_batches_before_it(packed, asks):
    batches = iter(PrefetchLoader(packed, batch_sampler=[[0], [1, 2], [3], [4, 100], [5]]))
    assert [next(batches)[1].tolist() for _ in range(3)] == [[0], [1, 2], [3]]
    with pytest.raises(IndexError, match="100"):
        next(batches)


def test_a_sampler_that_fails_among_them(packed):
    def lists():
        yield from ([0, 1], [2, 3], [4, 5])
        raise RuntimeError("no more indices")

    class Batches:
        __iter__ = lambda self: lists()  # noqa: E731
        __len__ = lambda self: 9  # noqa: E731

    seen = []
    with pytest.raises(RuntimeError, match="no more indices"):
        for _, y in PrefetchLoader(packed, batch_sampler=Batches()):
            seen.append(y.tolist())
    assert seen == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("own", ["transform", "augment", "__getitem__", "__getitems__", "unequal", "threads"])
def test_what_is_no_row_of_the_pack_is_asked_for_batch_by_batch(packed, tmp_path, own):
    class Own(PackedDataset):
        if own == "__getitem__":

            def __getitem__(self, index):
                X, y = super().__getitem__(index)
                return X + 1, y

        if own == "__getitems__":

            def __getitems__(self, indices):
                return [(X + 1, y) for X, y in super().__getitems__(indices)]

    how = {"transform": lambda X: X + 1} if own == "transform" else {}
    how |= {"augment": lambda X, random: X + 1} if own == "augment" else {}
    more, threads = 1, None
    if own in ("unequal", "threads"):
        more, threads = 0, 3 if own == "threads" else None
    if own == "unequal":
        dataset = packed_numbers(tmp_path / "unequal", lambda i: 3 + i // 50)
    else:
        dataset = Own(list(map(str, range(100))), range(100), tmp_path, **how)
    assert own == "threads" or not dataset.gathers
    found = [(X, y) for X, y in PrefetchLoader(dataset, 10, threads=threads)]
    assert torch.equal(torch.cat([y for _, y in found]), torch.arange(100))
    assert all(torch.equal(X, (y + more)[:, None].expand_as(X)) for X, y in found)


# Threads


class Meeting(Numbers):
    "Whose samples are made only if so many of them are being made at once"

    def __init__(self, many, size=96):
        super().__init__(size)
        self.barrier = threading.Barrier(many, timeout=60)

    def __getitem__(self, index):
        self.barrier.wait()
        return torch.full((3,), index), index


@pytest.mark.parametrize(("threads", "batch_size"), [(2, 8), (8, 8), (32, 8), (6, 1)])
def test_so_many_threads_make_samples_at_once(threads, batch_size):
    "also more than a batch has samples"
    loader = PrefetchLoader(Meeting(threads), batch_size, threads=threads)
    assert loader.threads == threads and copy.copy(loader).threads == threads
    plain = [[torch.full((3,), i), torch.tensor(i)] for i in range(96)]
    assert equal(loader, DataLoader(plain, batch_size))


def test_threads_name_the_sample_that_is_unlike_the_others(dataset):
    root, partition, labels = dataset()
    torch.save(torch.zeros(1, 8, 8, dtype=torch.float64), root / "id-2.pt")
    training_set = Dataset(partition["train"], labels, root)
    with pytest.raises(DatasetError, match="'id-1' is float32 .*but 'id-2' is float64"):
        list(PrefetchLoader(training_set, 4, threads=2))
    list(PrefetchLoader(training_set, 1, threads=2))
    training_set.like = "id-1", training_set[0]
    for batch_size in (1, 4):
        with pytest.raises(DatasetError, match="'id-1' is float32 .*but 'id-2' is float64"):
            list(PrefetchLoader(training_set, batch_size, threads=2))


def test_an_error_in_a_thread_comes_after_the_batches_before_it(dataset):
    root, partition, labels = dataset()
    (root / "id-7.pt").unlink()
    batches = iter(PrefetchLoader(Dataset(partition["train"], labels, root), 3, threads=3))
    assert [len(next(batches)[1]) for _ in range(2)] == [3, 3]
    with pytest.raises(DatasetError, match="'id-7'.*there is no such file"):
        next(batches)


def test_whoever_leaves_early_leaves_no_thread_at_work():
    begun, may_go_on = [], threading.Event()

    class Slow(Numbers):
        def __getitem__(self, index):
            begun.append(index)
            if index >= 4:
                may_go_on.wait(60)
            return torch.zeros(1), index

    loader = PrefetchLoader(Slow(), 2, threads=2)
    batches = iter(loader)
    assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    threading.Timer(0.3, may_go_on.set).start()
    batches.close()
    loader._threads.pool.shutdown()
    assert len(begun) <= 6


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_that_cannot_be(threads):
    with pytest.raises(ValueError, match=f"threads must be at least 1, or None, but it is {threads}"):
        PrefetchLoader(Numbers(), 4, threads=threads)


# How it ends


def test_leaving_early_leaves_no_thread():
    for _ in PrefetchLoader(Numbers(slow=0.01), 5):
        break
    iterator = iter(PrefetchLoader(Numbers(), 5))
    next(iterator)
    assert len(running()) == 1
    del iterator
    gc.collect()
    assert not running()
    iter(PrefetchLoader(Numbers(), 5))  # begun by nobody


def test_leaving_does_not_wait_for_what_was_asked_for():
    numbers = Numbers(slow=0.3)
    for _ in PrefetchLoader(numbers, 5):
        break
    assert len(numbers.asked) <= 10


def test_an_error_of_the_dataset_arrives_with_its_ID():
    seen = 0
    with pytest.raises(DatasetError, match="'id-42' is torn"):
        for _ in PrefetchLoader(Numbers(broken=42), 5):
            seen += 1
    assert seen == 8


def test_an_error_of_a_sample(dataset):
    root, partition, labels = dataset()
    (root / "id-7.pt").write_bytes(b"")
    with pytest.raises(DatasetError, match=f"'id-7': {root}/id-7.pt"):
        list(PrefetchLoader(Dataset(partition["train"], labels, root), 5))


def test_an_error_in_the_loop():
    with pytest.raises(KeyError):
        for _ in PrefetchLoader(Numbers(), 5):
            raise KeyError
    gc.collect()


def test_an_error_of_the_sampler():
    def indices():
        yield 1
        raise ValueError("no more")

    class Sampler(torch.utils.data.Sampler):
        def __iter__(self):
            return indices()

    with pytest.raises(ValueError, match="no more"):
        list(PrefetchLoader(Numbers(), 1, sampler=Sampler()))


def test_the_end_of_an_iterator_in_the_dataset_does_not_end_the_epoch():
    class Ends(Numbers):
        def __getitems__(self, indices):
            raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(PrefetchLoader(Ends(), 5))


def test_two_iterators_at_once():
    loader = PrefetchLoader(Numbers(), 5)
    pairs = list(zip(loader, loader, strict=True))
    assert len(pairs) == 20 and all(torch.equal(a[0], b[0]) for a, b in pairs)


def test_workers_can_be_forked_while_it_runs(dataset):
    root, partition, labels = dataset(training=64)
    pack(root)
    rows = PackedDataset(partition["train"], labels, root)
    expected = list(DataLoader(rows, 8))
    iterator = iter(PrefetchLoader(rows, 8))
    first = next(iterator)
    assert equal(list(DataLoader(rows, 8, num_workers=2)), expected)
    assert equal([first, *iterator], expected)


def test_the_number_of_torchs_threads_is_left_alone():
    before = torch.get_num_threads()
    list(PrefetchLoader(Numbers(), 5))
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *found] == [before, before]


SCRIPT = """
import sys, time, threading
sys.path[:0] = [{root!r}, {tests!r}]
from test_prefetch import Numbers
from feedgpu import PrefetchLoader
iterator = iter(PrefetchLoader(Numbers(10**6, slow=0.01), 5))
next(iterator)
print("on", flush=True)
{then}
"""


def start(then):
    code = SCRIPT.format(root=str(ROOT), tests=str(HERE), then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "on\n"
    return process


def test_the_process_ends_while_an_iterator_is_alive():
    process = start("")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_ctrl_c_ends_it():
    process = start("""
try:
    for batch in iterator:
        pass
except KeyboardInterrupt:
    del iterator
    print(threading.active_count())
""")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "1\n", "")


# What it refuses


def test_arguments_that_cannot_be():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(TypeError, match="no IterableDataset"):
        PrefetchLoader(Stream())
    with pytest.raises(ValueError, match="give batch_size a number"):
        PrefetchLoader(Numbers(), batch_size=None)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="batch_size should be a positive integer"):
            PrefetchLoader(Numbers(), batch_size=wrong)
    with pytest.raises(TypeError, match="no argument workers"):
        PrefetchLoader(Numbers(), workers=2)
    with pytest.raises(ValueError, match="mutually exclusive"):
        PrefetchLoader(Numbers(), shuffle=True, sampler=[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [("worker_init_fn", print), ("timeout", 5), ("multiprocessing_context", "spawn")],
)
def test_what_would_change_something_in_workers_is_refused(name, value):
    said = f"PrefetchLoader has no workers, so {name} would have no effect: leave it out"
    with pytest.raises(ValueError, match=f"^{said}$"):
        PrefetchLoader(Numbers(), **{name: value})
    loader = PrefetchLoader(Numbers(), **{name: 0 if name == "timeout" else None})  # as they are by default
    with pytest.raises(ValueError, match=f"^{said}$"):
        setattr(loader, name, value)
    assert not getattr(loader, name)


def test_what_lightning_sets_to_seed_workers_is_taken():
    def pl_worker_init_function(worker_id, rank=None):
        raise AssertionError("there is no worker to be seeded")

    loader = PrefetchLoader(Numbers(), 8)
    loader.worker_init_fn = functools.partial(pl_worker_init_function, rank=1)
    assert equal(list(loader), list(DataLoader(Numbers(), 8)))


def test_what_only_changes_when_a_batch_comes_is_taken():
    how = {"num_workers": 4, "persistent_workers": True, "prefetch_factor": 2, "in_order": True}
    loader = PrefetchLoader(Numbers(), 8, pin_memory_device="", **how)
    assert equal(list(loader), list(DataLoader(Numbers(), 8))) and loader.num_workers == 0


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", torch.device("mps", 0)])
def test_a_device_that_is_neither_cuda_nor_the_cpu_is_refused(device):
    with pytest.raises(ValueError, match=f"CUDA devices alone: leave device='{device}' out, and copy each"):
        PrefetchLoader(Numbers(), 5, device=device)
    loader = PrefetchLoader(Numbers(), 5)
    with pytest.raises(ValueError, match=f"leave device='{device}' out"):
        loader.device = device
    assert loader.device == torch.device("cpu") and len(list(loader)) == 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("batch_size", 7), ("dataset", Numbers(3)), ("sampler", [1]), ("batch_sampler", [[1]])],
        *[("drop_last", True), ("persistent_workers", True)],
    ],
)
def test_an_attribute_that_would_have_no_effect_later_cannot_be_set(name, value):
    loader = PrefetchLoader(Numbers(), 8)
    with pytest.raises(ValueError, match=f"{name} attribute should not be set"):
        setattr(loader, name, value)
    assert getattr(loader, name) is not value and len(list(loader)) == 13


@pytest.mark.parametrize("name", ["shuffle", "generator"])
def test_the_order_cannot_be_changed_later(name):
    loader = PrefetchLoader(Numbers(), 8)
    with pytest.raises(ValueError, match=f"^{name} is fixed once the loader is made: make a new"):
        setattr(loader, name, torch.Generator())


def test_an_attribute_that_is_set_later_has_its_effect():
    loader = PrefetchLoader(Numbers(), 50)
    loader.collate_fn = len
    assert list(loader) == [50, 50] and loader.collate_fn is len
    loader.device = "cpu"
    assert loader.device == torch.device("cpu")


def test_a_copy_is_a_loader_of_its_own():
    loader = PrefetchLoader(Numbers(), 8, shuffle=True, generator=torch.Generator().manual_seed(3))
    sent, copied = pickle.loads(pickle.dumps(loader)), copy.deepcopy(loader)
    assert order_of(sent) == order_of(copied) == order_of(loader)
    assert copy.copy(loader).device == torch.device("cpu")


def test_nothing_to_load():
    assert list(PrefetchLoader(Numbers(0), 5)) == []
    assert list(PrefetchLoader(Numbers(3), 5, drop_last=True)) == []


def test_leaving_waits_for_one_batch_at_most():
    begun, may_go_on = [], threading.Event()

    class Slow(Numbers):
        def __getitems__(self, indices):
            begun.append(indices)
            if len(begun) > 2:
                may_go_on.wait(30)
            return super().__getitems__(indices)

    loader = iter(PrefetchLoader(Slow(), 1))
    for _ in range(2):
        next(loader)
    deadline = time.monotonic() + 30
    while len(begun) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    threading.Timer(0.3, may_go_on.set).start()
    loader.close()
    assert len(begun) == 3


def test_the_batches_before_an_error_of_the_sampler_are_delivered():
    def sampler():
        yield from ([0, 1], [2, 3], [4, 5])
        raise RuntimeError("no more indices")

    class Batches:
        def __iter__(self):
            return sampler()

        def __len__(self):
            return 9

    seen = []
    with pytest.raises(RuntimeError, match="no more indices"):
        for batch in PrefetchLoader(Numbers(), batch_sampler=Batches()):
            seen.append(batch)
    assert len(seen) == 3


# On a CUDA device


@pytest.mark.gpu
def test_batches_arrive_on_the_device(dataset):
    root, partition, labels = dataset(training=203, shape=(3, 32, 32))
    pack(root)
    rows = PackedDataset(partition["train"], labels, root)
    expected = list(DataLoader(rows, 16))
    kept, loader = [], PrefetchLoader(rows, 16, device="cuda")
    for _ in range(3):
        for X, y in loader:
            assert X.is_cuda and y.is_cuda
            torch.cuda._sleep(10_000_000)  # a slow step: batches are made while it runs
            kept.append((X, y))
    assert equal([[X.cpu(), y.cpu()] for X, y in kept], expected * 3)


@pytest.mark.gpu
def test_a_batch_is_not_overwritten_while_a_slow_step_reads_it(dataset):
    root, partition, labels = dataset(training=640, shape=(3, 64, 64))
    pack(root)
    rows = PackedDataset(partition["train"], labels, root)
    expected = [X.double().sum().item() for X, _ in DataLoader(rows, 16)]
    sums = []
    for X, _ in PrefetchLoader(rows, 16, device="cuda"):
        torch.cuda._sleep(20_000_000)
        sums.append(X.double().sum())  # queued behind the sleep; X is let go before it runs
        del X
    assert [round(one.item(), 3) for one in sums] == [round(one, 3) for one in expected]


@pytest.mark.gpu
def test_the_memory_on_the_device_is_bounded(dataset):
    root, partition, labels = dataset(training=640, shape=(3, 64, 64))
    pack(root)
    rows = PackedDataset(partition["train"], labels, root)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()["active_bytes.all.current"]
    for X, _ in PrefetchLoader(rows, 16, device="cuda"):
        torch.cuda._sleep(20_000_000)  # the host runs ahead of it
        X.sum()
    batch = 16 * 3 * 64 * 64 * 4
    # Those of the thread, 2 pieces of a megabyte, and of steps that have not run; of 40 in all
    assert torch.cuda.memory_stats()["active_bytes.all.peak"] - before < 20 * batch
