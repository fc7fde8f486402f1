"""Writes what a model says of samples without labels into a CSV: id,class,probability.

    PYTHONPATH=. python3 recipes/prediction.py

What differs from pytorch_script.py: labels are None, so a batch is X alone, and the order is that of the IDs.
`feedgpu prepare folder my_images --target none` makes such a dataset of a folder of images.
"""

import csv
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from feedgpu import PackedDataset, PrefetchLoader
from feedgpu.prepare import pack_samples


def make_data(root: Path):
    "150 images without labels: the last batch of 64 is not full"
    torch.manual_seed(0)
    images = torch.randint(0, 256, (150, 3, 8, 8), dtype=torch.uint8)
    return pack_samples({"predict": ((f"photo-{i}", X) for i, X in enumerate(images))}, root)


class Trained(nn.Module):
    "In place of a model of your own: see feedgpu/README.md, The trained model"

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))

    def forward(self, X):
        return self.layers(X.float() / 255)


def main(root: Path):
    "The partition, the model and the CSV file that was written"
    partition, labels = make_data(root)
    model, file = Trained(), root / "predictions.csv"
    # Your own lines: begin
    predicted_set = PackedDataset(partition["predict"], labels, root)
    IDs = iter(partition["predict"])
    model.eval()
    with torch.inference_mode(), open(file, "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "class", "probability"])
        for local_batch in PrefetchLoader(predicted_set, batch_size=64):
            best = model(local_batch).softmax(1).max(1)
            for y, share, ID in zip(best.indices.tolist(), best.values.tolist(), IDs):  # noqa: B905  IDs goes on
                rows.writerow([ID, y, f"{share:.4f}"])
    # Your own lines: end
    return partition, model, file


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _, _, file = main(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
        lines = file.read_text(encoding="utf-8").splitlines()
    print(f"{len(lines) - 1} predictions, such as {lines[1]}.")
