"""Learns a class from two inputs: an image and a vector of numbers.

    PYTHONPATH=. python3 recipes/two_inputs.py

What differs from pytorch_script.py: a sample's X is a tuple of two tensors, so a batch is a tuple of two, and
the model takes both.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from feedgpu.prepare import Source, split, write
from my_classes import Dataset


def sample(ID: str):
    "An image, dark or bright, and two numbers"
    generator = torch.Generator().manual_seed(int(ID.rpartition("-")[2]))
    image = torch.randint(0, 128, (1, 8, 8), generator=generator, dtype=torch.uint8)
    numbers = torch.randn(2, generator=generator)
    return image + 127 * (numbers[1] > 0).byte(), numbers


def class_of(ID: str) -> int:
    "1 if the image is bright and the first number above 0: neither of the two tells it alone"
    image, numbers = sample(ID)
    return int(image.float().mean() > 127 and numbers[0] > 0)


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.numbers = nn.Linear(64, 8), nn.Linear(2, 8)
        self.classes = nn.Linear(16, 2)

    def forward(self, image, numbers):
        parts = self.image(image.flatten(1).float() / 255), self.numbers(numbers)
        return self.classes(torch.cat(parts, 1).relu())


def main(root: Path):
    "The share of right classes in validation, and that of always saying the commoner one"
    labels = {ID: class_of(ID) for ID in (f"case-{i}" for i in range(400))}
    partition, labels = write(Source(split(labels), labels, None, sample), root)
    torch.manual_seed(0)
    # Your own lines: begin
    training_set = Dataset(partition["train"], labels, root)
    model, criterion = Both(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(10):
        for (image, numbers), local_labels in torch.utils.data.DataLoader(training_set, 32, shuffle=True):
            loss = criterion(model(image, numbers), local_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    # Your own lines: end
    validation_set = Dataset(partition["validation"], labels, root)
    X, y = next(iter(torch.utils.data.DataLoader(validation_set, len(validation_set))))
    with torch.no_grad():
        right = (model(*X).argmax(1) == y).float().mean().item()
    return right, y.bincount().max().item() / len(y)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        right, baseline = main(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
    print(f"{right:.0%} of the classes are right; always the commoner one gives {baseline:.0%}.")
