"""Each recipe runs, learns what it says, and has about ten lines of one's own."""

import csv
import importlib.util
import re
import subprocess
import sys

import pytest
import torch
from syntax import ROOT

from feedgpu import PackedDataset
from feedgpu.prepare import pack

RECIPES = sorted((ROOT / "recipes").glob("*.py"))
LEARNS = {"regression": 0.02, "several_labels": None, "segmentation": None, "two_inputs": None}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(name):
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def own_lines(file) -> list[str]:
    (own,) = re.findall(
        r"(?s)# Your own lines: begin\n(.*)# Your own lines: end", file.read_text(encoding="utf-8")
    )
    return [line for line in own.splitlines() if line.strip()]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_ten_lines_are_ones_own(file):
    assert 5 <= len(own_lines(file)) <= 12


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_it_runs_as_it_says(file):
    (command,) = re.findall(r"PYTHONPATH=\. python3 (\S+)", file.read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, command], cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("name", LEARNS)
def test_it_learns(name, tmp_path):
    found, baseline = recipe(name).main(tmp_path)
    if name == "regression":
        assert found < LEARNS[name] * baseline
    else:
        assert 1 - found < (1 - baseline) / 2


def test_predictions_are_those_of_each_sample(tmp_path):
    partition, model, file = recipe("prediction").main(tmp_path)
    with open(file, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == list(partition["predict"])
    predicted_set = PackedDataset(partition["predict"], None, tmp_path)
    for i, row in enumerate(rows):
        shares = model(predicted_set[i][None]).softmax(1)[0]
        assert shares[int(row["class"])] == shares.max()
        assert float(row["probability"]) == pytest.approx(shares.max().item(), abs=1e-4)


def test_scaled_masks_have_no_class_that_was_not_there(tmp_path):
    module = recipe("scaled_masks")
    batches = module.main(tmp_path)
    masks = torch.cat([batch["mask"] for batch in batches])
    images = torch.cat([batch["image"] for batch in batches])
    assert masks.shape == (len(images), *module.SIZE)
    assert masks.unique().tolist() == list(module.CLASSES)
    inside = (images[:, 0] == 10 * masks).float().mean()
    assert inside > 0.85  # the rest is at the borders, where the image is averaged
    again = module.main(tmp_path / "again")
    assert all(torch.equal(a["mask"], b["mask"]) for a, b in zip(batches, again, strict=True))


def test_a_tuple_is_the_same_packed(tmp_path):
    module = recipe("two_inputs")
    module.main(tmp_path)
    partition, labels = module.split({"case-0": 0, "case-1": 1}), {"case-0": 0, "case-1": 1}
    pack(tmp_path)
    IDs = [ID for of in partition.values() for ID in of]
    for one, other in zip(
        PackedDataset(IDs, labels, tmp_path), module.Dataset(IDs, labels, tmp_path), strict=True
    ):
        assert torch.equal(one[0][0], other[0][0]) and torch.equal(one[0][1], other[0][1])
