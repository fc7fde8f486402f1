"""Learns several labels a sample, such as the genres of a film: id,path,label, where a label is comedy|war.

    PYTHONPATH=. python3 recipes/several_labels.py

What differs from pytorch_script.py: the table is prepared with `--target several`, which makes a list of 0
and 1 of each label, and the criterion judges each class on its own. data/classes.json has the names.
"""

import csv
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from torch import nn

from feedgpu import load_notation
from feedgpu.prepare import table, write
from my_classes import Dataset

GENRES = ["comedy", "drama", "war"]


def make_data(root: Path):
    "300 vectors of 3 numbers; a number above 0 is a genre; feedgpu prepare table … --target several"
    rng = numpy.random.default_rng(0)
    with open(root / "list.csv", "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "path", "label"])
        for i in range(300):
            X = rng.normal(size=3).astype("float32")
            X[rng.integers(3)] = 1  # each film has one genre at least
            numpy.save(root / f"{i}.npy", X)
            rows.writerow(
                [f"film-{i}", f"{i}.npy", "|".join(g for g, x in zip(GENRES, X, strict=True) if x > 0)]
            )
    write(table(root / "list.csv", target="several"), root / "data")


def main(root: Path):
    "The share of right answers in validation, and that of always saying the commoner one"
    make_data(root)
    torch.manual_seed(0)
    partition, labels = load_notation(root / "data")
    # Your own lines: begin
    training_set = Dataset(partition["train"], labels, root / "data")
    model, criterion = nn.Linear(3, 3), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(20):
        for local_batch, local_labels in torch.utils.data.DataLoader(training_set, 32, shuffle=True):
            loss = criterion(model(local_batch), local_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    # Your own lines: end
    validation_set = Dataset(partition["validation"], labels, root / "data")
    X, y = next(iter(torch.utils.data.DataLoader(validation_set, len(validation_set))))
    with torch.no_grad():
        right = ((model(X) > 0) == (y > 0.5)).float().mean().item()
    return right, torch.maximum(y.mean(0), 1 - y.mean(0)).mean().item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        right, baseline = main(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
    print(f"{right:.0%} of the labels are right; always the commoner answer gives {baseline:.0%}.")
