"""Learns a number from a table: id,path,label, where a label is a number.

    PYTHONPATH=. python3 recipes/regression.py

What differs from pytorch_script.py: the table is prepared with `--target number`, the criterion is the mean
squared error, and the model gives one value. The targets arrive as float32.
"""

import csv
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from torch import nn

from feedgpu import PackedDataset, PrefetchLoader, load_notation
from feedgpu.prepare import pack, table, write


def make_data(root: Path):
    "400 vectors of 8 numbers, as .npy files and a table; feedgpu prepare table … --target number"
    rng = numpy.random.default_rng(0)
    with open(root / "list.csv", "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "path", "label"])
        for i in range(400):
            X = rng.normal(size=8).astype("float32")
            numpy.save(root / f"{i}.npy", X)
            rows.writerow([f"house-{i}", f"{i}.npy", round(float(X @ numpy.arange(8) + 3), 3)])
    write(table(root / "list.csv", target="number"), root / "data")
    pack(root / "data")


def main(root: Path):
    "The mean squared error in validation, and that of always saying the mean"
    make_data(root)
    torch.manual_seed(0)
    partition, labels = load_notation(root / "data")
    # Your own lines: begin
    training_set = PackedDataset(partition["train"], labels, root / "data")
    model, criterion = nn.Linear(8, 1), nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(30):
        for local_batch, local_labels in PrefetchLoader(training_set, 32, shuffle=True):
            loss = criterion(model(local_batch).squeeze(1), local_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    # Your own lines: end
    validation_set = PackedDataset(partition["validation"], labels, root / "data")
    X, y = next(iter(PrefetchLoader(validation_set, len(validation_set))))
    with torch.no_grad():
        return criterion(model(X).squeeze(1), y).item(), y.var().item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        error, baseline = main(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
    print(f"Mean squared error {error:.3f}; always the mean gives {baseline:.1f}.")
