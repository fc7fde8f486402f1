"""feedgpu/images.py: crops, batches that threads make, and errors with ID and file."""

import gc
import os
import pickle
import re
import subprocess
import sys
import threading
import traceback
import weakref
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from random import Random
from threading import Barrier, Event
from time import sleep

import numpy as np
import pytest
import torch
from pictures_on_disk import bad_files, everything, one, reference, save, scene
from torch.utils.data import DataLoader, default_collate

from feedgpu import Augmented, DatasetError, EpochSampler, PrefetchLoader, Visit
from feedgpu.images import ImageDataset
from feedgpu.threads import Foresight

# Random crops


def test_random_crops_are_repeatable_and_differ(tmp_path, decoder):
    file = save(scene(200, 260), tmp_path / "a.jpg")
    crops = [one(file, (32, 32), seed, epoch) for seed in range(4) for epoch in range(4)]
    assert len({crop.tobytes() for crop in crops}) == 16
    assert np.array_equal(crops[6], one(file, (32, 32), 1, 2))


def test_half_of_them_are_mirrored(tmp_path):
    class Whole(ImageDataset):
        def random_box(self, height, width, random):
            return 0, 0, height, width

    save(scene(), tmp_path / "a.png")
    dataset = Whole(["a.png"], {"a.png": 0}, tmp_path, (48, 64), seed=0)
    plain = reference(tmp_path / "a.png")
    found = [dataset[Visit(0, epoch)][0].permute(1, 2, 0).numpy() for epoch in range(400)]
    mirrored = sum(np.array_equal(X, plain[:, ::-1]) for X in found)
    assert mirrored + sum(np.array_equal(X, plain) for X in found) == 400
    assert 150 < mirrored < 250


@pytest.mark.parametrize(
    ("height", "width"), [(256, 256), (300, 900), (100, 1000), (1000, 100), (1, 1), (3, 2)]
)
def test_random_boxes_lie_inside_and_have_the_area_and_shape(height, width):

    dataset = ImageDataset([], {}, size=(224, 224), seed=0)
    random, areas = Random(0), []
    for _ in range(2000):
        upper, left, h, w = dataset.random_box(height, width, random)
        assert 0 <= upper <= upper + h <= height and 0 <= left <= left + w <= width and h > 0 < w
        areas.append(h * w / (height * width))
        if min(height, width) >= 100:
            assert 0.72 < w / h < 1.37
        if height == width == 256:
            assert 0.07 < areas[-1] <= 1
    if height == width == 256:
        assert 0.45 < sum(areas) / 2000 < 0.53 and min(areas) < 0.1 and max(areas) > 0.9


# Batches


@pytest.mark.parametrize("seed", [None, 5])
def test_all_loaders_deliver_the_same(folder, decoder, seed):
    root, IDs, labels = folder
    dataset = ImageDataset(IDs, labels, root, (24, 32), seed)
    visits = list(EpochSampler(40, 5))
    expected = {labels[IDs[visit]]: dataset[visit][0] for visit in visits}
    for threads in (1, 3):
        dataset.threads = threads
        for make, batch_size, workers in [(DataLoader, 7, 0), (PrefetchLoader, 40, 0), (DataLoader, 16, 2)]:
            loader = make(dataset, batch_size, sampler=EpochSampler(40, 5), num_workers=workers)
            found = everything(loader)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[y], X) for y, X in expected.items())
            X, y = next(iter(loader))
            assert X.is_contiguous(memory_format=torch.channels_last) and y.dtype == torch.int64


def test_other_labels_and_kept_batches(folder):
    root, IDs, _ = folder
    dataset = ImageDataset(IDs, {ID: ID.partition("/")[0] for ID in IDs}, root, (8, 8))
    batches = list(PrefetchLoader(dataset, 4))
    assert [y for _, ys in batches for y in ys] == [ID.partition("/")[0] for ID in IDs]
    for i, (X, _) in enumerate(batches):
        assert torch.equal(X[0], dataset[4 * i][0])


