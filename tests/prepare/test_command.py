"""feedgpu.prepare as a command, and the sources that need no files: digits, photographs, synthetic."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import feedgpu
from feedgpu import DatasetError, load_notation
from feedgpu.command import main
from feedgpu.notation import describe
from feedgpu.prepare import check, digits, photographs, sources, split, synthetic, write
from feedgpu.prepare.sources import crop_box
from my_classes import Dataset

ROOT = Path(__file__).resolve().parents[2]


def run(capsys, *arguments):
    "Exit code, stdout and stderr of the command"
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as end:
        code = end.code
    return (code, *capsys.readouterr())


# Split


def test_split_is_stratified_and_complete():
    labels = {f"id-{i}": i % 3 if i < 300 else 3 for i in range(340)}
    partition = split(labels)
    assert sorted(partition["train"] + partition["validation"]) == sorted(labels)
    assert Counter(labels[ID] for ID in partition["validation"]) == {0: 20, 1: 20, 2: 20, 3: 8}


@pytest.mark.parametrize("size, held_out", [(1, 0), (2, 1), (3, 1), (7, 1), (8, 2), (100, 20)])
def test_split_of_a_small_class(size, held_out):
    partition = split({f"id-{i}": 0 for i in range(size)})
    assert len(partition["validation"]) == held_out


def test_split_stays_as_it_is():
    # Written down, so that a change of the split does not go unnoticed
    labels = {f"id-{i}": 0 for i in range(20)}
    assert split(labels)["validation"] == ["id-3", "id-7", "id-10", "id-12"]
    assert split(labels, seed=1) != split(labels)
    assert split(dict(reversed(labels.items())))["validation"] == ["id-12", "id-10", "id-7", "id-3"]


# Digits


def test_digits(tmp_path, capsys):
    assert run(capsys, "prepare", "digits", "--data", tmp_path) == (
        0,
        f"{tmp_path}: 1,797 samples, all float32 of shape 1×8×8, 256 bytes each: 1,438 for train "
        "and 359 for validation.\n"
        "10 classes: 0 178, 1 182, 2 177, 3 183, 4 181, 5 182, 6 181, 7 179, 8 174, 9 180.\n",
        "",
    )
    partition, labels = load_notation(tmp_path)
    bundled = load_digits()
    assert list(labels) == [f"id-{i}" for i in range(1, 1798)]
    assert list(labels.values()) == bundled.target.tolist()
    samples = Dataset(list(labels), labels, tmp_path)
    X = torch.stack([samples[i][0] for i in range(1797)])
    assert torch.equal(X, torch.tensor(bundled.images / 16, dtype=torch.float32).unsqueeze(1))
    assert X.min() == 0 and X.max() == 1
    for y, size in Counter(labels.values()).items():
        assert sum(labels[ID] == y for ID in partition["validation"]) == round(size / 5)
    assert run(capsys, "check", "--data", tmp_path) == (
        0,
        f"{tmp_path}: 1,797 samples, all float32 of shape 1×8×8, 256 bytes each, are in order: "
        "1,438 for train and 359 for validation.\n"
        "10 classes: 0 178, 1 182, 2 177, 3 183, 4 181, 5 182, 6 181, 7 179, 8 174, 9 180.\n",
        "",
    )


# Photographs


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (10, 100), (300, 7), (1, 1)])
def test_photographs_for_validation_share_no_pixel_with_training(size):
    source = photographs(400, size, seed=3)
    boxes = {
        name: [crop_box(ID, name == "validation", (640, 427), size, 3) for ID in IDs]
        for name, IDs in source.partition.items()
    }
    for left, upper, right, lower in boxes["train"] + boxes["validation"]:
        assert 0 <= left < right <= 640 and 0 <= upper < lower <= 427
    assert max(right for _, _, right, _ in boxes["train"]) <= min(left for left, *_ in boxes["validation"])
    assert len(set(boxes["train"])) > 300


def test_photographs_show_nothing_but_their_box(monkeypatch):
    # All that lies outside of one sample's box is painted over, and the sample stays the same
    import sklearn.datasets

    ID, size = "china-3", (20, 30)
    source = photographs(10, size)
    box = crop_box(ID, ID in source.partition["validation"], (640, 427), size, 0)
    load = sklearn.datasets.load_sample_image

    def painted(name):
        photo = Image.fromarray(load(name))
        canvas = Image.new("RGB", photo.size, "magenta")
        canvas.paste(photo.crop(box), box)
        return np.array(canvas)

    monkeypatch.setattr(sklearn.datasets, "load_sample_image", painted)
    assert torch.equal(photographs(10, size).read(ID), source.read(ID))
    assert not torch.equal(photographs(10, size).read("china-1"), source.read("china-1"))


def test_photographs(tmp_path, capsys):
    command = ("prepare", "photographs", "--samples", 21, "--size", 16, 24, "--data", tmp_path)
    assert run(capsys, *command)[:2] == (
        0,
        f"{tmp_path}: 21 samples, all uint8 of shape 3×16×24, 1,152 bytes each: 17 for train and 4 "
        "for validation.\n"
        "2 classes: china 11, flower 10.\n",
    )
    partition, labels = load_notation(tmp_path)
    assert json.loads((tmp_path / "classes.json").read_text()) == ["china", "flower"]
    assert Counter(labels.values()) == {0: 11, 1: 10}
    assert all(ID.startswith(["china-", "flower-"][y]) for ID, y in labels.items())
    assert {labels[ID] for ID in partition["validation"]} == {0, 1}
    assert check(tmp_path) == []


def test_photographs_depend_on_id_and_seed_alone():
    few, many = photographs(10, (8, 8), seed=1), photographs(1000, (8, 8), seed=1)
    same = [ID for ID in few.partition["train"] if ID in many.partition["train"]]
    assert same and all(torch.equal(few.read(ID), many.read(ID)) for ID in same)
    assert not torch.equal(few.read("china-1"), photographs(10, (8, 8), seed=2).read("china-1"))


def test_too_few_photographs(tmp_path, capsys):
    data = tmp_path / "data"
    code, _, said = run(capsys, *"prepare photographs --samples 3 --size 8 8 --data".split(), data)
    assert code == 1 and "3 samples are too few" in said and "--samples 4" in said
    assert not data.exists()


# Synthetic


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_synthetic(tmp_path, capsys, dtype):
    command = f"prepare synthetic --samples 30 --shape 3 9 5 --dtype {dtype} --classes 3 --data {tmp_path}"
    size = 135 * getattr(torch, dtype).itemsize
    assert run(capsys, *command.split())[:2] == (
        0,
        f"{tmp_path}: 30 samples, all {dtype} of shape 3×9×5, {size:,} bytes each: 24 for train "
        "and 6 for validation.\n"
        "3 classes: 0 10, 1 10, 2 10.\n",
    )
    assert check(tmp_path) == []
    X, y = Dataset(["id-5"], load_notation(tmp_path)[1], tmp_path)[0]
    assert y == 1 and describe(X) == f"{dtype} of shape 3×9×5"
    assert 0 <= X.min() and X.max() <= (255 if dtype == "uint8" else 1) and X.float().std() > 0


def test_synthetic_is_a_function_of_seed_and_id():
    one, more = synthetic(10, (3, 8, 8), classes=2, seed=4), synthetic(99, (3, 8, 8), classes=2, seed=4)
    assert torch.equal(one.read("id-7"), more.read("id-7"))
    assert not torch.equal(one.read("id-7"), one.read("id-9"))
    assert not torch.equal(one.read("id-7"), synthetic(10, (3, 8, 8), classes=2, seed=5).read("id-7"))


def test_synthetic_can_be_learned():
    source = synthetic(200, (3, 16, 16), "float32", classes=4)
    X = {name: torch.stack([source.read(ID) for ID in IDs]) for name, IDs in source.partition.items()}
    y = {name: torch.tensor([source.labels[ID] for ID in IDs]) for name, IDs in source.partition.items()}
    means = torch.stack([X["train"][y["train"] == k].mean(0) for k in range(4)])
    nearest = torch.cdist(X["validation"].flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == y["validation"]).all()


def test_synthetic_samples_are_quick_to_make():
    source = synthetic(60, (3, 224, 224))
    seconds = []
    for ID in source.labels:
        start = time.perf_counter()
        source.read(ID)
        seconds.append(time.perf_counter() - start)
    # About 0.3 ms; the quickest of many, because the machine may be busy
    assert min(seconds) < 0.003


# The command line


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("", "required: TASK"),
        ("unheard", "invalid choice: 'unheard'"),
        ("digits", "invalid choice: 'digits'"),
        ("prepare", "required: SOURCE"),
        ("prepare unheard", "invalid choice: 'unheard'"),
        ("prepare digits --samples 3", "unrecognized arguments: --samples 3"),
        ("prepare photographs --size 8 8", "required: --samples"),
        ("prepare photographs --samples 9 --size 8", "--size: expected 2 arguments"),
        ("prepare synthetic --samples 0 --shape 1 2 3", "--samples: '0' is not a whole number of at least 1"),
        ("prepare synthetic --samples 9 --shape 1 -2 3", "--shape"),
        ("prepare synthetic --samples 9 --shape 1 2 3 --dtype int4", "--dtype: invalid choice: 'int4'"),
        ("prepare synthetic --samples 9 --shape 1 2 3 --classes x", "--classes: 'x' is not a whole number"),
        ("prepare folder", "required: PATH"),
        ("prepare folder x --mode CMY", "--mode: invalid choice: 'CMY'"),
        ("prepare digits --skip-unreadable", "unrecognized arguments: --skip-unreadable"),
        ("check --force", "unrecognized arguments: --force"),
    ],
)
def test_wrong_options_are_one_sentence(capsys, arguments, said):
    code, out, err = run(capsys, *arguments.split())
    assert code == 2 and out == "" and said in err and err.count("\n") == 1


SOURCES = ["digits", "photographs", "folder", "table", "synthetic"]


@pytest.mark.parametrize("task", ["pack", "check", *(f"prepare {source}" for source in SOURCES)])
def test_help(capsys, task):
    code, out, _ = run(capsys, *task.split(), "--help")
    assert code == 0 and "--data" in out


def test_help_lists_the_tasks_and_the_sources(capsys):
    assert all(task in run(capsys, "--help")[1] for task in ("prepare", "pack", "check", "--version"))
    assert all(source in run(capsys, "prepare", "--help")[1] for source in SOURCES)


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"feedgpu {feedgpu.__version__}\n", "")


def test_help_does_not_wait_for_torch():
    program = (
        "import sys\nfrom feedgpu.command import main\ntry:\n    main(['--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_errors_are_one_sentence_and_the_code_1(tmp_path, capsys):
    write(synthetic(10, (1, 2, 2), classes=2), tmp_path)
    code, out, err = run(capsys, "prepare", "digits", "--data", tmp_path)
    assert (code, out) == (1, "")
    assert err == f"{tmp_path} holds a dataset: overwrite it with --force, or choose another --data\n"


def test_force(tmp_path, capsys):
    write(synthetic(10, (1, 2, 2), classes=2), tmp_path)
    arguments = ["prepare", "synthetic", "--samples", 20, "--shape", 1, 2, 2, "--data", tmp_path, "--force"]
    assert run(capsys, *arguments)[0] == 0
    assert len(load_notation(tmp_path)[1]) == 20


def test_ctrl_c_is_one_sentence_and_the_code_130(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "pixels", interrupted)
    command = "prepare photographs --samples 9 --size 2 2 --data"
    code, out, err = run(capsys, *command.split(), tmp_path / "data")
    assert (code, out, err.strip()) == (
        130,
        "",
        f"Stopped by Ctrl-C: {tmp_path / 'data'} is as it was, or new and whole.",
    )
    assert not (tmp_path / "data").exists()


def test_data_is_where_the_command_is_run(tmp_path):
    words = "-m feedgpu prepare synthetic --samples 20 --shape 1 2 2"
    command = [sys.executable, *words.split()]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(
        "data: 20 samples, all uint8 of shape 1×2×2, 4 bytes each: 10 for train and 10 for "
        "validation.\n10 classes: 0 2,"
    )
    assert len(digits().labels) == 1797 and (tmp_path / "data/partition.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1251", "cp932"])
def test_every_terminal_can_print_it(tmp_path, encoding):
    "Shapes have a ×, which not all of them know"
    write(synthetic(20, (1, 2, 2)), tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "feedgpu", "check", "--data", tmp_path],
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 0 and b"20 samples, all uint8 of shape 1" in done.stdout and done.stderr == b""


def test_a_path_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = "prepare synthetic --samples 20 --shape 1 2 2 --data"
    code, _, err = run(capsys, *command.split(), tmp_path / "file/data")
    assert code == 1 and "file/data cannot be written, Not a directory" in err
    with pytest.raises(DatasetError):
        write(synthetic(20, (1, 2, 2)), tmp_path / "file")
