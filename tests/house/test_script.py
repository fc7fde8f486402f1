"""pytorch_script.py, run as its users run it: as a process, from its first line to its exit code."""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import pytorch_script
from feedgpu import available_cpus
from feedgpu.prepare import pack
from my_classes import Dataset

SCRIPT = Path(pytorch_script.__file__)


def start(*options, script=SCRIPT, **settings):
    "The script as a process of its own session, so that a Ctrl-C reaches its workers and nobody else"
    command = [sys.executable, script, *map(str, options)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipes, **settings)


def run(*options, **settings):
    process = start(*options, **settings)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def in_this_process(monkeypatch, *options):
    "The same, without the seconds that a process takes to import torch"
    monkeypatch.setattr(sys, "argv", ["pytorch_script.py", *map(str, options)])
    pytorch_script.main(pytorch_script.parse())


def load(checkpoint):
    return torch.load(checkpoint, weights_only=True)


def losses(checkpoint):
    return [(epoch["training"], epoch["validation"]) for epoch in load(checkpoint)["history"]]


def same_weights(one, other):
    one, other = load(one), load(other)
    pairs = [(one["model"][name], other["model"][name]) for name in one["model"]]
    return bool(pairs) and all(torch.equal(a, b) for a, b in pairs)


# The main job


def test_the_default_run_learns_the_digits(tmp_path):
    for file in (SCRIPT, SCRIPT.with_name("my_classes.py")):
        shutil.copy(file, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code, out, err = run(script=tmp_path / "pytorch_script.py", cwd=elsewhere)
    assert code == 0, err
    accuracy = float(re.search(r"Validation accuracy ([\d.]+)% in the last epoch", out)[1])
    assert accuracy >= 98
    assert re.search(r"The model waited for data in \d+% of the training time: .", out)
    assert out.endswith(f"Checkpoint: {tmp_path / 'checkpoint.pt'}\n")
    assert "Traceback" not in err and list(elsewhere.iterdir()) == []

    # README: load the trained model and predict one file
    checkpoint = load(tmp_path / "checkpoint.pt")
    model = pytorch_script.Net(*checkpoint["sizes"])
    model.load_state_dict(checkpoint["model"])
    model.eval()
    X = torch.load(tmp_path / "data" / "id-1.pt", weights_only=True)
    assert model(X[None]).argmax().item() == 0  # the first digit of scikit-learn's is a zero


@pytest.mark.parametrize(
    "shape, dtype, classes",
    [((3, 24, 16), torch.uint8, 5), ((1, 8, 8), torch.float64, 2), ((2, 9, 31), torch.float16, 1)],
)
def test_trains_on_any_dataset_in_the_layout(dataset, tmp_path, monkeypatch, capsys, shape, dtype, classes):
    root, _, _ = dataset(9, 3, shape, dtype, classes)
    checkpoint = tmp_path / "c.pt"
    options = "--max-epochs", 1, "--num-workers", 0, "--batch-size", 4
    in_this_process(monkeypatch, "--data", root, "--checkpoint", checkpoint, *options)
    assert load(checkpoint)["sizes"] == [shape[0], classes]
    assert " 1/1 " in capsys.readouterr().out


def test_the_last_small_batch_counts_for_what_it_is(dataset, tmp_path, monkeypatch):
    root, partition, labels = dataset(8, 7)
    options = "--max-epochs", 1, "--num-workers", 0
    in_this_process(
        monkeypatch, "--data", root, "--checkpoint", tmp_path / "c.pt", "--batch-size", 5, *options
    )
    checkpoint = load(tmp_path / "c.pt")
    model = pytorch_script.Net(*checkpoint["sizes"])
    model.load_state_dict(checkpoint["model"])
    model.eval()
    validation_set = Dataset(partition["validation"], labels, root)
    X = torch.stack([X for X, _ in validation_set])
    y = torch.tensor([y for _, y in validation_set])
    with torch.inference_mode():
        outputs = model(X)
    loss, accuracy = checkpoint["history"][0]["validation"]
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(outputs, y).item(), rel=1e-4)
    assert accuracy == pytest.approx((outputs.argmax(1) == y).float().mean().item())


# The same again