def test_its_threads_do_not_follow_it_into_another_process(folder):
    root, IDs, labels = folder
    dataset = ImageDataset(IDs, labels, root, (8, 8))
    dataset.threads = 2
    before = everything(DataLoader(dataset, 8))
    assert dataset._threads._pool is not None and pickle.loads(pickle.dumps(dataset))._threads._pool is None
    found = everything(DataLoader(dataset, 8, num_workers=1, timeout=60))
    assert all(torch.equal(found[y], before[y]) for y in before)
    if hasattr(os, "fork"):
        if (child := os.fork()) == 0:
            os._exit(0 if torch.equal(dataset.__getitems__([1, 2, 3]).X[0], before[1]) else 1)
        assert os.waitpid(child, 0)[1] == 0


# Threads


class Counting(ImageDataset):
    "Notes what it loads; where there is an `until`, waits for it with all but the first `free`"

    def __init__(self, *how):
        super().__init__(*how)
        self.loaded, self.until, self.free = [], None, 0

    def load(self, file, random=None):
        self.loaded.append(file.name)
        if self.until is not None and int(file.name.partition(" ")[0]) >= self.free:
            assert self.until.wait(60)
        return super().load(file, random)


def test_the_threads_begin_with_the_next_batch(folder):
    root, IDs, labels = folder

    class Noted(ImageDataset):
        noted, go = [], Event()

        def load(self, file, random=None):
            self.noted.append(file.name)
            assert self.go.wait(60)
            return super().load(file, random)

    def names(indices):
        return {Path(IDs[i]).name for i in indices}

    dataset = Noted(IDs, labels, root, (8, 8))
    dataset.threads = 2
    lists = dataset.foresee(DataLoader(dataset, 3, drop_last=True).batch_sampler)
    first, second = next(lists), next(lists)
    assert (first, second) == ([0, 1, 2], [3, 4, 5])
    dataset.go.set()
    for indices in (second, first, second):  # nobody has to ask in their order, or once
        batch = dataset.__getitems__(indices)
        assert batch.y.tolist() == indices
        assert all(torch.equal(X, dataset[i][0]) for X, i in zip(batch.X, indices, strict=True))
    dataset.noted.clear()
    third = next(lists)
    for thread in third.batch.running:
        thread.result()
    assert set(dataset.noted) == names([6, 7, 8])

    dataset.noted.clear()
    dataset.go.clear()
    fourth, fifth = next(lists), next(lists)
    waiting = [*fourth.batch.running, *fifth.batch.running]
    while len(dataset.noted) < 2:
        sleep(0.001)
    lists.close()  # as by a break in the loop
    dataset.go.set()
    for thread in waiting:
        thread.result()
    assert set(dataset.noted) <= names([9, 10, 11]) and len(dataset.noted) == 2


def test_lists_that_have_come_to_their_end_can_be_closed(folder):
    root, IDs, labels = folder
    dataset = Counting(IDs, labels, root, (8, 8))
    dataset.threads, dataset.until = 2, Event()
    lists = dataset.foresee(iter([[0, 1, 2], [3, 4, 5]]))
    begun = list(lists)
    while len(dataset.loaded) < 2:
        sleep(0.001)
    lists.close()
    dataset.until.set()
    for thread in [*begun[0].batch.running, *begun[1].batch.running]:
        thread.result()
    assert len(dataset.loaded) == 2


@pytest.mark.parametrize("leave", ["break", "error", "close"])
@pytest.mark.parametrize("size", [4, 1])
def test_whoever_leaves_a_loop_early_leaves_no_thread_at_work(folder, monkeypatch, leave, size):
    root, IDs, labels = folder
    dataset = Counting(IDs, labels, root, (8, 8))
    dataset.threads, dataset.until, dataset.free = 2, Event(), 2 * size
    close = Foresight.close

    def noted(lists):  # what is at work then may go on, and nothing else may begin
        close(lists)
        if lists.begin.__self__ is dataset:  # else what an earlier test has left
            dataset.until.set()

    monkeypatch.setattr(Foresight, "close", noted)

    def loop():
        batches = iter(PrefetchLoader(dataset, size))
        for _ in range(2):
            next(batches)
        if leave == "error":
            raise KeyError
        if leave == "close":
            batches.close()

    with suppress(KeyError):
        loop()
    assert not [thread for thread in threading.enumerate() if thread.name == "PrefetchLoader"]
    dataset._threads.pool.shutdown()  # comes back when they are done
    assert 2 * size <= len(dataset.loaded) <= 2 * size + 2


