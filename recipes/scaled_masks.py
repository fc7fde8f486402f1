"""Crops, mirrors and scales an image together with its mask, and invents no class.

    PYTHONPATH=. python3 recipes/scaled_masks.py

An image is scaled by averaging. In a mask the average of class 1 and class 3 would be class 2, so there each
pixel is the nearest one. The draws are a function of (seed, epoch, ID): the same for the image and its mask.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from feedgpu import Augmented, EpochSampler, PackedDataset, PrefetchLoader
from feedgpu.prepare import pack_samples

CLASSES, SIZE = (0, 3, 7), (24, 24)


def samples():
    "Masks of the classes 0, 3 and 7; the image has ten times the number of the class"
    for i in range(60):
        mask = torch.zeros(40, 40, dtype=torch.uint8)
        mask[5 : 12 + i % 20, 8:30] = 3
        mask[20:, i % 25 :] = 7
        yield f"scene-{i:02}", {"image": (10 * mask).expand(3, 40, 40).clone(), "mask": mask}


# Your own lines: begin
def crop_and_mirror(X, random):
    side = random.randint(20, 40)
    top, left = random.randint(0, 40 - side), random.randint(0, 40 - side)
    image, mask = (X[name][..., top : top + side, left : left + side] for name in ("image", "mask"))
    if random.random() < 0.5:
        image, mask = image.flip(-1), mask.flip(-1)
    image = interpolate(image[None].float(), SIZE, mode="bilinear", antialias=True)[0].round().byte()
    mask = interpolate(mask[None, None].float(), SIZE, mode="nearest-exact")[0, 0].byte()
    return {"image": image, "mask": mask}


# Your own lines: end


def main(root: Path):
    "The batches of an epoch, cropped, mirrored and scaled"
    partition, labels = pack_samples(samples(), root)
    training_set = PackedDataset(partition["train"], labels, root)
    training_set = Augmented(training_set, partition["train"], crop_and_mirror, seed=0)
    training_sampler = EpochSampler(len(training_set), seed=0)
    return list(PrefetchLoader(training_set, 8, sampler=training_sampler))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = main(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
    classes = torch.cat([batch["mask"].flatten() for batch in found]).unique().tolist()
    print(f"Masks of {SIZE[0]}×{SIZE[1]} pixels with the classes {classes}.")