def test_losses_depend_on_the_seed_and_not_on_workers_or_a_resume(dataset, tmp_path, monkeypatch):
    root, _, _ = dataset(200, 40)

    def train(name, *more):
        in_this_process(monkeypatch, "--data", root, "--checkpoint", tmp_path / name, *more)

    settings = "--batch-size", 32, "--seed", 3
    for workers in (0, 1, 2, 4):
        train(f"{workers}.pt", *settings, "--num-workers", workers, "--max-epochs", 3)
        assert losses(tmp_path / f"{workers}.pt") == losses(tmp_path / "0.pt")
        assert same_weights(tmp_path / f"{workers}.pt", tmp_path / "0.pt")

    train("resumed.pt", *settings, "--num-workers", 2, "--max-epochs", 2)
    # As a process of its own, and the settings of the first run hold, though they are not repeated.
    resume = "--data", root, "--checkpoint", tmp_path / "resumed.pt", "--resume", "--max-epochs", 3
    code, out, err = run(*resume, "--num-workers", 0)
    assert code == 0 and "Resuming after epoch 2." in out, err
    assert losses(tmp_path / "resumed.pt") == losses(tmp_path / "0.pt")
    assert same_weights(tmp_path / "resumed.pt", tmp_path / "0.pt")

    train("other.pt", *settings, "--num-workers", 0, "--max-epochs", 3, "--seed", 4)
    assert not same_weights(tmp_path / "other.pt", tmp_path / "0.pt")


def test_the_model_draws_the_same_whatever_the_number_of_workers(dataset, tmp_path, monkeypatch):
    class WithDropout(pytorch_script.Net):
        def forward(self, X):
            return super().forward(torch.nn.functional.dropout(X, 0.2, self.training))

    monkeypatch.setattr(pytorch_script, "Net", WithDropout)
    root, _, _ = dataset(40, 8)
    for workers in (0, 2):
        options = "--max-epochs", 2, "--batch-size", 16, "--num-workers", workers
        in_this_process(monkeypatch, "--data", root, "--checkpoint", tmp_path / f"{workers}.pt", *options)
    assert losses(tmp_path / "0.pt") == losses(tmp_path / "2.pt")


# The checkpoint


def test_workers_draw_anew_with_another_seed_and_after_a_resume(dataset, tmp_path, monkeypatch):
    root, *_ = dataset()

    class Drawing(Dataset):
        def __getitem__(self, index):
            if worker := torch.utils.data.get_worker_info():
                (tmp_path / "seeds" / str(worker.seed)).touch()
            return super().__getitem__(index)

    def seeds(*options):
        shutil.rmtree(tmp_path / "seeds", ignore_errors=True)
        (tmp_path / "seeds").mkdir()
        given = ("--data", root, "--num-workers", 1, "--checkpoint", tmp_path / "checkpoint.pt", *options)
        in_this_process(monkeypatch, *given)
        return {file.name for file in (tmp_path / "seeds").iterdir()}

    monkeypatch.setattr(pytorch_script, "Dataset", Drawing)
    first, again, other = (seeds("--max-epochs", 1, "--seed", seed) for seed in (0, 0, 1))
    resumed = seeds("--max-epochs", 2, "--resume")
    assert first == again and not first & other and not other & resumed


def test_an_earlier_checkpoint_is_kept_aside(dataset, tmp_path, monkeypatch, capsys):
    root, _, _ = dataset()
    checkpoint = tmp_path / "c.pt"
    options = "--data", root, "--checkpoint", checkpoint, "--max-epochs", 1, "--num-workers", 0
    for seed in (0, 1, 2):
        in_this_process(monkeypatch, *options, "--seed", seed)
    assert f"is now {tmp_path / 'c-2.pt'}" in capsys.readouterr().out
    seeds = {name: load(tmp_path / name)["seed"] for name in ("c.pt", "c-1.pt", "c-2.pt")}
    assert seeds == {"c-1.pt": 0, "c-2.pt": 1, "c.pt": 2}


def test_a_checkpoint_that_cannot_be_resumed_is_one_sentence(dataset, tmp_path, monkeypatch, capsys):
    root, _, _ = dataset()
    checkpoint = tmp_path / "c.pt"
    options = "--data", root, "--checkpoint", checkpoint, "--max-epochs", 1, "--num-workers", 0
    with pytest.raises(SystemExit, match="nothing to resume"):
        in_this_process(monkeypatch, *options, "--resume")
    for content in (b"", b"no checkpoint"):
        checkpoint.write_bytes(content)
        with pytest.raises(SystemExit, match="damaged, or not a checkpoint"):
            in_this_process(monkeypatch, *options, "--resume")
    torch.save({"model": {}}, checkpoint)
    with pytest.raises(SystemExit, match="damaged, or not a checkpoint"):
        in_this_process(monkeypatch, *options, "--resume")
    in_this_process(monkeypatch, *options)
    other, _, _ = dataset(classes=5, folder="other")
    with pytest.raises(Exception, match=r"for \[1, 3\] channels and classes, not \[1, 5\]"):
        in_this_process(monkeypatch, "--data", other, *options[2:], "--resume")


