"""Learns a class for each pixel: a sample is an image and its mask.

    PYTHONPATH=. python3 recipes/segmentation.py

What differs from pytorch_script.py: a sample is a dict of two tensors, there are no labels, and the criterion
compares scores of N×classes×H×W with masks of N×H×W. The pack has a file for each field.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from feedgpu import PackedDataset, PrefetchLoader
from feedgpu.prepare import pack_samples


def samples(numbers):
    "Noise with a bright square, which is class 1 of the mask: (ID, X), for there is no other target"
    for i in numbers:
        generator = torch.Generator().manual_seed(i)
        image = torch.randint(0, 120, (3, 16, 16), generator=generator, dtype=torch.uint8)
        top, left = torch.randint(0, 10, (2,), generator=generator).tolist()
        mask = torch.zeros(16, 16, dtype=torch.uint8)
        mask[top : top + 6, left : left + 6] = 1
        image[:, mask == 1] += 100
        yield f"scene-{i:03}", {"image": image, "mask": mask}


def main(root: Path):
    "The share of right pixels in validation, and that of calling all of them background"
    partition, labels = pack_samples(
        {"train": samples(range(200)), "validation": samples(range(200, 250))}, root
    )
    torch.manual_seed(0)
    # Your own lines: begin
    training_set = PackedDataset(partition["train"], labels, root)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(5):
        for local_batch in PrefetchLoader(training_set, 16, shuffle=True):
            loss = criterion(model(local_batch["image"].float() / 255), local_batch["mask"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    # Your own lines: end
    validation_set = PackedDataset(partition["validation"], labels, root)
    batch = next(iter(PrefetchLoader(validation_set, len(validation_set))))
    with torch.no_grad():
        right = model(batch["image"].float() / 255).argmax(1) == batch["mask"]
    return right.float().mean().item(), (batch["mask"] == 0).float().mean().item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        right, baseline = main(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
    print(f"{right:.1%} of the pixels are right; all background gives {baseline:.1%}.")
