"""The benchmarks run, and what is stored of them says what the numbers say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from feedgpu.gpu import stored

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peers

    return peers


@pytest.fixture
def found():
    return json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))


def test_the_tables_of_the_peers_are_those_of_the_numbers(peers, found):
    text = (RESULTS / "peers.md").read_text(encoding="utf-8")
    assert text.endswith(peers.tables(found) + "\n"), "run benchmarks/peers.py --again"


def test_every_peer_was_measured_or_it_is_said_why_not(peers, found):
    for of in found["workloads"].values():
        assert {*of["rows"], *of["absent"]} == set(peers.PEERS)
        assert all(len(row["rates"]) == len(of["limits"]) >= 3 for row in of["rows"].values())


def test_a_missed_goal_is_called_missed(peers, found):
    def said(what):
        lines = peers.goals_table(found["workloads"]).splitlines()
        return next(line for line in lines if what in line).split(" | ")[3]

    ours = found["workloads"]["W1"]["rows"][peers.OURS]
    for factor, verdict in ((1e3, "reached"), (1e-3, "**missed**")):
        rates = ours["rates"]
        ours["rates"] = [factor * rate for rate in rates]
        assert said("against the article at its best") == verdict
        assert said("against the fastest peer") == verdict
        ours["rates"] = rates
    for share, verdict in ((0.0, "reached"), (0.9, "**missed**")):
        ours["stalls"]["sleeping, 0.002"] = share
        assert said("stall behind 2 ms, sleeping") == verdict


def test_what_runs_our_idea_is_no_peer(peers, found):
    for of in found["workloads"].values():
        recipes = {name for name, row in of["rows"].items() if row["recipe"]}
        assert {"safetensors, mapped", "torchdata.nodes, no thread", "packed, x[indices]"} <= recipes
        assert not recipes & set(peers.libraries(of)) and peers.fastest(of) != peers.OURS


def gpu(*arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / "gpu.py", *arguments], capture_output=True, text=True, timeout=300
    )


def test_the_gpu_benchmark_runs_and_its_numbers_can_be_shown(tmp_path, capsys):
    done = gpu("--quick")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["training"]) == 20  # two workloads, two networks, five loaders
    for row in found["training"]:
        assert row["samples/s"] > 0
        assert all(0 <= row[share] <= 1 for share in ("stall", "gaps", "waiting"))
    (tmp_path / "gpu.json").write_text(done.stdout)
    stored(tmp_path / "gpu.json")
    shown = capsys.readouterr().out
    assert found["date"] in shown and shown.count("PrefetchLoader") >= 4


def test_without_a_gpu_its_numbers_are_not_made_up():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    done = gpu()
    assert done.returncode == 1 and done.stderr.startswith("This needs a CUDA device")
    assert "Traceback" not in done.stderr
