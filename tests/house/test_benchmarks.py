"""The benchmarks run, and what is stored of them says what the numbers say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedgpu.course import gpu_results

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def images(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import images

    return images


@pytest.fixture
def images_found():
    return json.loads((RESULTS / "images.json").read_text(encoding="utf-8"))


def test_the_tables_of_the_images_are_those_of_the_numbers(images, images_found):
    text = (RESULTS / "images.md").read_text(encoding="utf-8")
    assert text.endswith(images.tables(images_found) + "\n"), "run benchmarks/images.py --again"


def test_every_loader_of_images_was_measured_and_checked_or_it_is_said_why_not(images, images_found):
    rows, limits = images_found["rows"], images_found["limits"]
    assert {*rows, *images_found["absent"]} == set(images.PEERS) and set(limits) == set(images.BARE)
    for row in rows.values():
        assert len(row["rates"]) == len(limits[images.OUR_WAY]) >= 3
        assert 0 <= row["apart"] <= row["apart_worst"] <= images.TOLERANCE[row["antialiased"]]


def test_a_missed_goal_of_the_images_is_called_missed(images, images_found):
    def verdicts():
        lines = images.goals_table(images_found).splitlines()[2:]
        return [line.strip("| ").split(" | ")[3] for line in lines]

    ours = images_found["rows"][images.IN_PREFETCH]
    rates = ours["rates"]
    for factor, verdict in ((1e3, "reached"), (1e-3, "**missed**")):
        ours["rates"] = [factor * rate for rate in rates]
        assert verdicts() == [verdict] * 3


def test_the_benchmark_of_images_runs_and_checks_what_is_delivered():
    command = [sys.executable, BENCHMARKS / "images.py", "--quick", "--only", "Pillow, threads"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # my_classes.py is no part of the package
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "could not be measured" not in done.stdout, done.stdout
    for name in ("Pillow, the usual class", "Pillow, threads", "ImageDataset in PrefetchLoader"):
        assert f"\n| {name} | " in done.stdout


def test_wrong_images_are_refused(images):
    class Child:
        def __init__(self, **found):
            kinds = ["(torch.uint8, [3, 224, 224], torch.int64)"]
            self.found = {"kinds": kinds, "labels": [0, 1, 2], "mean": 0.5, "worst": 0.5} | found

        def ask(self, do, workers):
            return self.found

    row = {"workers": 0, "antialiased": True}
    assert images.check(Child(), row, 3) == {"apart": 0.5, "apart_worst": 0.5}
    wrong = ({"labels": [0, 1, 1]}, {"labels": [0, 1]}, {"kinds": []}, {"worst": 50.0})
    for found in (*wrong, {"worst": float("nan")}):
        with pytest.raises(images.Failed):
            images.check(Child(**found), row, 3)


def test_the_tables_of_the_decoders_are_those_of_the_numbers(monkeypatch):
    for library in ("cv2", "imagecodecs", "simplejpeg"):
        pytest.importorskip(library)
    monkeypatch.syspath_prepend(BENCHMARKS)
    import decoders

    found = json.loads((RESULTS / "decoders.json").read_text(encoding="utf-8"))
    text = (RESULTS / "decoders.md").read_text(encoding="utf-8")
    assert text.endswith(decoders.tables(found) + "\n"), "run benchmarks/decoders.py --again"


def test_the_table_of_sources_is_that_of_the_numbers_and_all_of_them_run(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import sources

    found = json.loads((RESULTS / "sources.json").read_text(encoding="utf-8"))
    text = (RESULTS / "sources.md").read_text(encoding="utf-8")
    assert text.endswith(sources.tables(found) + "\n"), "run benchmarks/sources.py"
    assert list(found["rates"]) == list(sources.SOURCES)
    rates = sources.rates(300, 1)
    assert all(ways["packed"][1] > 0 for ways in rates.values())
    assert sources.first_batch(1_000)["bytes a sample"] < 20


def test_the_table_of_combinations_is_that_of_the_numbers_and_all_of_them_run(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import composed

    found = json.loads((RESULTS / "composed.json").read_text(encoding="utf-8"))
    assert (RESULTS / "composed.md").read_text(encoding="utf-8") == composed.table(found), "run composed.py"
    quick = composed.measured(quick=True, rounds=1)
    assert {part: list(took) for part, took in quick["parts"].items()} == {
        part: list(took) for part, took in found["parts"].items()
    }
    assert all(0 <= one["opened"] <= one["epoch"] for one in quick["memory"])


def test_the_profile_of_the_loader_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import prefetch_profile
    from peers import QUICK, write_pack

    write_pack(QUICK["W1"], QUICK["W1"].samples, tmp_path)
    works = prefetch_profile.steps(tmp_path)
    for work in works.values():
        work()
    found = json.loads((RESULTS / "prefetch_profile.json").read_text(encoding="utf-8"))
    assert list(works) == list(found["seconds a batch"]["W1"]), "run benchmarks/prefetch_profile.py"


def gpu(*arguments):
    env = os.environ | {"OMP_NUM_THREADS": "1"}  # threads of two processes would wait for each other
    command = [sys.executable, BENCHMARKS / "gpu.py", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


def test_the_gpu_benchmark_runs_and_its_numbers_can_be_shown(tmp_path, capsys):
    done = gpu("--quick")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["training"]) == 20  # two workloads, two networks, five loaders
    for row in found["training"]:
        assert row["samples/s"] > 0
        assert all(0 <= row[share] <= 1 for share in ("stall", "gaps", "waiting"))
    (tmp_path / "gpu.json").write_text(done.stdout)
    gpu_results(tmp_path / "gpu.json")
    shown = capsys.readouterr().out
    assert found["date"] in shown and shown.count("PrefetchLoader") >= 4


def test_without_a_gpu_its_numbers_are_not_made_up():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    done = gpu()
    assert done.returncode == 1 and done.stderr.startswith("This needs a CUDA device")
    assert "Traceback" not in done.stderr
