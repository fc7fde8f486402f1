"""Image files as samples: each is decoded, cropped and scaled to one size when it is asked for.

Copy this file with my_classes.py. Needs torch, numpy and Pillow. With simplejpeg, if it is installed, JPEGs
are decoded in less time, to the same pixels. For another kind of source file see Dataset, whose method `load`
is all that has to be replaced.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from io import BytesIO
from math import exp, inf, log, sqrt
from pathlib import Path
from random import Random

import numpy
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn.functional import interpolate
from torch.utils.data import default_collate, get_worker_info

from my_classes import (
    Dataset,
    DatasetError,
    available_cpus,
    describe,
    draws,
    file_of,
    hashed_seed,
    reason,
)
from my_packed import BatchMemory, Gathered

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

SCALES = (8, 4, 2)  # by which a JPEG can be decoded smaller than it is, in less time
ORIENTATION, BITS, WHITE = 0x0112, 258, 262  # tags of EXIF and TIFF
KINDS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")  # none runs a program
SCANS, SEGMENTS = 500, 1000  # of a JPEG; more than any has
FRAMES, SCAN = (0xC0, 0xC1), 0xDA  # markers of a JPEG: frames that are not progressive, and a scan
HARMLESS = {0xC4, 0xDB, 0xDD, 0xE0, *range(0xE2, 0xF0), 0xFE}  # tables, notes of programs, and comments
ROWS = 32_000  # values that torch changes without starting threads


class ImageDataset(Dataset):
    """The samples of a list of IDs, each decoded from its own image file when it is asked for.

    `list_IDs`: paths from `root` on, suffix included: "cats/17.jpg" is the file `root/cats/17.jpg`.
    `labels`: {ID: number}. `size`: (height, width) of all samples.
    `seed`: None for the largest crop in the middle, as for validation. A number for a random crop, mirrored
    half of the time, a function of (seed, epoch, ID): see EpochSampler. The crop has 8 to 100 % of the image
    (`area`) and is 3/4 to 4/3 times as wide as `size` is (`ratio`), after Szegedy et al., "Going deeper with
    convolutions", 2014; of an image too long for that, the largest in the middle.

    `dataset[index]` is `(X, y)`: uint8 of 3×height×width, RGB, and its label. In memory the three colours of
    a pixel lie side by side (channels last), as decoders write them and convolutions like them. Images are
    turned as their camera says, greys and CMYK become RGB, transparency is dropped. Greys of 16 bits are
    divided by 257; of colours with 16 bits Pillow keeps the upper 8, which differs by one level at most.

    Raises DatasetError, naming ID and file, for a file that is missing, cut short, no image, or of more than
    twice PIL.Image.MAX_IMAGE_PIXELS pixels. Damage within a file is found as far as the decoder tells.

    A batch is decoded at once, by `threads` threads (the CPUs, unless you set another number; one in a
    worker): decoders do not hold Python's lock. So PrefetchLoader feeds from all CPUs, as DataLoader's
    workers do.
    """

    suffix = ""
    area = 0.08, 1.0
    ratio = 3 / 4, 4 / 3

    def __init__(
        self,
        list_IDs,
        labels,
        root="data",
        size: tuple[int, int] = (224, 224),
        seed: int | None = None,
    ):
        "Initialization"
        super().__init__(list_IDs, labels, root)
        self.size, self.seed = tuple(size), seed
        self.threads = available_cpus()
        self._memory, self._pool = BatchMemory(), None

    def __getitem__(self, index):
        "Generates one sample of data"
        ID = self.list_IDs[index]
        file = file_of(ID, self.root, self.suffix)
        random = None if self.seed is None else draws(hashed_seed(self.seed, "crop"), ID, index)
        try:
            X = self.load(file, random)
        except Exception as error:
            raise DatasetError(f"sample {ID!r}: {file} cannot be read: {reason(error)}") from error
        if ID not in self.labels:
            raise DatasetError(f"sample {ID!r}, read from {file}, has no label: add it to labels")
        return X, self.labels[ID]

    def load(self, file: Path, random: Random | None = None) -> torch.Tensor:
        "Reads one file"
        height, width, decode = opened(read_bytes(file))
        if random is None:
            box = middle(height, width, self.size)
        else:
            box = self.random_box(height, width, random)
        X = cut(decode, (height, width), box, self.size)
        return X if random is None or random.random() < 0.5 else mirrored(X)

    def random_box(self, height: int, width: int, random: Random) -> tuple[int, int, int, int]:
        "Where to cut a random crop: (upper, left, height, width) in pixels"
        shape = self.size[1] / self.size[0]
        for _ in range(10):
            area = random.uniform(*self.area) * height * width
            ratio = exp(random.uniform(*map(log, self.ratio))) * shape
            h, w = max(1, round(sqrt(area / ratio))), max(1, round(sqrt(area * ratio)))
            if h <= height and w <= width:
                return random.randint(0, height - h), random.randint(0, width - w), h, w
        least, most = (shape * bound for bound in self.ratio)
        return middle(height, width, (1, min(most, max(least, width / height))))

    def __getitems__(self, indices):
        "Generates the samples of one batch"
        batch = indices.batch if isinstance(indices, Foreseen) else Batch(self, indices)
        return batch.wait()

    def foresee(self, batches: Iterable[list]) -> Iterator[list]:
        """The same lists of indices. The threads begin with a batch when its list is taken. PrefetchLoader
        takes one ahead, so they need not wait for each other at the end of a batch."""
        for indices in batches:
            ours = getattr(self.__getitems__, "__func__", None) is ImageDataset.__getitems__
            yield Foreseen(indices, Batch(self, list(indices))) if ours else indices

    def _checked(self, index: int) -> tuple:
        "A sample, if it is one of those that a batch can hold"
        sample, ID = self[index], self.list_IDs[index]
        if not isinstance(sample, tuple) or len(sample) != 2 or not isinstance(sample[0], torch.Tensor):
            raise DatasetError(f"sample {ID!r} is no tuple (X, y) whose X is a tensor")
        X, shape = sample[0], (3, *self.size)
        if X.dtype != torch.uint8 or X.shape != shape:
            wanted = describe(torch.empty(shape, dtype=torch.uint8))
            raise DatasetError(f"sample {ID!r} is {describe(X)}, where {wanted} is needed")
        return sample

    def _executor(self) -> ThreadPoolExecutor:
        "Of this process: a fork has none of its parent's threads"
        if self._pool is None or self._pool[:2] != (os.getpid(), self.threads):
            self._pool = os.getpid(), self.threads, ThreadPoolExecutor(self.threads, "ImageDataset")
        return self._pool[2]

    def __getstate__(self):
        return self.__dict__ | {"_memory": BatchMemory(), "_pool": None}


class Batch:
    "A batch of an ImageDataset that its threads are making"

    def __init__(self, dataset: ImageDataset, indices: list):
        self.dataset, self.indices = dataset, indices
        self.X = dataset._memory.empty((len(indices), *dataset.size, 3), torch.uint8, shared=True)
        self.pixels, self.labels = self.X.numpy(), [None] * len(indices)
        self.places, self.errors = iter(range(len(indices))), {}
        pool = dataset._executor() if dataset.threads > 1 and not get_worker_info() else None
        threads = min(dataset.threads, len(indices)) if pool else 0
        self.running = [pool.submit(self.work) for _ in range(threads)]

    def work(self):
        "What each thread does"
        for place in self.places:  # it takes the next one that nobody has taken
            try:
                X, self.labels[place] = self.dataset._checked(self.indices[place])
                self.pixels[place] = X.numpy().transpose(1, 2, 0)  # NumPy's views, as in `cut`
            except Exception as error:
                self.errors[place] = error
                return

    def wait(self) -> list:
        try:
            if not self.running:
                self.work()
            for thread in self.running:
                thread.result()
        finally:
            self.stop()  # after Ctrl-C the threads are to begin no more of this batch
        if self.errors:
            error = self.errors[min(self.errors)]
            self.errors.clear()  # their tracebacks hold this batch
            try:
                raise error
            finally:
                del error
        return [Gathered(self.X.permute(0, 3, 1, 2), default_collate(self.labels))]

    def stop(self):
        deque(self.places, maxlen=0)


class Foreseen(list):
    "Indices of a batch with which the threads have begun; when nobody has them any more, they stop."

    def __init__(self, indices: list, batch: Batch):
        super().__init__(indices)
        self.batch = batch

    def __del__(self):
        self.batch.stop()


def opened(data: bytes) -> tuple[int, int, Callable[[int], numpy.ndarray]]:
    """Height and width of an image as one looks at it, and a function that decodes it: `decode(scale)` is
    uint8, height×width×3, smaller by a `scale` of 1 or, for a JPEG, of 2, 4 or 8.

    Raises ValueError, OSError and what else Pillow raises for what is no image.
    """
    jpeg = data.startswith(b"\xff\xd8\xff")
    plain = jpeg and is_plain(data)
    if jpeg and not plain and data.count(b"\xff\xda") > SCANS:
        raise ValueError(f"it is a JPEG of more than {SCANS} scans, which take for ever to decode")
    if jpeg and simplejpeg is not None:
        with suppress(ValueError):  # it is damaged, or of a kind that simplejpeg does not know
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            turned = not plain and has_exif(data) and orientation(open_image(data)) != 1
            if colours in ("YCbCr", "Gray", "RGB") and not turned and height * width <= most_pixels():
                return height, width, partial(with_simplejpeg, data, height, width)
    image = open_image(data)
    if image.format not in ("JPEG", "MPO"):
        pixels = with_pillow(image, 1)
        return *pixels.shape[:2], lambda scale: pixels
    width, height = image.size
    if orientation(image) >= 5:
        height, width = width, height
    return height, width, partial(with_pillow, image)


def is_plain(data: bytes) -> bool:
    """Whether a JPEG is one scan of all its colours and has neither EXIF nor XMP, by its segments before the
    scan. If anything there is unusual, it is not plain: then all of it is looked at, which takes longer."""
    place, colours = 2, None
    for _ in range(SEGMENTS):
        head = data[place : place + 10]
        if len(head) < 10 or head[0] != 0xFF:
            return False
        if head[1] == SCAN:
            return head[4] == colours
        if head[1] in FRAMES:
            colours = head[9]
        elif head[1] not in HARMLESS:
            return False
        place += 2 + (head[2] << 8 | head[3])
    return False


def has_exif(data: bytes) -> bool:
    "Whether it may say how the camera was held, in EXIF or XMP; Pillow, which takes longer, then looks"
    return b"Exif\0\0" in data or b"rientation" in data


def with_simplejpeg(data: bytes, height: int, width: int, scale: int) -> numpy.ndarray:
    try:
        return simplejpeg.decode_jpeg(data, min_height=-(-height // scale), min_width=-(-width // scale))
    except ValueError as error:
        pixels = with_pillow(open_image(data), scale)  # which may take it, or says better why not
        if "premature end of data segment" in str(error):  # about which Pillow may be silent
            raise ValueError("a part of its data is missing or damaged") from error
        return pixels


def with_pillow(image: Image.Image, scale: int) -> numpy.ndarray:
    if scale > 1:
        image.draft(image.mode, (image.width // scale, image.height // scale))
    image = as_seen(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return numpy.array(image.convert("RGB"))


def open_image(data: bytes) -> Image.Image:
    if not data:
        raise ValueError("it is empty")
    try:
        return Image.open(BytesIO(data), formats=kinds())
    except UnidentifiedImageError as error:
        raise ValueError("it holds no image, or one of a kind that Pillow does not know") from error


@cache
def kinds() -> tuple[str, ...]:
    "Those of KINDS that this Pillow has"
    Image.init()
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def orientation(image: Image.Image) -> int:
    "How the camera was held: 1 upright, 5 to 8 on its side"
    held = image.getexif().get(ORIENTATION, 1)
    return held if held in range(1, 9) else 1


def as_seen(image: Image.Image) -> Image.Image:
    "Turned as its camera says, and with 8 bits a value: 16 are divided by 257, which Pillow would clip"
    if image.mode.startswith("I"):
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        most = 2 ** min(16, tags.get(BITS, (16,))[0]) - 1
        values = numpy.asarray(image)
        if values.size and not 0 <= values.min() <= values.max() <= most:
            raise ValueError("its values have more than 16 bits: save it with 8, or as .npy")
        values = (values.astype(numpy.uint32) * 255 + most // 2) // most
        turned = image.getexif()
        image = Image.fromarray((255 - values if tags.get(WHITE) == 0 else values).astype(numpy.uint8))
        image.getexif().update(turned)
    elif image.mode == "F":
        raise ValueError("its values are no whole numbers: save it with 8 bits a value, or as .npy")
    return ImageOps.exif_transpose(image)


def most_pixels() -> float:
    "More are refused, as by Pillow: a small file may hold so many that they fill the memory"
    return 2 * (Image.MAX_IMAGE_PIXELS or inf)


def mirrored(X: torch.Tensor) -> torch.Tensor:
    "Left and right exchanged: 3×height×width. In pieces, or torch starts threads for it, in each of ours."
    Y, rows = torch.empty_like(X), max(1, ROWS // (3 * X.shape[2]))
    for piece, target in zip(X.split(rows, 1), Y.split(rows, 1), strict=True):
        target.copy_(piece.flip(-1))
    return Y


def read_bytes(file: Path) -> bytes:
    """Of a file, in as few calls as it takes: in each, a thread gives Python's lock away, and then waits for
    it. A pipe, for which one would wait for ever, is refused, and so is a device."""
    found = os.stat(file)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise ValueError("it is a pipe or a device")
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(handle, found.st_size + 1)
        if len(data) == found.st_size:
            return data
        return b"".join([data, *iter(partial(os.read, handle, 1 << 24), b"")])
    finally:
        os.close(handle)


def middle(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    "The largest crop in the middle that has the shape of `size`: (upper, left, height, width)"
    share = min(height / size[0], width / size[1])
    h, w = max(1, round(share * size[0])), max(1, round(share * size[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def cut(decode: Callable, shape: tuple[int, int], box: tuple, size: tuple[int, int]) -> torch.Tensor:
    """The part `box` of an image of this (height, width), scaled to `size`: uint8, 3×height×width.

    Bilinear and antialiased, as Pillow does it, by torch, which takes a fraction of the time where the
    colours of a pixel lie side by side. Where the crop is to become half as large or smaller, a JPEG is
    decoded so.
    """
    upper, left, h, w = box
    scale = next((by for by in SCALES if h >= by * size[0] and w >= by * size[1]), 1)
    pixels = decode(scale)
    if pixels.shape[:2] != shape:
        down, across = pixels.shape[0] / shape[0], pixels.shape[1] / shape[1]
        upper, left = round(upper * down), round(left * across)
        h, w = max(1, round(h * down)), max(1, round(w * across))
    # By NumPy, in this thread alone: torch would start threads of its own to copy, in each of ours, and gives
    # Python's lock away for each view, for which the next one then waits.
    pixels = numpy.ascontiguousarray(pixels[upper : upper + h, left : left + w])
    X = torch.from_numpy(pixels.reshape(1, *pixels.shape).transpose(0, 3, 1, 2))
    if X.shape[2:] != size:
        X = interpolate(X, size, mode="bilinear", antialias=True)
    return torch.from_numpy(X.numpy()[0])
