"""The sources that need no files of yours: digits, photographs and synthetic samples.

Each function returns a Source, which `feedgpu.layout.write` writes into a folder. A sample is a function of
its ID and the seed alone.
"""

from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from feedgpu.layout import Source
from my_classes import DatasetError, hashed_seed


def split(labels: dict[str, int], seed: int = 0) -> dict[str, list[str]]:
    """The partition of the IDs in `labels`: a fifth of each class is for validation, the rest to train.

    A class of two samples or more gives at least one to each; a single one is for training. (scikit-learn's
    split refuses such classes.) Whether a sample is drawn depends on nothing but its class, its ID and the
    seed, not on a library's version.
    """
    members = {}
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


def digits() -> Source:
    "The 1,797 handwritten digits that come with scikit-learn: float32, 1×8×8, from 0 to 1"
    from sklearn.datasets import load_digits  # takes a second to import

    found = load_digits()
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
    from sklearn.datasets import load_sample_image  # takes a second to import

    if samples < 4:
        raise DatasetError(
            f"{samples} samples are too few: each of the 2 photographs needs one to train and one to "
            "validate, so say --samples 4 or more"
        )
    classes = ["china", "flower"]
    photos = {name: Image.fromarray(load_sample_image(f"{name}.jpg")) for name in classes}
    name = "{}/{}.jpg" if kept_as == "jpeg" else "{}-{}"
    labels = {name.format(classes[i % 2], i // 2 + 1): i % 2 for i in range(samples)}
    partition = split(labels, seed)
    validation = set(partition["validation"])

    def crop(ID: str) -> Image.Image:
        photo = photos[classes[labels[ID]]]
        height, width = size
        cut = photo.crop(crop_box(ID, ID in validation, photo.size, size, seed))
        return cut.resize((width, height), Image.Resampling.BILINEAR)

    def read(ID: str) -> torch.Tensor:
        return pixels(crop(ID))

    def keep(ID: str, file: Path):
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


def pixels(image: Image.Image) -> torch.Tensor:
    "An image as a tensor: uint8, C×H×W"
    array = np.array(image)
    return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1)


def synthetic(
    samples: int, shape: tuple[int, int, int], dtype="uint8", classes: int = 10, seed: int = 0
) -> Source:
    """Noise over a coarse pattern of 4×4 fields that its class has in common, to measure with and to learn.

    `shape`: (C, H, W). `dtype`: the name of a torch dtype; uint8 has values from 0 to 254, a floating
    dtype the same divided by 255. `classes`: how many, in turn.
    """
    channels, height, width = shape
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    labels = {f"id-{i + 1}": i % classes for i in range(samples)}

    def noise(shape: tuple, *seeds) -> np.ndarray:
        random = np.random.Generator(np.random.PCG64(hashed_seed(seed, *seeds)))
        return random.integers(0, 256, shape, dtype=np.uint8) >> 1

    def read(ID: str) -> torch.Tensor:
        pattern = noise((channels, 4, 4), "class", labels[ID])
        X = torch.from_numpy(noise(shape, "sample", ID) + pattern.take(rows, 1).take(columns, 2))
        return X if dtype == "uint8" else X.to(getattr(torch, dtype)) / 255

    return Source(split(labels, seed), labels, None, read)