def test_its_threads_end_with_it(folder):
    root, IDs, labels = folder
    dataset = ImageDataset(IDs, labels, root, (8, 8))
    dataset.threads = 2
    before = set(threading.enumerate())
    list(PrefetchLoader(dataset, 8))
    workers = set(threading.enumerate()) - before
    assert {thread.name.partition("_")[0] for thread in workers} == {"ImageDataset"} and len(workers) <= 2
    del dataset
    gc.collect()
    for thread in workers:
        thread.join(60)
    assert not any(thread.is_alive() for thread in workers)


def test_many_threads_fill_every_place_once(tmp_path):
    IDs = [str(i) for i in range(256)]

    class Instant(ImageDataset):
        "Whose threads have nothing to do but to take the next place"

        pixels = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256).permute(2, 0, 1)[..., None]
        loaded = []

        def load(self, file, random=None):
            self.loaded.append(int(file.name))
            return self.pixels[int(file.name)]

    dataset = Instant(IDs, dict(zip(IDs, range(256), strict=True)), tmp_path, (1, 1))
    dataset.threads = 16
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)  # as if all of them ran at once
    try:
        for indices in ([*range(256)] * 40, [7] * 300, [39, 3]):
            dataset.loaded.clear()
            batch = dataset._begin(indices).wait()
            assert sorted(dataset.loaded) == sorted(indices)
            assert batch.y.tolist() == indices and (batch.X.flatten(1) == batch.y[:, None]).all()
    finally:
        sys.setswitchinterval(interval)


def test_who_fetches_batches_in_his_own_way_decodes_each_sample_once(folder):
    root, IDs, labels = folder

    class Counted(ImageDataset):
        loads = []

        def load(self, file, random=None):
            self.loads.append(file.name)
            return super().load(file, random)

        def __getitems__(self, indices):
            return [self[index] for index in indices]

    dataset = Counted(IDs, labels, root, (8, 8))
    assert len(everything(PrefetchLoader(dataset, 4))) == len(dataset.loads) == 40


def test_batches_of_one_are_decoded_by_all_threads(folder):
    root, IDs, labels = folder

    class Meeting(ImageDataset):
        meeting = Barrier(2, timeout=60)  # two have to be under way at once

        def load(self, file, random=None):
            self.meeting.wait()
            return super().load(file, random)

    dataset = Meeting(IDs, labels, root, (8, 8))
    dataset.threads = 2
    assert len(everything(PrefetchLoader(dataset, 1))) == 40


