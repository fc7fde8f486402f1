"""Small datasets that tests read, and write over as they like."""

import json

import pytest
import torch

# These are for make test-browser, which names the folder.
collect_ignore = ["browser"]


@pytest.fixture
def dataset(tmp_path):
    """Writes a dataset in the article's layout and returns its folder, its partition and its labels."""

    def make(training=12, validation=4, shape=(1, 8, 8), dtype=torch.float32, classes=3, folder="data"):
        root = tmp_path / folder
        root.mkdir()
        generator = torch.Generator().manual_seed(0)
        IDs = [f"id-{i}" for i in range(1, training + validation + 1)]
        labels = {ID: i % classes for i, ID in enumerate(IDs)}
        for ID in IDs:
            X = (
                torch.randint(0, 80, shape, generator=generator) + 80 * labels[ID]
            )  # the classes can be told apart
            torch.save(X.to(dtype) if dtype == torch.uint8 else (X / 255).to(dtype), root / f"{ID}.pt")
        partition = {"train": IDs[:training], "validation": IDs[training:]}
        (root / "labels.json").write_text(json.dumps(labels))
        (root / "partition.json").write_text(json.dumps(partition))
        return root, partition, labels

    return make