def test_a_full_disk_leaves_the_last_checkpoint_and_a_sentence(dataset, tmp_path, monkeypatch):
    root, _, _ = dataset()
    options = "--data", root, "--checkpoint", tmp_path / "c.pt", "--num-workers", 0
    in_this_process(monkeypatch, *options, "--max-epochs", 1)
    before = (tmp_path / "c.pt").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit, match="c.pt could not be written: .*No space left"):
        in_this_process(monkeypatch, *options, "--max-epochs", 2, "--resume")
    assert (tmp_path / "c.pt").read_bytes() == before
    assert not (tmp_path / "c.pt.unfinished").exists()


# How it ends


def group_is_gone(process):
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("lines", [1, 3, 6])
def test_ctrl_c_is_one_sentence_and_leaves_no_worker(dataset, tmp_path, lines):
    root, _, _ = dataset(100, 20)
    checkpoint = tmp_path / "c.pt"
    options = "--batch-size", 8, "--max-epochs", 10_000, "--num-workers", 2
    process = start("--data", root, "--checkpoint", checkpoint, *options)
    for _ in range(lines):
        process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"Stopped by Ctrl-C: .*\.\n", err), err
    assert group_is_gone(process)
    assert checkpoint.exists() == (checkpoint.exists() and bool(losses(checkpoint)))
    assert lines < 6 or checkpoint.exists()


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("seconds", [1, 2, 4])
def test_ctrl_c_before_the_first_epoch_shows_no_traceback(dataset, tmp_path, seconds, ignored):
    root, _, _ = dataset(20, 20)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
    try:
        options = "--max-epochs", 1, "--num-workers", 0
        process = start("--data", root, "--checkpoint", tmp_path / "c.pt", *options)
    finally:
        signal.signal(signal.SIGINT, before or signal.getsignal(signal.SIGINT))
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode in ([0] if ignored else [0, 130, -signal.SIGINT]), err


def test_a_killed_worker_is_one_sentence(dataset, tmp_path):
    root, _, _ = dataset(100, 20)
    options = "--batch-size", 8, "--max-epochs", 10_000, "--num-workers", 1
    process = start("--data", root, "--checkpoint", tmp_path / "c.pt", *options)
    for _ in range(4):
        process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this system does not list the children of a process")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith("A worker was killed") and err.count("\n") == 1, err
    assert group_is_gone(process)


def remove(root):
    for i in range(2, 10):
        (root / f"id-{i}.pt").unlink()


def truncate(root):
    file = root / "id-9.pt"
    file.write_bytes(file.read_bytes()[:200])


def reshape(root):
    torch.save(torch.zeros(1, 8, 9), root / "id-9.pt")


def flatten(root):
    torch.save(torch.zeros(64), root / "id-1.pt")


BAD_DATASETS = {
    "missing files": (
        remove,
        r"\S*data: 8 IDs without a file \S+<ID>.pt: 'id-2', 'id-3', 'id-4', 'id-5', 'id-6' and 3 more",
    ),
    "truncated file": (truncate, r"sample 'id-9': \S*id-9.pt cannot be read: .*"),
    "another shape": (reshape, r"samples of one batch must be alike: .*'id-9' is float32 of shape 1×8×9"),
    "no picture": (flatten, r"sample 'id-1' is torch.float32 of shape \(64,\): Net takes .*"),
    "no dataset": (lambda root: (root / "partition.json").unlink(), "there is no dataset in .*"),
}


@pytest.mark.parametrize("fault", BAD_DATASETS)
def test_a_bad_dataset_is_one_sentence(dataset, tmp_path, fault):
    root, _, _ = dataset()
    spoil, words = BAD_DATASETS[fault]
    spoil(root)
    checkpoint = tmp_path / "c.pt"
    checkpoint.write_text("an earlier run's")
    options = "--data", root, "--checkpoint", checkpoint, "--num-workers", 1, "--batch-size", 1
    code, out, err = run(*options)
    assert code == 1 and re.fullmatch(words + "\n", err), err
    assert checkpoint.read_text() == "an earlier run's"