def test_an_iterator_that_a_thread_of_the_dataset_collects_is_no_deadlock(folder):
    root, IDs, labels = folder
    code = f"""
import gc, sys, threading, time
from feedgpu.images import ImageDataset
from feedgpu.threads import Foresight
from feedgpu import PrefetchLoader

class Collecting(ImageDataset):
    ready = threading.Event()
    def load(self, file, random=None):
        if file.name.startswith("30 "):
            self.ready.wait(60)
            gc.collect()  # as Python does when it likes
        return super().load(file, random)

class Trainer:
    def __init__(self, loader):
        self.batches, self.me = iter(loader), self

gc.disable()
dataset = Collecting({IDs!r}, {labels!r}, {str(root)!r}, (8, 8))
dataset.threads = 2
trainer = Trainer(PrefetchLoader(dataset, 20))
next(trainer.batches)
del trainer
dataset.ready.set()
while any(thread.name == "PrefetchLoader" for thread in threading.enumerate()):
    time.sleep(0.01)
print(len(list(PrefetchLoader(dataset, 20))))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ("2\n", "")


def test_a_batch_sampler_may_use_one_list_again(folder):
    root, IDs, labels = folder

    def batches():
        one = []
        for start in range(0, 40, 4):
            one[:] = range(start, start + 4)
            yield one

    class Reusing:
        __iter__ = lambda self: batches()  # noqa: E731
        __len__ = lambda self: 10  # noqa: E731

    loader = PrefetchLoader(ImageDataset(IDs, labels, root, (8, 8)), batch_sampler=Reusing())
    assert [y.tolist() for _, y in loader] == [[*range(start, start + 4)] for start in range(0, 40, 4)]


def test_an_error_that_is_kept_keeps_no_batch(folder):
    root, IDs, labels = folder
    (root / IDs[2]).write_bytes(b"")
    dataset = ImageDataset(IDs, labels, root, (8, 8))
    for threads in (1, 2):
        dataset.threads = threads
        batch = dataset._begin([1, 2, 3])
        gone = weakref.ref(batch)
        with suppress(DatasetError):
            batch.wait()
        for thread in batch.running:
            thread.result()
        gc.disable()
        try:
            del batch
            while gone() is not None and threads > 1:  # until its threads have let go of it
                sleep(0.001)
            assert gone() is None
        finally:
            gc.enable()


def test_an_error_comes_after_the_batches_before_it(folder):
    root, IDs, labels = folder
    (root / IDs[9]).write_bytes(b"")
    dataset = ImageDataset(IDs, labels, root, (8, 8))
    dataset.threads = 2
    loader = PrefetchLoader(dataset, 4)
    for _ in range(2):
        batches = iter(loader)
        assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        with pytest.raises(DatasetError, match="cat/9 ö.jpg.*it is empty"):
            next(batches)
        assert list(batches) == []


def test_two_epochs_at_once(folder):
    root, IDs, labels = folder
    dataset = ImageDataset(IDs, labels, root, (8, 8), seed=1)
    dataset.threads = 2
    a, b = (PrefetchLoader(dataset, 6, sampler=EpochSampler(40, seed)) for seed in (0, 1))
    both = [(X, y) for pair in zip(a, b, strict=True) for X, y in pair]
    a, b = (everything(DataLoader(dataset, 6, sampler=EpochSampler(40, seed))) for seed in (0, 1))
    assert len(both) == 14
    assert all(torch.equal(X[0], alone[int(y[0])]) for (X, y), alone in zip(both, cycle([a, b])))


def test_a_load_of_ones_own(folder):
    root, IDs, labels = folder

    class Darker(ImageDataset):
        def load(self, file, random=None):
            return super().load(file, random) // 2

    found = everything(PrefetchLoader(Darker(IDs, labels, root, (8, 8)), 8))
    plain = ImageDataset(IDs, labels, root, (8, 8))
    assert all(torch.equal(found[i], plain[i][0] // 2) for i in range(40))

    class Cropped(ImageDataset):
        def load(self, file, random=None):
            return super().load(file, random)[:, 1 + (file.name == "5 ö.png") :]

    with pytest.raises(DatasetError, match="'dog/0 ö.png' is .* 3×7×8.*, but 'cat/5 ö.png' is .* 3×6×8"):
        next(iter(PrefetchLoader(Cropped(IDs, labels, root, (8, 8)), 8)))


ODD = {
    "number": 1,
    "three": (torch.zeros(3, 8, 8), 0, "name"),
    "array": (np.zeros((3, 8, 8), np.uint8), 0),
    "dict": {"image": torch.ones(2), "y": 1.5},
    "a type that NumPy lacks": (torch.ones(2, dtype=torch.bfloat16), torch.ones(3)),
    "numbers": (torch.ones(2), torch.ones(3)),
    "an array of numbers": (torch.ones(2), np.ones(3)),
    "gradient": torch.ones(2, requires_grad=True),
    "no dimension": torch.tensor(3.0),
    "no target": (torch.ones(2, 3, 4).permute(2, 0, 1), None),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("make", [DataLoader, PrefetchLoader])
def test_a_subclass_may_return_what_it_likes(folder, kind, make):
    root, IDs, labels = folder
    sample = ODD[kind]

    class Own(ImageDataset):
        def __getitem__(self, index):
            return sample

    dataset = Own(IDs, labels, root, (8, 8))
    dataset.threads = 2
    found = next(iter(make(dataset, 3, collate_fn=list)))
    assert repr(found).replace("Tensor(", "tensor(") == repr([sample] * 3)
    if kind != "no target":  # which default_collate does not take
        assert repr(next(iter(make(dataset, 3)))) == repr(default_collate([sample] * 3))


# What is wrong


@pytest.mark.parametrize("make", ["DataLoader", "workers", "PrefetchLoader", "alone"])
def test_bad_files_are_named(folder, decoder, make):
    root, IDs, labels = folder
    for name, (content, why) in bad_files().items():
        (root / name).write_bytes(content)
        dataset = ImageDataset([*IDs[:9], name, *IDs[9:14]], labels | {name: 0}, root, (8, 8))
        dataset.threads = 2
        said = error_of(dataset, make)
        assert re.search(f"^sample '{name}': .*{name} cannot be read: .*({why})", said) and "\n" not in said


class Mistaken(ImageDataset):
    "Fails at one sample in the way that it is told"

    error, at = None, "9 ö.jpg"

    def load(self, file, random=None):
        if file.name == self.at:
            raise self.error
        return super().load(file, random)


@pytest.mark.parametrize("make", ["DataLoader", "workers", "PrefetchLoader", "alone"])
@pytest.mark.parametrize(
    "error", [NameError("numpi"), TypeError("numpi"), ImportError("numpi"), RuntimeError("numpi")], ids=repr
)
def test_a_mistake_in_a_load_of_ones_own_keeps_its_type_and_its_line(folder, make, error):
    root, IDs, labels = folder
    dataset = Mistaken(IDs, labels, root, (8, 8))
    dataset.threads, dataset.error = 2, error
    told = []
    try:
        error_of(dataset, make, 2)
    except type(error) as raised:
        told = traceback.format_exception(raised)
        raised.__traceback__ = None  # or it holds the workers
    text = "".join(told)
    assert "numpi" in text and "raise self.error" in text
    assert f"while sample '{IDs[9]}' was read from {root / IDs[9]}" in text


def error_of(dataset, make, workers=1):
    "The sentence without its traceback, which holds the iterator and so its workers"
    try:
        if make == "alone":
            dataset[9]
        elif make == "PrefetchLoader":
            list(PrefetchLoader(dataset, 5))
        else:
            workers *= make == "workers"
            list(DataLoader(dataset, 5, num_workers=workers, timeout=60 * bool(workers)))
    except DatasetError as error:
        return str(error.with_traceback(None))


def test_missing_files_folders_and_labels_are_named(folder, decoder):
    root, IDs, labels = folder
    for IDs_, why in (
        (["gone.jpg"], "gone.jpg cannot be read: there is no such file"),
        (["cat"], "cat cannot be read: it is a folder"),
        (["../a.jpg"], "'../a.jpg' is no ID"),
    ):
        with pytest.raises(DatasetError, match=why):
            ImageDataset(IDs_, {ID: 0 for ID in IDs_}, root)[0]
    with pytest.raises(DatasetError, match=r"'dog/0 ö.png', read from .*, has no label"):
        ImageDataset(IDs, {}, root)[0]


def test_the_first_bad_file_of_a_batch_is_named(folder):
    root, IDs, labels = folder
    for ID in IDs[3:]:
        (root / ID).write_bytes(b"x")
    dataset = ImageDataset(IDs, labels, root, (8, 8))
    dataset.threads = 4
    for _ in range(20):
        with pytest.raises(DatasetError, match=f"^sample '{IDs[3]}'"):
            list(PrefetchLoader(dataset, 40))


def test_threads_start_no_threads(tmp_path):
    "torch's own, of which each of ours would have as many as there are CPUs"
    IDs = [f"{i}.jpg" for i in range(64)]
    for i, ID in enumerate(IDs):
        save(scene(500, 600, seed=i), tmp_path / ID)
    code = (
        "import os, torch; torch.set_num_threads(8); from feedgpu.images import ImageDataset\n"
        "from feedgpu import EpochSampler, PrefetchLoader\n"
        f"IDs = {IDs}\n"
        f"dataset = ImageDataset(IDs, dict.fromkeys(IDs, 0), {str(tmp_path)!r}, (224, 224), seed=0)\n"
        "dataset.threads = 8\n"
        "list(PrefetchLoader(dataset, 64, sampler=EpochSampler(64)))\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    if not os.path.exists("/proc/self/task"):
        pytest.skip("this system does not list a process's threads")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 30


def test_an_image_and_what_is_drawn_for_it_besides_differ(tmp_path):

    save(scene(), tmp_path / "a.jpg")
    images = ImageDataset(["a.jpg"], {"a.jpg": 0}, tmp_path, (8, 8), seed=3)
    seen = []
    images.random_box = lambda height, width, random: seen.append(random.random()) or (0, 0, 8, 8)
    Augmented(images, ["a.jpg"], lambda X, random: seen.append(random.random()), seed=3)[Visit(0, 5)]
    assert len(set(seen)) == 2
