"""The sources that need no files of yours: digits, photographs, synthetic samples and sounds.

Each function returns a Source, which `feedgpu.prepare.write` writes into a folder. A sample is a function of
its ID and the seed alone.
"""

import math
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..notation import DatasetError
from ..order import hashed_seed
from ..rooms import MissingExtra
from ..system import ctrl_c_deferred
from .layout import Source

if TYPE_CHECKING:
    from PIL import Image

Values = np.ndarray[Any, np.dtype[np.uint8]]


def split(labels: dict[str, int], seed: int = 0) -> dict[str, list[str]]:
    """The partition of the IDs in `labels`: a fifth of each class is for validation, the rest to train.

    A class of two samples or more gives at least one to each; a single one is for training. (scikit-learn's
    split refuses such classes.) Whether a sample is drawn depends on nothing but its class, its ID and the
    seed, not on a library's version.
    """
    members: dict[int, list[str]] = {}
    for ID, y in labels.items():
        members.setdefault(y, []).append(ID)
    drawn = set()
    for IDs in members.values():
        number = min(max(1, round(len(IDs) / 5)), len(IDs) - 1)
        drawn.update(sorted(IDs, key=lambda ID: hashed_seed(seed, ID))[:number])
    return {
        "train": [ID for ID in labels if ID not in drawn],
        "validation": [ID for ID in labels if ID in drawn],
    }


def samples_of_sklearn() -> Any:
    "The module that has its samples; it takes a second to import"
    try:
        with ctrl_c_deferred():  # torn while it is imported, a package may catch the Ctrl-C and be half there
            import sklearn.datasets
    except ImportError as error:
        raise MissingExtra(
            "digits and photographs come with scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    return sklearn.datasets


def digits() -> Source:
    "The 1,797 handwritten digits that come with scikit-learn: float32, 1×8×8, from 0 to 1"
    found = samples_of_sklearn().load_digits()
    IDs = [f"id-{i + 1}" for i in range(len(found.images))]
    labels = dict(zip(IDs, found.target.tolist(), strict=True))
    images = dict(zip(IDs, found.images, strict=True))

    def read(ID: str) -> torch.Tensor:
        return torch.from_numpy(images[ID]).to(torch.float32).unsqueeze(0) / 16

    return Source(split(labels), labels, None, read)


def photographs(samples: int, size: tuple[int, int], seed: int = 0, kept_as: str = "tensors") -> Source:
    """Crops of the two photographs that come with scikit-learn: uint8, 3×H×W, label 0 china, 1 flower.

    `samples`: how many, at least 4, half of each. `size`: (H, W) to which each crop is scaled. Validation
    sees a part of each photograph of which training sees no pixel: `crop_box` says where.
    `kept_as`: "tensors", or "jpeg" for image files, as ImageDataset reads them: `china/1.jpg`, of quality 90.
    Raises DatasetError for fewer than 4 samples.
    """
    from ..decode import Image  # which needs Pillow

    if samples < 4:
        raise DatasetError(
            f"{samples} samples are too few: each of the 2 photographs needs one to train and one to "
            "validate, so say --samples 4 or more"
        )
    datasets, classes = samples_of_sklearn(), ["china", "flower"]
    photos = {name: Image.fromarray(datasets.load_sample_image(f"{name}.jpg")) for name in classes}
    name = "{}/{}.jpg" if kept_as == "jpeg" else "{}-{}"
    labels = {name.format(classes[i % 2], i // 2 + 1): i % 2 for i in range(samples)}
    partition = split(labels, seed)
    validation = set(partition["validation"])

    def crop(ID: str) -> "Image.Image":
        photo = photos[classes[labels[ID]]]
        height, width = size
        cut = photo.crop(crop_box(ID, ID in validation, photo.size, size, seed))
        return cut.resize((width, height), Image.Resampling.BILINEAR)

    def read(ID: str) -> torch.Tensor:
        return pixels(crop(ID))

    def keep(ID: str, file: Path) -> None:
        crop(ID).save(file, "JPEG", quality=90)

    return Source(partition, labels, classes, read, keep=keep if kept_as == "jpeg" else None)


def crop_box(
    ID: str, validates: bool, photo: tuple[int, int], size: tuple[int, int], seed: int
) -> tuple[int, int, int, int]:
    """Where a sample is cut from its photograph: (left, upper, right, lower) in pixels.

    Training has the left 60 % of the width, validation the rest. The crops of both have the same range of
    scales, from a third of what fits into the smaller part, so that the two differ in nothing else.
    `photo`: its (width, height). `size`: the (H, W) whose proportions the crop has.
    """
    random = Random(hashed_seed(seed, ID))
    (width, height), (H, W) = photo, size
    border = round(0.6 * width)
    scale = min((width - border) / W, height / H) * (1 + 2 * random.random()) / 3
    w, h = max(1, round(scale * W)), max(1, round(scale * H))
    first, last = (border, width - w) if validates else (0, border - w)
    left, upper = first + int(random.random() * (last - first + 1)), int(random.random() * (height - h + 1))
    return left, upper, left + w, upper + h


def pixels(image: "Image.Image") -> torch.Tensor:
    "An image as a tensor: uint8, C×H×W"
    array = np.array(image)
    return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1)


def synthetic(
    samples: int, shape: tuple[int, int, int], dtype: str = "uint8", classes: int = 10, seed: int = 0
) -> Source:
    """Noise over a coarse pattern of 4×4 fields that its class has in common, to measure with and to learn.

    `shape`: (C, H, W). `dtype`: the name of a torch dtype; uint8 has values from 0 to 254, a floating
    dtype the same divided by 255. `classes`: how many, in turn.
    """
    channels, height, width = shape
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    labels = {f"id-{i + 1}": i % classes for i in range(samples)}

    def noise(shape: tuple[int, ...], *seeds: object) -> Values:
        random = np.random.Generator(np.random.PCG64(hashed_seed(seed, *seeds)))
        values: Values = random.integers(0, 256, shape, dtype=np.uint8) >> np.uint8(1)
        return values

    def read(ID: str) -> torch.Tensor:
        pattern = noise((channels, 4, 4), "class", labels[ID])
        X = torch.from_numpy(noise(shape, "sample", ID) + pattern.take(rows, 1).take(columns, 2))
        return X if dtype == "uint8" else X.to(getattr(torch, dtype)) / 255

    return Source(split(labels, seed), labels, None, read)


def sounds(samples: int, seed: int = 0) -> Source:
    """Whistles, float32 of shape T with 8,000 values a second, from -1 to 1.

    Label 0 rises, 1 falls and 2 trills: one in 33 does. Half of them last longer than half a second; the
    lengths are log-normal, between 800 and 32,000 values. A sound is a function of its ID and the seed.
    """
    labels = {f"sound-{i + 1}": 2 if i % 33 == 32 else i % 2 for i in range(samples)}

    def read(ID: str) -> torch.Tensor:
        random = Random(hashed_seed(seed, ID))
        length = min(32_000, max(800, int(4_000 * random.lognormvariate(0, 0.7))))
        low, loud = 300 + 500 * random.random(), 0.3 + 0.7 * random.random()
        seconds = torch.arange(length) / 8_000
        kinds = (
            seconds / seconds[-1],
            1 - seconds / seconds[-1],
            (2 * math.pi * 12 * seconds).sin() / 2 + 0.5,
        )
        pitch = low * (1 + kinds[labels[ID]])  # in Hz, up to one octave above the lowest
        return loud * (2 * math.pi / 8_000 * pitch.cumsum(0)).sin()

    return Source(split(labels, seed), labels, ["rises", "falls", "trills"], read)
