"""PrefetchLoader in Lightning, accelerate and Hugging Face's Trainer, and in a process group without them.

With one process every sample is seen once an epoch, in an order that follows the epoch. With two each has its
share; or it is refused, where each would have all. And the collate functions of others over a pack.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import DefaultDataCollator, default_data_collator

from feedgpu import EpochSampler, PackedDataset, PrefetchLoader
from feedgpu.prepare import pack_samples

FRAMEWORKS = "plain", "accelerate", "lightning", "trainer"
LOOPS = Path(__file__).parent / "loops.py"
N = 21  # which two processes cannot share equally


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    samples = [(f"id-{i}", torch.full((4,), float(i)), i) for i in range(N + 4)]
    pack_samples({"train": samples[:N], "validation": samples[N:]}, root)
    return root


def seen(root, out, framework, processes, kind):
    "What the model of each process saw, or the sentence in which its loop was refused"
    command = [sys.executable, LOOPS, framework, root, out, kind]
    if processes > 1:
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {
        "PYTHONPATH": str(LOOPS.parents[2]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(processes)]


def orders(ranks):
    "For each process, what EpochSampler has for it in two epochs"
    found = []
    for rank in range(ranks):
        sampler, epochs = EpochSampler(N, 3, rank=rank, ranks=ranks), []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            epochs.append([int(visit) for visit in sampler])
        found.append(epochs)
    return found


@pytest.mark.parametrize("kind", ["whole", "shared"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_process_sees_each_sample_once_and_another_order_in_each_epoch(root, tmp_path, framework, kind):
    (found,) = seen(root, tmp_path, framework, 1, kind)
    assert found == {"epochs": orders(1)[0]}
    assert sorted(found["epochs"][0]) == sorted(found["epochs"][1]) == [*range(N)]
    assert found["epochs"][0] != found["epochs"][1]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_processes_have_a_share_each(root, tmp_path, framework):
    found = seen(root, tmp_path, framework, 2, "shared")
    assert [one["epochs"] for one in found] == orders(2)
    for epoch in range(2):
        both = found[0]["epochs"][epoch] + found[1]["epochs"][epoch]
        assert len(both) == N + 1 and set(both) == set(range(N))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_processes_that_would_have_all_samples_each_are_refused(root, tmp_path, framework):
    for one in seen(root, tmp_path, framework, 2, "whole"):
        assert "each of these 2 processes would get all samples" in one["error"]
        assert "EpochSampler(len(dataset), seed, rank=" in one["error"]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    "Samples as Hugging Face's models want them: dicts"
    root = tmp_path_factory.mktemp("features")
    samples = [(str(i), {"input_ids": torch.arange(5) + i, "labels": torch.tensor(i % 3)}) for i in range(12)]
    partition, labels = pack_samples({"train": samples[:10], "validation": samples[10:]}, root)
    assert labels is None
    return PackedDataset(partition["train"], None, root)


@pytest.mark.parametrize(
    "collate_fn", [default_data_collator, DefaultDataCollator()], ids=["function", "class"]
)
@pytest.mark.parametrize("make", [DataLoader, PrefetchLoader])
def test_the_collate_functions_of_others_find_samples(features, make, collate_fn):
    batches = list(make(features, 4, collate_fn=collate_fn))
    assert [set(batch) for batch in batches] == [{"input_ids", "labels"}] * 3
    assert torch.equal(
        torch.cat([batch["input_ids"] for batch in batches]), torch.arange(5) + torch.arange(10)[:, None]
    )
    assert torch.equal(torch.cat([batch["labels"] for batch in batches]), torch.arange(10) % 3)
