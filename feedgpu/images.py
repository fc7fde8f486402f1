"""Image files as samples: each is decoded, cropped and scaled to one size when it is asked for.

Needs Pillow. With simplejpeg, if it is installed, JPEGs are decoded in less time, to the same pixels. For
another kind of source file see the article's Dataset in my_classes.py, whose method `load` is all that has to
be replaced.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from typing import Any

import torch

from .decode import Box, cropped, decoder_of, middle, mirrored
from .memory import is_batch, whole_batch
from .notation import DatasetError, Edition, file_of, reading
from .order import draws, hashed_seed
from .outside import read_bytes
from .sample import target
from .system import available_cpus
from .threads import Batch, Foreseen, Foresight, Threads


class ImageDataset(torch.utils.data.Dataset[Any]):
    """The samples of a list of IDs, each decoded from its own image file when it is asked for.

    `list_IDs`: paths from `root` on, suffix included: "cats/17.jpg" is the file `root/cats/17.jpg`.
    `labels`: as for Dataset, or None. `size`: (height, width) of all samples, or one number for both.
    `seed`: None for the largest crop in the middle, as for validation. A number for a random crop, mirrored
    half of the time, a function of (seed, epoch, ID): see EpochSampler. The crop has 8 to 100 % of the image
    (`area`) and is 3/4 to 4/3 times as wide as `size` is (`ratio`), after Szegedy et al., "Going deeper with
    convolutions", 2014; of an image too long for that, the largest in the middle. `transform(X)` and
    `augment(X, random)` change each X, by the threads that decode; what `random` draws is repeatable, as that
    of Augmented is; without a `seed` it is that of seed 0.

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
        transform: Callable[[Any], Any] | None = None,
        augment: Callable[[Any, Random], Any] | None = None,
    ) -> None:
        "Initialization"
        size = (size, size) if isinstance(size, int) else size
        self.list_IDs, self.labels, self.root = list_IDs, labels, root
        self.size, self.seed = (size[0], size[1]), seed
        self._threads = Threads(available_cpus(), "ImageDataset")
        self.transform, self.augment = transform, augment
        self.edition = Edition(root, labels)

    def __len__(self) -> int:
        "Denotes the total number of samples"
        return len(self.list_IDs)

    def __getitem__(self, index: int) -> Any:
        "Generates one sample of data"
        if is_batch(index):
            return whole_batch(self, index)
        ID = self.list_IDs[index]
        file = file_of(ID, self.root, self.suffix)
        random = None if self.seed is None else draws(hashed_seed(self.seed, "crop"), ID, index)
        with reading(ID, file, self.edition):
            X = self.load(file, random)
        if self.transform is not None:
            X = self.transform(X)
        if self.augment is not None:
            X = self.augment(X, draws(self.seed or 0, ID, index))
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
        if isinstance(indices, Foreseen) and (made := indices.wait()) is not None:
            return made
        return self._begin(indices).wait()

    def foresee(self, batches: Iterable[list[int]]) -> Foresight:
        """The same lists of indices. The threads begin with a batch when its list is taken. PrefetchLoader
        takes one ahead, so they need not wait for each other at the end of a batch. When this iterator is
        closed, the threads stop."""
        own = type(self).__getitems__ is ImageDataset.__getitems__
        return Foresight(self._begin if own else None, batches)

    def _begin(self, indices: Sequence[int]) -> Batch:
        return Batch(self._threads, self.__getitem__, indices, self.list_IDs.__getitem__)

    @property
    def threads(self) -> int:
        "How many decode a batch"
        return self._threads.count

    @threads.setter
    def threads(self, count: int) -> None:
        if count != self._threads.count:  # a copy of this dataset keeps those that it had
            self._threads = Threads(count, "ImageDataset")