@pytest.mark.parametrize(
    "options, words",
    [
        ("--max-epochs 0", "--max-epochs: 0 is not a number of at least 1"),
        ("--batch-size x", "--batch-size: invalid int value: 'x'"),
        ("--num-workers -1", "--num-workers: -1 is not a number of at least 0"),
        ("--learning-rate 0", "--learning-rate: 0.0 is not a number of at least"),
        ("--learning-rate nan", "--learning-rate: nan is not a number of at least"),
        ("--learning-rate inf", "--learning-rate: inf is not a number of at least"),
        ("--seed -1", "--seed: -1 is not a number of at least 0"),
        ("--device tpu", "--device: invalid choice: 'tpu'"),
        ("--checkpoint no/such/folder/c.pt", "is not a file in a folder that exists"),
        ("--checkpoint .", "is not a file in a folder that exists"),
        ("--epochs 3", "unrecognized arguments: --epochs 3"),
    ],
)
def test_a_wrong_option_is_one_sentence(monkeypatch, capsys, options, words):
    with pytest.raises(SystemExit) as ended:
        in_this_process(monkeypatch, *options.split())
    err = capsys.readouterr().err
    assert ended.value.code == 2 and words in err and err.count("\n") == 1


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        in_this_process(monkeypatch, "--device", "cuda")
    assert ended.value.code == 2 and "no cuda here" in capsys.readouterr().err


def test_the_workers_are_at_most_the_CPUs(dataset, tmp_path, monkeypatch, capsys):
    root, _, _ = dataset(4, 2)
    options = "--data", root, "--checkpoint", tmp_path / "c.pt", "--max-epochs", 1
    monkeypatch.setenv("PYTHON_CPU_COUNT", "1")
    in_this_process(monkeypatch, *options)
    assert ", 1 workers; this process has 1 CPUs" in capsys.readouterr().out


@pytest.mark.gpu
def test_on_a_gpu_it_learns_the_digits(tmp_path):
    from feedgpu.prepare import digits, write

    write(digits(), tmp_path / "data")
    code, out, err = run("--data", tmp_path / "data", "--checkpoint", tmp_path / "c.pt", "--device", "cuda")
    assert code == 0 and float(re.search(r"accuracy ([\d.]+)% in the last", out)[1]) >= 98, err


def test_is_read_in_one_sitting():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 272


# Packed data


def test_packed_data_gives_the_same_losses(dataset, tmp_path, monkeypatch, capsys):
    root, _, _ = dataset(40, 9)
    pack(root)
    common = "--data", root, "--max-epochs", 3, "--batch-size", 16
    for name, options in (("files", ["--num-workers", 0]), ("packed", ["--packed"])):
        in_this_process(monkeypatch, *common, "--checkpoint", tmp_path / name, *options)
    assert losses(tmp_path / "files") == losses(tmp_path / "packed")
    assert same_weights(tmp_path / "files", tmp_path / "packed")
    assert capsys.readouterr().out.count(" 0 workers; ") == 2


def test_packed_data_whose_files_are_gone(dataset, tmp_path):
    root, _, _ = dataset()
    pack(root)
    for file in root.glob("*.pt"):
        file.unlink()
    options = "--data", root, "--checkpoint", tmp_path / "c.pt", "--max-epochs", 1
    code, out, err = run(*options, "--packed")
    assert code == 0 and "Validation accuracy" in out, err
    code, _, err = run(*options)
    assert code == 1 and re.fullmatch(rf"{root}: 16 IDs without a file {root}/<ID>.pt: .*\n", err)


def test_nothing_was_packed(dataset, tmp_path):
    root, _, _ = dataset()
    code, _, err = run("--packed", "--data", root, "--checkpoint", tmp_path / "c.pt")
    assert code == 1
    assert err == (f"there is no pack in {root}/packed: make one with feedgpu pack --data {root}\n")


def test_the_advice_names_what_is_left_to_try():
    def said(share, workers, packed=False):
        return pytorch_script.advice(share, argparse.Namespace(num_workers=workers, packed=packed))

    assert said(0.01, 0) == said(0.01, 0, packed=True) == "it is well fed."
    assert f"--num-workers {available_cpus()}; or pack the data" in said(0.5, 0)
    assert "fewer workers" in said(0.5, available_cpus())
    assert "packed" not in said(0.5, 0, packed=True)
