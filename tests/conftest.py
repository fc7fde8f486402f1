"""Small datasets and pictures that tests read and write over; and a process that dies at a given step."""

import json
from itertools import count

import pytest
import torch

# These are for make test-browser and make test-frameworks, which name their folders.
collect_ignore = ["browser", "frameworks"]


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


class Killed(BaseException):
    pass


@pytest.fixture
def dies(monkeypatch):
    """Calls `action` and lets it die before step number `steps`; False if it was through before. A step is a
    call of one of `functions`, each a pair of a module and a name."""

    def run(steps, action, *functions):
        left = count(steps, -1)

        def dying(function):
            def step(*args, **kwargs):
                if next(left) <= 0:  # the dead do nothing: what is to tidy up fails as well
                    raise Killed
                return function(*args, **kwargs)

            return step

        with monkeypatch.context() as patch:
            for module, name in functions:
                patch.setattr(module, name, dying(getattr(module, name)))
            try:
                action()
            except Killed:
                return True
        return False

    return run


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request, monkeypatch):
    "Runs a test with simplejpeg and without it"
    from feedgpu import decode  # which needs Pillow

    if request.param == "Pillow":
        monkeypatch.setattr(decode, "simplejpeg", None)
    elif decode.simplejpeg is None:
        pytest.skip("simplejpeg is not installed")


@pytest.fixture
def folder(tmp_path):
    "40 images of unequal size, by ID, and the labels"
    from pictures_on_disk import save, scene

    IDs = [f"{'cat' if i % 2 else 'dog'}/{i} ö.{'png' if i % 5 == 0 else 'jpg'}" for i in range(40)]
    for i, ID in enumerate(IDs):
        save(scene(40 + i, 90 - i, seed=i), tmp_path / ID)
    return tmp_path, IDs, {ID: i for i, ID in enumerate(IDs)}
