"""Image files as samples: each is decoded, cropped and scaled to one size when it is asked for.

Needs Pillow. With simplejpeg, if it is installed, JPEGs are decoded in less time, to the same pixels. For
another kind of source file see the article's Dataset in my_classes.py, whose method `load` is all that has to
be replaced.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.utils.data import default_collate, get_worker_info

from .decode import Box, Pixels, cropped, decoder_of, middle, mirrored
from .memory import BatchMemory, Gathered, to_stack
from .notation import DatasetError, Edition, file_of, reading
from .order import draws, hashed_seed
from .outside import read_bytes
from .sample import describe, target
from .system import available_cpus, ctrl_c_deferred


class ImageDataset(torch.utils.data.Dataset[Any]):
    """The samples of a list of IDs, each decoded from its own image file when it is asked for.

    `list_IDs`: paths from `root` on, suffix included: "cats/17.jpg" is the file `root/cats/17.jpg`.
    `labels`: as for Dataset, or None. `size`: (height, width) of all samples, or one number for both.
    `seed`: None for the largest crop in the middle, as for validation. A number for a random crop, mirrored
    half of the time, a function of (seed, epoch, ID): see EpochSampler. The crop has 8 to 100 % of the image
    (`area`) and is 3/4 to 4/3 times as wide as `size` is (`ratio`), after Szegedy et al., "Going deeper with
    convolutions", 2014; of an image too long for that, the largest in the middle. `transform`: applied to
    each X, by the threads that decode; what it draws at random is not repeatable (see Augmented).

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
        list_IDs: Sequence[str],
        labels: Mapping[str, Any] | None,
        root: str | Path = "data",
        size: tuple[int, int] | int = (224, 224),
        seed: int | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
    ) -> None:
        "Initialization"
        size = (size, size) if isinstance(size, int) else size
        self.list_IDs, self.labels, self.root = list_IDs, labels, root
        self.size, self.seed = (size[0], size[1]), seed
        self.threads = available_cpus()
        self.transform = transform
        self.edition = Edition(root, labels)
        self._memory = BatchMemory()
        self._pool: tuple[int, int, ThreadPoolExecutor] | None = None

    def __len__(self) -> int:
        "Denotes the total number of samples"
        return len(self.list_IDs)

    def __getitem__(self, index: int) -> Any:
        "Generates one sample of data"
        ID = self.list_IDs[index]
        file = file_of(ID, self.root, self.suffix)
        random = None if self.seed is None else draws(hashed_seed(self.seed, "crop"), ID, index)
        with reading(ID, file, self.edition):
            X = self.load(file, random)
        if self.transform is not None:
            X = self.transform(X)
        if self.labels is None:
            return X
        if ID not in self.labels:
            raise DatasetError(f"sample {ID!r}, read from {file}, has no label: add it to labels")
        return X, target(self.labels[ID])

    def load(self, file: Path, random: Random | None = None) -> torch.Tensor:
        "Reads one file"
        height, width, decode = decoder_of(read_bytes(file))
        if random is None:
            box = middle(height, width, self.size)
        else:
            box = self.random_box(height, width, random)
        X = cropped(decode, (height, width), box, self.size)
        return X if random is None or random.random() < 0.5 else mirrored(X)

    def random_box(self, height: int, width: int, random: Random) -> Box:
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

    def __getitems__(self, indices: list[int]) -> Sequence[Any]:
        "Generates the samples of one batch"
        if self.transform is not None:  # what it returns may be anything
            return to_stack(self._each(indices), [self.list_IDs[index] for index in indices])
        if isinstance(indices, Foreseen) and indices.batch.X is not None:  # else it is asked for again
            return indices.batch.wait()
        return Batch(self, indices).wait()

    def foresee(self, batches: Iterable[list[int]]) -> "Foresight":
        """The same lists of indices. The threads begin with a batch when its list is taken. PrefetchLoader
        takes one ahead, so they need not wait for each other at the end of a batch. When this iterator is
        closed, the threads stop."""
        return Foresight(self, iter(batches))

    def _checked(self, index: int) -> tuple[torch.Tensor, Any]:
        "A sample, if it is one of those that a batch can hold"
        sample, ID = self[index], self.list_IDs[index]
        if self.labels is None and isinstance(sample, torch.Tensor):
            sample = sample, None
        if not isinstance(sample, tuple) or len(sample) != 2 or not isinstance(sample[0], torch.Tensor):
            raise DatasetError(f"sample {ID!r} is no tuple (X, y) whose X is a tensor")
        X, shape = sample[0], (3, *self.size)
        if X.dtype != torch.uint8 or X.shape != shape:
            wanted = describe(torch.empty(shape, dtype=torch.uint8))
            raise DatasetError(f"sample {ID!r} is {describe(X)}, where {wanted} is needed")
        return sample

    def _each(self, indices: list[int]) -> list[Any]:
        "The samples one by one, made by the threads"
        if self.threads == 1 or get_worker_info():
            return [self[index] for index in indices]
        with ctrl_c_deferred():
            running = [self._executor().submit(self.__getitem__, index) for index in indices]
        try:
            return [one.result() for one in running]
        finally:  # after an error the others are not begun any more
            for one in running:
                one.cancel()

    def _executor(self) -> ThreadPoolExecutor:
        "Of this process: a fork has none of its parent's threads"
        if self._pool is None or self._pool[:2] != (os.getpid(), self.threads):
            self._pool = os.getpid(), self.threads, ThreadPoolExecutor(self.threads, "ImageDataset")
        return self._pool[2]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_memory": BatchMemory(), "_pool": None}


