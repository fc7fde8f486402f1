"""my_images.py: right pixels, or a sentence with ID and file; with simplejpeg, and without it."""

import gc
import io
import itertools
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import weakref
import zlib
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from threading import Barrier, Event
from time import sleep

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

import my_images
from feedgpu.layout import write
from feedgpu.prepare import main as prepare
from feedgpu.sources import photographs
from my_classes import DatasetError, EpochSampler, PrefetchLoader, load_notation
from my_images import ImageDataset, middle, opened
from my_order import Visit


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request, monkeypatch):
    if request.param == "Pillow":
        monkeypatch.setattr(my_images, "simplejpeg", None)
    elif my_images.simplejpeg is None:
        pytest.skip("simplejpeg is not installed")


def scene(height=48, width=64, seed=0):
    "Smooth colours with a little noise, so that neighbours are alike as in a photograph: H×W×3"
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 8, (height, width, 3))
    smooth = np.stack([x * 200 // width, y * 200 // height, (x + y) * 100 // (height + width)], 2)
    return (smooth + noise + 20).astype(np.uint8)


def save(image, file, *args, **kwargs):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file, *args, **kwargs) if isinstance(image, np.ndarray) else image.save(
        file, *args, **kwargs
    )
    return file


def one(file, size=None, seed=None, epoch=0):
    "The only sample of a dataset; by default in the size that it has"
    if size is None:
        with Image.open(file) as image:
            size = ImageOps.exif_transpose(image).size[::-1]
    dataset = ImageDataset([file.name], {file.name: 3}, file.parent, size, seed)
    X, y = dataset[0 if seed is None else Visit(0, epoch)]
    assert y == 3 and X.dtype == torch.uint8 and X.shape == (3, *size)
    return X.permute(1, 2, 0).numpy()


def reference(file):
    with Image.open(file) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


# Right pixels


@pytest.mark.parametrize(
    "name", ["a.jpg", "a b.jpg", "Ünïcode 雪.JPG", "deep/er/a.jpeg", "a.b.c.jpg", "no_suffix"]
)
def test_names_of_all_kinds(tmp_path, decoder, name):
    save(scene(), tmp_path / name, "JPEG")
    (X, _), *_ = ImageDataset([name], {name: 0}, tmp_path, (48, 64))
    assert np.array_equal(X.permute(1, 2, 0), reference(tmp_path / name))


def jpegs():
    image = Image.fromarray(scene())
    yield "grey", image.convert("L"), {}
    yield "CMYK", image.convert("CMYK"), {}
    yield "progressive", image, {"progressive": True}
    yield "444", image, {"subsampling": 0}
    yield "no YCbCr", image, {"keep_rgb": True}


@pytest.mark.parametrize(
    ("kind", "image", "how"), list(jpegs()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_jpegs_of_all_kinds(tmp_path, decoder, kind, image, how):
    file = save(image, tmp_path / "a.jpg", quality=90, **how)
    assert np.array_equal(one(file), reference(file))


def others():
    image = Image.fromarray(scene())
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        yield f"{mode}.png", image.convert(mode)
    yield "a PNG named so.jpg", image
    yield "photo.webp", image
    yield "scan.tif", image
    yield "frames.gif", image.convert("P")
    yield "bits.bmp", image


@pytest.mark.parametrize(
    ("name", "image"), list(others()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_other_kinds(tmp_path, decoder, name, image):
    how = {"format": "PNG"} if "PNG" in name else {"lossless": True} if "webp" in name else {}
    file = save(image, tmp_path / name, **how)
    assert np.array_equal(one(file), reference(file))


def test_a_palette_with_transparency(tmp_path, decoder):
    image = Image.fromarray(scene()).convert("P")
    file = save(image, tmp_path / "a.png", transparency=bytes(range(256)))
    with Image.open(file) as opened_again:
        expected = np.asarray(opened_again.convert("RGBA"))[..., :3]
    assert np.array_equal(one(file), expected)


def png_of_16_bits(values, colour_type):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_greys_of_16_bits_are_divided_by_257(tmp_path, decoder):
    values = np.arange(65_536).reshape(256, 256)
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values, 0))
    X = one(tmp_path / "a.png", (256, 256))
    assert np.array_equal(X, np.repeat(np.round(values / 257).astype(np.uint8)[..., None], 3, 2))
    save(values.astype(np.uint16), tmp_path / "a.tif")
    assert np.array_equal(one(tmp_path / "a.tif", (256, 256)), X)


def test_colours_of_16_bits_are_off_by_one_level_at_most(tmp_path, decoder):
    values = np.random.default_rng(0).integers(0, 65_536, (40, 50, 3))
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values, 2))
    assert abs(one(tmp_path / "a.png", (40, 50)) - np.round(values / 257)).max() <= 1


@pytest.mark.parametrize("held", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_images_are_turned_as_their_camera_says(tmp_path, decoder, suffix, held):
    exif = Image.Exif()
    exif[my_images.ORIENTATION] = held
    file = save(scene(40, 64), tmp_path / f"a.{suffix}", exif=exif)
    expected = reference(file)
    assert expected.shape[:2] == ((64, 40) if held >= 5 else (40, 64))
    assert np.array_equal(one(file), expected)
    # and scaled in decoding, where the crop is to be half as large or less
    small = one(file, (expected.shape[0] // 4, expected.shape[1] // 4)).astype(int)
    like = Image.fromarray(expected).resize(small.shape[1::-1], Image.Resampling.BILINEAR)
    assert abs(small - np.asarray(like)).mean() < 4


@pytest.mark.parametrize("before", ["nothing", "a colour profile", "a comment", "padding"])
def test_the_camera_is_found_behind_other_segments(tmp_path, decoder, before):
    "As Pillow finds it; a comment in front hides it from neither"
    exif = Image.Exif()
    exif[my_images.ORIENTATION] = 6
    file = save(scene(40, 64), tmp_path / "a.jpg", exif=exif)
    data = file.read_bytes()
    if before == "padding":
        file.write_bytes(data[:2] + b"\xff\xff" + data[2:])
    elif before != "nothing":
        kind, content = (
            (b"\xff\xe2", b"ICC_PROFILE\0" + bytes(60_000)) if "profile" in before else (b"\xff\xfe", b"hm")
        )
        data = data[:2] + kind + (len(content) + 2).to_bytes(2) + content + data[2:]
        file.write_bytes(data)
    assert np.array_equal(one(file), reference(file))


def test_a_grey_of_16_bits_is_turned_too(tmp_path, decoder):
    exif = Image.Exif()
    exif[my_images.ORIENTATION] = 6
    values = (np.arange(6 * 9).reshape(6, 9) * 1000).astype(np.uint16)
    file = save(values, tmp_path / "a.tif", exif=exif)
    assert np.array_equal(one(file, (9, 6))[..., 0], np.rot90(np.round(values / 257), -1))


def test_one_pixel_fills_everything(tmp_path, decoder):
    file = save(np.full((1, 1, 3), [9, 200, 77], np.uint8), tmp_path / "a.png")
    for seed in (None, 0):
        assert (one(file, (5, 7), seed) == [9, 200, 77]).all()


@pytest.mark.parametrize("shape", [(300, 2), (2, 300), (1, 500), (33, 31)])
def test_shapes_of_all_kinds(tmp_path, decoder, shape):
    file = save(scene(*shape), tmp_path / "a.jpg", quality=95)
    for seed in (None, *range(20)):
        one(file, (16, 16), seed)


@pytest.mark.parametrize("shape", [(48, 64), (224, 224), (250, 301), (640, 560), (901, 1203)])
def test_the_crop_in_the_middle_is_pillows(tmp_path, decoder, shape):
    "Where nothing is scaled in decoding, to a level; else to what decoding small costs"
    file = save(scene(*shape), tmp_path / "a.jpg", quality=95)
    upper, left, h, w = middle(*shape, (40, 56))
    with Image.open(file) as image:
        expected = image.resize((56, 40), Image.Resampling.BILINEAR, box=(left, upper, left + w, upper + h))
    off = abs(one(file, (40, 56)).astype(int) - np.asarray(expected))
    scaled = h >= 80
    assert off.max() <= (12 if scaled else 2) and off.mean() < (2.5 if scaled else 0.1)


def test_the_crop_in_the_middle():
    assert middle(100, 300, (50, 50)) == (0, 100, 100, 100)
    assert middle(300, 100, (10, 20)) == (125, 0, 50, 100)
    assert middle(1, 1, (224, 224)) == (0, 0, 1, 1)


@pytest.mark.skipif(my_images.simplejpeg is None, reason="simplejpeg is not installed")
@pytest.mark.parametrize("shape", [(256, 256), (641, 563), (97, 1999), (8, 8), (15, 17)])
@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_both_decoders_give_the_same_pixels(tmp_path, monkeypatch, shape, seed):
    for subsampling in (0, 1, 2):
        file = save(scene(*shape), tmp_path / f"{subsampling}.jpg", quality=85, subsampling=subsampling)
        fast = one(file, (32, 32), seed)
        with monkeypatch.context() as patch:
            patch.setattr(my_images, "simplejpeg", None)
            assert np.array_equal(one(file, (32, 32), seed), fast)


def test_simplejpeg_is_used_where_it_is_there(tmp_path, monkeypatch):
    if my_images.simplejpeg is None:
        pytest.skip("simplejpeg is not installed")
    file = save(scene(), tmp_path / "a.jpg")
    monkeypatch.setattr(my_images, "open_image", None)
    one(file, (16, 16))


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
    from random import Random

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


@pytest.fixture
def folder(tmp_path):
    "40 images of unequal size, by ID, and the labels"
    IDs = [f"{'cat' if i % 2 else 'dog'}/{i} ö.{'png' if i % 5 == 0 else 'jpg'}" for i in range(40)]
    for i, ID in enumerate(IDs):
        save(scene(40 + i, 90 - i, seed=i), tmp_path / ID)
    return tmp_path, IDs, {ID: i for i, ID in enumerate(IDs)}


def everything(loader):
    return {y: X for Xs, ys in loader for X, y in zip(Xs, ys.tolist(), strict=True)}


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
    assert dataset._pool is not None and pickle.loads(pickle.dumps(dataset))._pool is None
    found = everything(DataLoader(dataset, 8, num_workers=1, timeout=60))
    assert all(torch.equal(found[y], before[y]) for y in before)
    if hasattr(os, "fork"):
        if (child := os.fork()) == 0:
            os._exit(0 if torch.equal(dataset.__getitems__([1, 2, 3])[0].X[0], before[1]) else 1)
        assert os.waitpid(child, 0)[1] == 0


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
        batch = dataset.__getitems__(indices)[0]
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
    del fourth, fifth  # as by a break in the loop
    dataset.go.set()
    for thread in waiting:
        thread.result()
    assert set(dataset.noted) <= names([9, 10, 11]) and len(dataset.noted) == 2

    dataset.noted.clear()
    dataset.__getitems__ = None  # who wants samples
    assert type(next(lists)) is list and dataset.noted == []


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
from my_images import ImageDataset
from my_classes import PrefetchLoader

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
        batch = my_images.Batch(dataset, [1, 2, 3])
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
            return super().load(file, random)[:, 1:]

    with pytest.raises(
        DatasetError, match="'dog/0 ö.png'.* is uint8 of shape 3×7×8, where uint8 of shape 3×8×8 is"
    ):
        next(iter(PrefetchLoader(Cropped(IDs, labels, root, (8, 8)), 8)))


@pytest.mark.parametrize("sample", [1, (torch.zeros(3, 8, 8), 0, 0), (np.zeros((3, 8, 8), np.uint8), 0)])
def test_what_is_no_sample_is_named(folder, sample):
    root, IDs, labels = folder

    class Odd(ImageDataset):
        def __getitem__(self, index):
            return sample

    with pytest.raises(DatasetError, match=r"'dog/0 ö.png' is no tuple \(X, y\) whose X is a tensor"):
        next(iter(DataLoader(Odd(IDs, labels, root, (8, 8)), 8)))


# Bad files


def bad_files(folder):
    jpeg = io.BytesIO()
    Image.fromarray(scene(200, 200)).save(jpeg, "JPEG")
    png = io.BytesIO()
    Image.fromarray(scene(200, 200)).save(png, "PNG")
    floats = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(floats, "TIFF")
    deep = io.BytesIO()
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(deep, "TIFF")
    return {
        "truncated.jpg": (jpeg.getvalue()[: len(jpeg.getvalue()) // 2], "truncated"),
        "header.jpg": (jpeg.getvalue()[:20], "no image|truncated"),
        "truncated.png": (png.getvalue()[: len(png.getvalue()) // 2], "truncated|broken"),
        "empty.jpg": (b"", "it is empty"),
        "text.jpg": (b"<html>404</html>", "it holds no image"),
        "noise.png": (bytes(range(256)) * 10, "it holds no image"),
        "zeros.jpg": (b"\xff\xd8\xff" + bytes(1000), "no image|truncated|broken|marker"),
        "floats.tif": (floats.getvalue(), "no whole numbers"),
        "deep.tif": (deep.getvalue(), "more than 16 bits"),
    }


@pytest.mark.parametrize("make", ["DataLoader", "workers", "PrefetchLoader", "alone"])
def test_bad_files_are_named(folder, decoder, make):
    root, IDs, labels = folder
    for name, (content, why) in bad_files(folder).items():
        (root / name).write_bytes(content)
        dataset = ImageDataset([*IDs[:9], name, *IDs[9:14]], labels | {name: 0}, root, (8, 8))
        dataset.threads = 2
        said = error_of(dataset, make)
        assert re.search(f"^sample '{name}': .*{name} cannot be read: .*({why})", said) and "\n" not in said


def error_of(dataset, make):
    "The sentence without its traceback, which holds the iterator and so its workers"
    try:
        if make == "alone":
            dataset[9]
        elif make == "PrefetchLoader":
            list(PrefetchLoader(dataset, 5))
        else:
            workers = int(make == "workers")
            list(DataLoader(dataset, 5, num_workers=workers, timeout=60 * workers))
    except DatasetError as error:
        return str(error.with_traceback(None))


def test_missing_files_folders_and_labels_are_named(folder, decoder):
    root, IDs, labels = folder
    for IDs_, why in (
        (["gone.jpg"], "gone.jpg cannot be read: there is no such file"),
        (["cat"], "cat cannot be read: Is a directory"),
        (["../a.jpg"], "'../a.jpg' is no ID"),
    ):
        with pytest.raises(DatasetError, match=why):
            ImageDataset(IDs_, {ID: 0 for ID in IDs_}, root)[0]
    with pytest.raises(DatasetError, match=r"'dog/0 ö.png', read from .*, has no label"):
        ImageDataset(IDs, {}, root)[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, decoder, kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    file = save(scene(40, 51), tmp_path / "a", kind)
    with pytest.raises(DatasetError, match="sample 'a': .*decompression bomb"):
        one(file, (8, 8))


def test_the_first_bad_file_of_a_batch_is_named(folder):
    root, IDs, labels = folder
    for ID in IDs[3:]:
        (root / ID).write_bytes(b"x")
    dataset = ImageDataset(IDs, labels, root, (8, 8))
    dataset.threads = 4
    for _ in range(20):
        with pytest.raises(DatasetError, match=f"^sample '{IDs[3]}'"):
            list(PrefetchLoader(dataset, 40))


def test_what_can_be_decoded_to_its_end_is_no_error(tmp_path, decoder):
    "Bytes behind the end, as some cameras write them"
    jpeg = io.BytesIO()
    Image.fromarray(scene()).save(jpeg, "JPEG")
    (tmp_path / "a.jpg").write_bytes(jpeg.getvalue() + b"more" * 100)
    assert np.array_equal(one(tmp_path / "a.jpg"), reference(tmp_path / "a.jpg"))


def test_opened_says_the_size_before_decoding(tmp_path, decoder):
    exif = Image.Exif()
    exif[my_images.ORIENTATION] = 8
    file = save(scene(40, 64), tmp_path / "a.jpg", exif=exif)
    height, width, decode = opened(file.read_bytes())
    assert (height, width) == (64, 40) and decode(2).shape == (32, 20, 3)


# Prepared


def test_photographs_kept_as_jpeg(tmp_path, capsys):
    root = tmp_path / "data"
    assert (
        prepare(["photographs", "--samples", "20", "--size", "32", "40", "--as", "jpeg", "--data", str(root)])
        == 0
    )
    assert "20 samples, image files of" in capsys.readouterr().out
    partition, labels = load_notation(root, "")
    assert set(labels) == {f"{name}/{i}.jpg" for name in ("china", "flower") for i in range(1, 11)}
    assert not list(root.rglob("*.pt"))
    dataset = ImageDataset(partition["train"], labels, root, (16, 20), seed=0)
    X, y = next(iter(PrefetchLoader(dataset, 16)))
    assert X.shape == (16, 3, 16, 20) and set(y.tolist()) == {0, 1}
    assert prepare(["check", "--data", str(root)]) == 0


def test_a_folder_of_images_kept_as_files(folder, tmp_path, capsys):
    root, IDs, _ = folder
    (root / "cat/notes.txt").write_text("no image")
    made = tmp_path.parent / f"{tmp_path.name}-made"
    assert prepare(["folder", str(root), "--as", "files", "--data", str(made)]) == 0
    partition, labels = load_notation(made, "")
    assert sorted(labels) == sorted(IDs) and labels[IDs[0]] == 1 and labels[IDs[1]] == 0
    assert all((made / ID).read_bytes() == (root / ID).read_bytes() for ID in IDs)
    assert prepare(["check", "--data", str(made)]) == 0
    # the next dataset takes all of this one away, and nothing of the user's
    (made / "mine.jpg").write_bytes(b"mine")
    assert prepare(["digits", "--force", "--data", str(made)]) == 0
    assert sorted(path.name for path in made.iterdir() if path.suffix not in (".pt", ".json")) == ["mine.jpg"]
    assert all((root / ID).exists() for ID in IDs)
    assert prepare(["folder", str(root), "--as", "files", "--force", "--data", str(made)]) == 0
    assert not list(made.rglob("*.pt")) and (made / "mine.jpg").exists()


def test_kept_where_links_are_refused(folder, tmp_path, monkeypatch):
    root, IDs, _ = folder

    def refuse(*args, **kwargs):
        raise OSError("not allowed")

    monkeypatch.setattr(os, "link", refuse)
    made = tmp_path.parent / f"{tmp_path.name}-made"
    assert prepare(["folder", str(root), "--as", "files", "--data", str(made)]) == 0
    assert all((made / ID).read_bytes() == (root / ID).read_bytes() for ID in IDs)


def test_a_table_of_images_kept_as_files(folder, tmp_path, capsys):
    root, IDs, _ = folder
    lines = [f"{name},{ID},{i % 2}" for i, (name, ID) in enumerate(zip("abcdefgh", IDs, strict=False))]
    (root / "list.csv").write_text("\n".join(["id,path,label", *lines]), encoding="utf-8")
    made = tmp_path.parent / f"{tmp_path.name}-made"
    assert prepare(["table", str(root / "list.csv"), "--as", "files", "--data", str(made)]) == 0
    assert sorted(path.name for path in made.iterdir() if path.suffix != ".json") == [*"abcdefgh"]
    assert prepare(["check", "--data", str(made)]) == 0
    (root / "list.csv").write_text(f"id,path,label\nlabels.json,{IDs[0]},0\nb,{IDs[1]},0\n", encoding="utf-8")
    assert prepare(["table", str(root / "list.csv"), "--as", "files", "--force", "--data", str(made)]) == 1
    assert "would have the name of a list of the dataset: 'labels.json'" in capsys.readouterr().err


def test_what_is_kept_is_decoded_first(folder, tmp_path, capsys):
    root, IDs, _ = folder
    for name, (content, _) in bad_files(folder).items():
        (root / "cat" / name).write_bytes(content)
    made = tmp_path.parent / f"{tmp_path.name}-made"
    assert prepare(["folder", str(root), "--as", "files", "--data", str(made)]) == 1
    said = capsys.readouterr().err
    assert "9 of 49 samples cannot be read" in said
    assert all(f"cat/{name}:" in said for name in bad_files(folder))
    assert prepare(["folder", str(root), "--as", "files", "--skip-unreadable", "--data", str(made)]) == 0
    assert sorted(load_notation(made, "")[1]) == sorted(IDs)
    assert prepare(["folder", str(root), "--as", "files", "--size", "8", "8", "--data", str(made)]) == 1
    assert "leave --size and --mode out" in capsys.readouterr().err


def test_one_bad_file_among_10_000_is_found(tmp_path, capsys):
    source = save(scene(8, 8), tmp_path / "source.jpg")
    made = tmp_path / "data"
    IDs = [f"{i % 10}/{i}.jpg" for i in range(10_000)]
    for folder in range(10):
        (made / str(folder)).mkdir(parents=True)
    for ID in IDs:
        os.link(source, made / ID)
    (made / "labels.json").write_text(json.dumps({ID: 0 for ID in IDs}))
    (made / "partition.json").write_text(json.dumps({"train": IDs[:9000], "validation": IDs[9000:]}))
    bad = made / IDs[7654]
    bad.unlink()
    bad.write_bytes(source.read_bytes()[:300])
    (made / "3/spare.png").write_bytes(b"")
    assert prepare(["check", "--data", str(made)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"sample '4/7654.jpg': {bad} cannot be read: ")
    assert second == "no ID names 1 of the image files: 3/spare.png"
    loader = PrefetchLoader(ImageDataset(IDs, {ID: 0 for ID in IDs}, made, (8, 8)), 500)
    with pytest.raises(DatasetError, match=f"sample '4/7654.jpg': {bad} cannot be read"):
        list(loader)


def test_packed_decoded(tmp_path, capsys):
    from my_packed import PackedDataset

    root = str(tmp_path / "data")
    prepare(["photographs", "--samples", "12", "--size", "32", "40", "--as", "jpeg", "--data", root])
    assert prepare(["pack", "--data", root]) == 1
    assert "image files: say --size H W" in capsys.readouterr().err
    assert prepare(["pack", "--size", "16", "20", "--data", root]) == 0
    partition, labels = load_notation(root, "")
    packed = PackedDataset(partition["train"], labels, root)
    images = ImageDataset(partition["train"], labels, root, (16, 20))
    assert all(torch.equal(packed[i][0], images[i][0]) for i in range(len(packed)))
    assert prepare(["check", "--data", root]) == 0
    prepare(["digits", "--force", "--data", root])
    assert prepare(["pack", "--size", "16", "20", "--data", root]) == 1
    assert "leave --size out" in capsys.readouterr().err


def test_the_script_with_images_is_four_changed_lines(tmp_path):
    here = Path(my_images.__file__).parent
    prepare(
        [
            "photographs",
            "--samples",
            "40",
            "--size",
            "24",
            "24",
            "--as",
            "jpeg",
            "--data",
            str(tmp_path / "data"),
        ]
    )
    text = (here / "pytorch_script.py").read_text(encoding="utf-8")
    sets = [f'Dataset(partition["{part}"], labels, args.data' for part in ("train", "validation")]
    for now, instead in {
        "from my_packed": "from my_images import ImageDataset\nfrom my_packed",
        'None if args.packed else ".pt"': '""',
        sets[0].replace("Dataset", "make_set"): f'Image{sets[0]}, (16, 16), settings["seed"]',
        sets[1].replace("Dataset", "make_set"): f"Image{sets[1]}, (16, 16)",
    }.items():
        assert text.count(now) == 1
        text = text.replace(now, instead)
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    checkpoint = tmp_path / "checkpoint.pt"
    losses = []
    for workers in ("0", "2"):
        args = [
            "--data",
            tmp_path / "data",
            "--checkpoint",
            checkpoint,
            "--device",
            "cpu",
            "--batch-size",
            "8",
        ]
        run = subprocess.run(
            [sys.executable, tmp_path / "script.py", *args, "--max-epochs", "2", "--num-workers", workers],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"},
        )
        assert run.returncode == 0, run.stderr
        losses.append([past["training"] for past in torch.load(checkpoint, weights_only=True)["history"]])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("first", ["tensors", "jpeg"])
def test_a_kill_leaves_one_dataset_whatever_the_kinds(tmp_path, dies, first):
    "of tensors replaced by one of image files, or the other way round; a file of the user's stays"
    sources = {kind: photographs(6, (8, 8), kept_as=kind) for kind in ("tensors", "jpeg")}
    (second,) = set(sources) - {first}
    changing = [(os, "replace"), (os, "unlink"), (Path, "unlink"), (shutil, "rmtree"), (Path, "mkdir")]
    for steps in itertools.count():
        root = tmp_path / str(steps)
        write(sources[first], root)
        (root / "china-1").write_text("mine")
        (root / "mine.jpg").write_text("mine")
        if not dies(steps, lambda root=root: write(sources[second], root, force=True), *changing):
            break
        with suppress(DatasetError):
            load_notation(root, None)  # opens, if it is there at all
        write(sources[second], root, force=True)
        files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        kept = {ID + (".pt" if second == "tensors" else "") for ID in sources[second].labels}
        assert files == kept | {"china-1", "mine.jpg", "labels.json", "classes.json", "partition.json"}
    assert steps > 10


# What an expert found


def test_an_id_cannot_take_the_name_of_a_list_or_of_a_folder_in_use(folder, tmp_path, capsys):
    "What lies ready is linked to the user's own files: nothing may be written through the link"
    root, IDs, _ = folder
    before = {ID: (root / ID).read_bytes() for ID in IDs}
    made = tmp_path.parent / f"{tmp_path.name}-made"
    prepare(["digits", "--data", str(made)])
    for name in (
        "labels.part",
        "partition.part",
        "suffixes.json",
        "replaced.json",
        ".replaced/x",
        "samples/x",
    ):
        rows = [f"{name},{IDs[0]},0", *(f"{i}.jpg,{ID},{i % 2}" for i, ID in enumerate(IDs[1:13]))]
        (root / "list.csv").write_text("\n".join(["id,path,label", *rows]), encoding="utf-8")
        assert (
            prepare(["table", str(root / "list.csv"), "--as", "files", "--force", "--data", str(made)]) == 0
        )
        assert (made / name).read_bytes() == before[IDs[0]] and len(load_notation(made, "")[1]) == 13
        assert all((root / ID).read_bytes() == content for ID, content in before.items())
    for name in (".incoming/x", ".packing/x.jpg"):
        rows = [f"{name},{IDs[0]},0", *(f"{i}.jpg,{ID},{i % 2}" for i, ID in enumerate(IDs[1:13]))]
        (root / "list.csv").write_text("\n".join(["id,path,label", *rows]), encoding="utf-8")
        assert (
            prepare(["table", str(root / "list.csv"), "--as", "files", "--force", "--data", str(made)]) == 1
        )
        assert "or in .incoming or .packing" in capsys.readouterr().err


def test_one_file_of_two_ids_is_not_written_over(folder, tmp_path, monkeypatch):
    "As on a disk that does not tell A from a"
    from feedgpu.files import keeper

    root, IDs, _ = folder
    keep, target = keeper({"a": root / IDs[0], "A": root / IDs[1]}), tmp_path.parent / f"{tmp_path.name}-a"
    keep("a", target)
    with pytest.raises(DatasetError, match="another file has the ID 'A' already"):
        keep("A", target)
    assert (root / IDs[0]).read_bytes() == target.read_bytes() != (root / IDs[1]).read_bytes()


def test_a_file_in_the_place_of_a_folder_is_said_before_anything_is_done(folder, tmp_path, capsys):
    root, IDs, _ = folder
    made = tmp_path.parent / f"{tmp_path.name}-made"
    prepare(["digits", "--data", str(made)])
    (made / "cat").write_text("mine")
    for how in (["--as", "files"], ["--size", "8", "8"]):
        assert prepare(["folder", str(root), *how, "--force", "--data", str(made)]) == 1
        assert f"{made / 'cat'} is a file where a folder of samples is to be" in capsys.readouterr().err
        assert (made / "cat").read_text() == "mine" and len(load_notation(made)[1]) == 1797


def test_a_stray_tensor_makes_no_other_dataset_of_it(folder, tmp_path, capsys):
    root, IDs, _ = folder
    made = tmp_path.parent / f"{tmp_path.name}-made"
    prepare(["folder", str(root), "--as", "files", "--data", str(made)])
    torch.save(torch.zeros(1), made / f"{IDs[0]}.pt")
    assert prepare(["check", "--data", str(made)]) == 0
    assert prepare(["digits", "--force", "--data", str(made)]) == 0
    assert (made / f"{IDs[0]}.pt").exists() and not list(made.rglob("*.jpg"))


def test_a_pack_of_other_images_is_noticed(tmp_path, capsys):
    root = tmp_path / "data"
    prepare(["photographs", "--samples", "8", "--size", "32", "40", "--as", "jpeg", "--data", str(root)])
    prepare(["pack", "--size", "16", "20", "--data", str(root)])
    save(scene(), root / "china/1.jpg")
    capsys.readouterr()
    assert prepare(["check", "--data", str(root)]) == 1
    assert "no longer those that were packed" in capsys.readouterr().err
    prepare(["pack", "--size", "16", "20", "--data", str(root)])
    (root / "china/1.jpg").unlink()
    assert prepare(["check", "--data", str(root)]) == 0


def test_no_program_is_started_for_a_file(tmp_path, decoder):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(DatasetError, match="it holds no image, or one of a kind"):
        one(tmp_path / "a.jpg", (8, 8))


def test_a_jpeg_of_countless_scans_is_refused(tmp_path, decoder):
    data = save(scene(), tmp_path / "a.jpg", progressive=True).read_bytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(data[:-2] + scan * 1000 + data[-2:])
    with pytest.raises(DatasetError, match="more than 500 scans"):
        one(tmp_path / "a.jpg", (8, 8))


def scan_by_scan(height, width, scans):
    "A black JPEG, not progressive, whose colours come in scans of their own, the first one `scans` times"

    def segment(marker, content):
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    table = bytes([1, *[0] * 15, 0])
    data = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC0, frame)
    data += segment(0xC4, b"\x00" + table + b"\x10" + table)
    for colour in [1] * scans + [2, 3]:
        data += segment(0xDA, bytes([1, colour, 0, 0, 63, 0])) + b"\0"
    return data + b"\xff\xd9"


def test_scans_are_counted_where_they_are_not_progressive_too(tmp_path, decoder):
    (tmp_path / "a.jpg").write_bytes(scan_by_scan(64, 64, 600))
    with pytest.raises(DatasetError, match="more than 500 scans"):
        one(tmp_path / "a.jpg", (8, 8))
    assert not my_images.is_plain(scan_by_scan(64, 64, 1))
    assert my_images.is_plain(save(scene(), tmp_path / "b.jpg").read_bytes())
    assert my_images.is_plain(save(scene()[..., 0], tmp_path / "b.jpg").read_bytes())
    assert not my_images.is_plain(save(scene(), tmp_path / "b.jpg", progressive=True).read_bytes())


def test_a_file_is_read_to_its_end(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    found = os.stat(tmp_path / "a")
    for size in (0, 10, 99_999, 100_000, 200_000):  # it has grown since, or shrunk; or nobody knew its size
        told = os.stat_result((*found[:6], size, *found[7:]))
        with monkeypatch.context() as context:
            context.setattr(os, "stat", lambda file, told=told: told)
            assert my_images.read_bytes(tmp_path / "a") == b"x" * 100_000
    with pytest.raises(ValueError, match="it is a pipe or a device"):
        my_images.read_bytes(Path(os.devnull))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DatasetError, match="it is a pipe"):
        one(tmp_path / "a.jpg", (8, 8))


def test_the_camera_in_xmp_counts_too(tmp_path, decoder):
    data = save(scene(40, 64), tmp_path / "a.jpg").read_bytes()
    xmp = (
        b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'tiff:Orientation="6" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/></rdf:RDF></x:xmpmeta>'
    )
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xe1" + (len(xmp) + 2).to_bytes(2) + xmp + data[2:])
    expected = reference(tmp_path / "a.jpg")
    assert expected.shape == (64, 40, 3) and np.array_equal(one(tmp_path / "a.jpg"), expected)


@pytest.mark.skipif(my_images.simplejpeg is None, reason="Pillow is silent about it")
def test_damage_in_the_middle_is_an_error(tmp_path):
    data = save(scene(200, 200), tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    with pytest.raises(DatasetError, match="a part of its data is missing or damaged"):
        one(tmp_path / "a.jpg", (8, 8))


def test_a_tiff_whose_white_is_zero(tmp_path, decoder):
    values = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    file = save(values * 20, tmp_path / "a.tif", tiffinfo={262: 0})
    assert np.array_equal(one(file, (48, 64))[..., 0], 255 - np.round(values * 20 / 257))


def tiff_of_12_bits(values):
    "Greys, uncompressed, two of them in three bytes"
    height, width = values.shape
    first, second = values.reshape(-1, 2).T
    data = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    listed = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + listed


def test_a_tiff_of_12_bits(tmp_path, decoder):
    values = np.arange(64 * 64).reshape(64, 64)
    (tmp_path / "a.tif").write_bytes(tiff_of_12_bits(values))
    assert np.array_equal(one(tmp_path / "a.tif", (64, 64))[..., 0], np.round(values / 4095 * 255))


def test_threads_start_no_threads(tmp_path):
    "torch's own, of which each of ours would have as many as there are CPUs"
    IDs = [f"{i}.jpg" for i in range(64)]
    for i, ID in enumerate(IDs):
        save(scene(500, 600, seed=i), tmp_path / ID)
    code = (
        "import os, torch; torch.set_num_threads(8); from my_images import ImageDataset\n"
        "from my_order import EpochSampler; from my_prefetch import PrefetchLoader\n"
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


def test_torch_sees_that_colours_lie_side_by_side(tmp_path, decoder, monkeypatch):
    "By all strides, that of the batch too: `is_contiguous` says yes to more, for which torch takes longer"
    file, seen = save(scene(100, 120), tmp_path / "a.jpg"), []
    monkeypatch.setattr(
        my_images, "interpolate", lambda X, *a, **b: seen.append(X.stride()) or X[:, :, :60, :60]
    )
    for seed, stride in [(None, (100 * 100 * 3, 1, 300, 3)), (0, None)]:
        one(file, (60, 60), seed)
        batch, colour, row, column = seen[-1]
        assert stride in (None, seen[-1]) and (colour, column) == (1, 3) and batch % row == 0 < batch


def test_an_image_and_what_is_drawn_for_it_besides_differ(tmp_path):
    from my_classes import Augmented

    save(scene(), tmp_path / "a.jpg")
    images = ImageDataset(["a.jpg"], {"a.jpg": 0}, tmp_path, (8, 8), seed=3)
    seen = []
    images.random_box = lambda height, width, random: seen.append(random.random()) or (0, 0, 8, 8)
    Augmented(images, ["a.jpg"], lambda X, random: seen.append(random.random()), seed=3)[Visit(0, 5)]
    assert len(set(seen)) == 2