class Batch:
    "A batch of an ImageDataset that its threads are making"

    def __init__(self, dataset: ImageDataset, indices: list[int]) -> None:
        self.dataset, self.indices, self.over = dataset, indices, False
        shape = (len(indices), *dataset.size, 3)
        self.X: torch.Tensor | None = dataset._memory.empty(shape, torch.uint8, shared=True)
        self.labels: list[Any] = [None] * len(indices)
        self.places = deque(range(len(indices)))  # those that no thread has taken yet
        self.errors: dict[int, Exception] = {}
        pool = dataset._executor() if dataset.threads > 1 and not get_worker_info() else None
        threads = min(dataset.threads, len(indices)) if pool else 0
        with ctrl_c_deferred():
            self.running = [pool.submit(self.work, self.X.numpy()) for _ in range(threads)] if pool else []

    def work(self, pixels: Pixels) -> None:
        "What each thread does"
        while True:
            try:
                place = self.places.popleft()
            except IndexError:
                return
            try:
                X, self.labels[place] = self.dataset._checked(self.indices[place])
                pixels[place] = X.numpy().transpose(1, 2, 0)  # NumPy's views, as in `cropped`
            except Exception as error:
                self.errors[place] = error
                return

    def wait(self) -> Gathered:
        "The batch, once it is made; or the error of the first sample that has one. For one call only"
        X, self.X = self.X, None
        assert X is not None
        try:
            if not self.running:
                self.work(X.numpy())
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
        y = default_collate(self.labels) if self.dataset.labels is not None else None
        return Gathered(X.permute(0, 3, 1, 2), y, self.labels)

    def stop(self) -> None:
        "Lets the threads begin with no further sample"
        self.over = True
        self.places.clear()


class Foresight(Iterator[list[int]]):
    "Lists of indices, each begun when it is taken. No generator: at its end, one cannot be closed any more"

    def __init__(self, dataset: ImageDataset, batches: Iterator[list[int]]) -> None:
        self.dataset, self.batches = dataset, batches
        self.begun: list[Batch] = []

    def __next__(self) -> list[int]:
        indices = next(self.batches)
        own = getattr(self.dataset.__getitems__, "__func__", None) is ImageDataset.__getitems__
        if not own or self.dataset.transform is not None:
            return indices
        self.begun = [batch for batch in self.begun if not batch.over]
        with ctrl_c_deferred():  # in `submit` it would leave the pool waiting for a lock
            self.begun.append(Batch(self.dataset, list(indices)))
        return Foreseen(indices, self.begun[-1])

    def close(self) -> None:
        "Lets the threads begin with no further sample"
        for batch in self.begun:
            batch.stop()

    __del__ = close


class Foreseen(list[int]):
    "Indices of a batch with which the threads have begun"

    def __init__(self, indices: list[int], batch: Batch) -> None:
        super().__init__(indices)
        self.batch = batch
