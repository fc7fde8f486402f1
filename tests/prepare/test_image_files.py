"""Image files that a dataset keeps: prepared, checked, packed, replaced, and read by ImageDataset."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from pictures_on_disk import bad_files, save, scene

from feedgpu import DatasetError, PackedDataset, PrefetchLoader, load_notation
from feedgpu.command import main
from feedgpu.images import ImageDataset
from feedgpu.prepare import photographs, write
from feedgpu.prepare.files import keeper

ROOT = Path(__file__).resolve().parents[2]


def test_photographs_kept_as_jpeg(tmp_path, capsys):
    root = tmp_path / "data"
    assert (
        main(
            [
                "prepare",
                "photographs",
                "--samples",
                "20",
                "--size",
                "32",
                "40",
                "--as",
                "jpeg",
                "--data",
                str(root),
            ]
        )
        == 0
    )
    assert "20 samples, image files of" in capsys.readouterr().out
    partition, labels = load_notation(root, "")
    assert set(labels) == {f"{name}/{i}.jpg" for name in ("china", "flower") for i in range(1, 11)}
    assert not list(root.rglob("*.pt"))
    dataset = ImageDataset(partition["train"], labels, root, (16, 20), seed=0)
    X, y = next(iter(PrefetchLoader(dataset, 16)))
    assert X.shape == (16, 3, 16, 20) and set(y.tolist()) == {0, 1}
    assert main(["check", "--data", str(root)]) == 0


def test_a_folder_of_images_kept_as_files(folder, tmp_path, capsys):
    root, IDs, _ = folder
    (root / "cat/notes.txt").write_text("no image")
    made = tmp_path.parent / f"{tmp_path.name}-made"
    assert main(["prepare", "folder", str(root), "--as", "files", "--data", str(made)]) == 0
    partition, labels = load_notation(made, "")
    assert sorted(labels) == sorted(IDs) and labels[IDs[0]] == 1 and labels[IDs[1]] == 0
    assert all((made / ID).read_bytes() == (root / ID).read_bytes() for ID in IDs)
    assert main(["check", "--data", str(made)]) == 0
    # the next dataset takes all of this one away, and nothing of the user's
    (made / "mine.jpg").write_bytes(b"mine")
    assert main(["prepare", "digits", "--force", "--data", str(made)]) == 0
    assert sorted(path.name for path in made.iterdir() if path.suffix not in (".pt", ".json")) == ["mine.jpg"]
    assert all((root / ID).exists() for ID in IDs)
    assert main(["prepare", "folder", str(root), "--as", "files", "--force", "--data", str(made)]) == 0
    assert not list(made.rglob("*.pt")) and (made / "mine.jpg").exists()


def test_kept_where_links_are_refused(folder, tmp_path, monkeypatch):
    root, IDs, _ = folder

    def refuse(*args, **kwargs):
        raise OSError("not allowed")

    monkeypatch.setattr(os, "link", refuse)
    made = tmp_path.parent / f"{tmp_path.name}-made"
    assert main(["prepare", "folder", str(root), "--as", "files", "--data", str(made)]) == 0
    assert all((made / ID).read_bytes() == (root / ID).read_bytes() for ID in IDs)


def test_a_table_of_images_kept_as_files(folder, tmp_path, capsys):
    root, IDs, _ = folder
    lines = [f"{name},{ID},{i % 2}" for i, (name, ID) in enumerate(zip("abcdefgh", IDs, strict=False))]
    (root / "list.csv").write_text("\n".join(["id,path,label", *lines]), encoding="utf-8")
    made = tmp_path.parent / f"{tmp_path.name}-made"
    assert main(["prepare", "table", str(root / "list.csv"), "--as", "files", "--data", str(made)]) == 0
    assert sorted(path.name for path in made.iterdir() if path.suffix != ".json") == [*"abcdefgh"]
    assert main(["check", "--data", str(made)]) == 0
    (root / "list.csv").write_text(f"id,path,label\nlabels.json,{IDs[0]},0\nb,{IDs[1]},0\n", encoding="utf-8")
    assert (
        main(["prepare", "table", str(root / "list.csv"), "--as", "files", "--force", "--data", str(made)])
        == 1
    )
    assert "would have the name of a list of the dataset: 'labels.json'" in capsys.readouterr().err


def test_what_is_kept_is_decoded_first(folder, tmp_path, capsys):
    root, IDs, _ = folder
    for name, (content, _) in bad_files().items():
        (root / "cat" / name).write_bytes(content)
    made = tmp_path.parent / f"{tmp_path.name}-made"
    assert main(["prepare", "folder", str(root), "--as", "files", "--data", str(made)]) == 1
    said = capsys.readouterr().err
    assert "9 of 49 samples cannot be read" in said
    assert all(f"cat/{name}:" in said for name in bad_files())
    assert (
        main(["prepare", "folder", str(root), "--as", "files", "--skip-unreadable", "--data", str(made)]) == 0
    )
    assert sorted(load_notation(made, "")[1]) == sorted(IDs)
    assert (
        main(["prepare", "folder", str(root), "--as", "files", "--size", "8", "8", "--data", str(made)]) == 1
    )
    assert "leave --size and --mode out" in capsys.readouterr().err


def test_one_bad_file_among_10_000_is_found(tmp_path, capsys):
    source = save(scene(8, 8), tmp_path / "source.jpg")
    made = tmp_path / "data"
    IDs = [f"{i % 10}/{i}.jpg" for i in range(10_000)]
    for folder in range(10):
        (made / str(folder)).mkdir(parents=True)
    for ID in IDs:
        os.link(source, made / ID)
    (made / "labels.json").write_text(json.dumps({ID: 0 for ID in IDs}))
    (made / "partition.json").write_text(json.dumps({"train": IDs[:9000], "validation": IDs[9000:]}))
    bad = made / IDs[7654]
    bad.unlink()
    bad.write_bytes(source.read_bytes()[:300])
    (made / "3/spare.png").write_bytes(b"")
    assert main(["check", "--data", str(made)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"sample '4/7654.jpg': {bad} cannot be read: ")
    assert second == "no ID names 1 of the image files: 3/spare.png"
    loader = PrefetchLoader(ImageDataset(IDs, {ID: 0 for ID in IDs}, made, (8, 8)), 500)
    with pytest.raises(DatasetError, match=f"sample '4/7654.jpg': {bad} cannot be read"):
        list(loader)


def test_packed_decoded(tmp_path, capsys):

    root = str(tmp_path / "data")
    main(["prepare", "photographs", "--samples", "12", "--size", "32", "40", "--as", "jpeg", "--data", root])
    assert main(["pack", "--data", root]) == 1
    assert "image files: say --size H W" in capsys.readouterr().err
    assert main(["pack", "--size", "16", "20", "--data", root]) == 0
    partition, labels = load_notation(root, "")
    packed = PackedDataset(partition["train"], labels, root)
    images = ImageDataset(partition["train"], labels, root, (16, 20))
    assert all(torch.equal(packed[i][0], images[i][0]) for i in range(len(packed)))
    assert main(["check", "--data", root]) == 0
    main(["prepare", "digits", "--force", "--data", root])
    assert main(["pack", "--size", "16", "20", "--data", root]) == 1
    assert "leave --size out" in capsys.readouterr().err


def test_a_pack_of_other_images_is_noticed(tmp_path, capsys):
    root = tmp_path / "data"
    main(
        [
            "prepare",
            "photographs",
            "--samples",
            "8",
            "--size",
            "32",
            "40",
            "--as",
            "jpeg",
            "--data",
            str(root),
        ]
    )
    main(["pack", "--size", "16", "20", "--data", str(root)])
    save(scene(), root / "china/1.jpg")
    capsys.readouterr()
    assert main(["check", "--data", str(root)]) == 1
    assert "no longer those that were packed" in capsys.readouterr().err
    main(["pack", "--size", "16", "20", "--data", str(root)])
    (root / "china/1.jpg").unlink()
    assert main(["check", "--data", str(root)]) == 0


def test_the_script_with_images_is_four_changed_lines(tmp_path):
    data = str(tmp_path / "data")
    main(["prepare", "photographs", "--samples", "40", "--size", "24", "24", "--as", "jpeg", "--data", data])
    text = (ROOT / "pytorch_script.py").read_text(encoding="utf-8")
    sets = [f'Dataset(partition["{part}"], labels, args.data' for part in ("train", "validation")]
    for now, instead in {
        "from feedgpu.rooms": "from feedgpu.images import ImageDataset\nfrom feedgpu.rooms",
        'None if args.packed else ".pt"': '""',
        sets[0].replace("Dataset", "make_set"): f'Image{sets[0]}, (16, 16), settings["seed"]',
        sets[1].replace("Dataset", "make_set"): f"Image{sets[1]}, (16, 16)",
    }.items():
        assert text.count(now) == 1
        text = text.replace(now, instead)
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    checkpoint = tmp_path / "checkpoint.pt"
    losses = []
    for workers in ("0", "2"):
        args = ["--data", data, "--checkpoint", checkpoint, "--device", "cpu", "--batch-size", "8"]
        run = subprocess.run(
            [sys.executable, tmp_path / "script.py", *args, "--max-epochs", "2", "--num-workers", workers],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        assert run.returncode == 0, run.stderr
        losses.append([past["training"] for past in torch.load(checkpoint, weights_only=True)["history"]])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("first", ["tensors", "jpeg"])
def test_a_kill_leaves_one_dataset_whatever_the_kinds(tmp_path, dies, first):
    "of tensors replaced by one of image files, or the other way round; a file of the user's stays"
    sources = {kind: photographs(6, (8, 8), kept_as=kind) for kind in ("tensors", "jpeg")}
    (second,) = set(sources) - {first}
    changing = [(os, "replace"), (os, "unlink"), (Path, "unlink"), (shutil, "rmtree"), (Path, "mkdir")]
    for steps in itertools.count():
        root = tmp_path / str(steps)
        write(sources[first], root)
        (root / "china-1").write_text("mine")
        (root / "mine.jpg").write_text("mine")
        if not dies(steps, lambda root=root: write(sources[second], root, force=True), *changing):
            break
        with suppress(DatasetError):
            load_notation(root, None)  # opens, if it is there at all
        write(sources[second], root, force=True)
        files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        kept = {ID + (".pt" if second == "tensors" else "") for ID in sources[second].labels}
        assert files == kept | {"china-1", "mine.jpg", "labels.json", "classes.json", "partition.json"}
    assert steps > 10


def test_an_id_cannot_take_the_name_of_a_list_or_of_a_folder_in_use(folder, tmp_path, capsys):
    "What lies ready is linked to the user's own files: nothing may be written through the link"
    root, IDs, _ = folder
    before = {ID: (root / ID).read_bytes() for ID in IDs}
    made = tmp_path.parent / f"{tmp_path.name}-made"
    main(["prepare", "digits", "--data", str(made)])
    for name in (
        "labels.part",
        "partition.part",
        "suffixes.json",
        "replaced.json",
        ".replaced/x",
        "samples/x",
    ):
        rows = [f"{name},{IDs[0]},0", *(f"{i}.jpg,{ID},{i % 2}" for i, ID in enumerate(IDs[1:13]))]
        (root / "list.csv").write_text("\n".join(["id,path,label", *rows]), encoding="utf-8")
        assert (
            main(
                ["prepare", "table", str(root / "list.csv"), "--as", "files", "--force", "--data", str(made)]
            )
            == 0
        )
        assert (made / name).read_bytes() == before[IDs[0]] and len(load_notation(made, "")[1]) == 13
        assert all((root / ID).read_bytes() == content for ID, content in before.items())
    for name in (".incoming/x", ".packing/x.jpg"):
        rows = [f"{name},{IDs[0]},0", *(f"{i}.jpg,{ID},{i % 2}" for i, ID in enumerate(IDs[1:13]))]
        (root / "list.csv").write_text("\n".join(["id,path,label", *rows]), encoding="utf-8")
        assert (
            main(
                ["prepare", "table", str(root / "list.csv"), "--as", "files", "--force", "--data", str(made)]
            )
            == 1
        )
        assert "or in .incoming, .packing, packed" in capsys.readouterr().err


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_kept_is_not_written_over(folder, tmp_path, monkeypatch, links):
    "As by the ID A on a disk that does not tell it from a; test_layout.py has the sentence"

    def refuse(*args, **kwargs):
        raise OSError("not allowed")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    root, IDs, _ = folder
    keep, target = keeper({"a": root / IDs[0], "A": root / IDs[1]}), tmp_path.parent / f"{tmp_path.name}-a"
    keep("a", target)
    with pytest.raises(FileExistsError):
        keep("A", target)
    assert (root / IDs[0]).read_bytes() == target.read_bytes() != (root / IDs[1]).read_bytes()


def test_a_file_in_the_place_of_a_folder_is_said_before_anything_is_done(folder, tmp_path, capsys):
    root, IDs, _ = folder
    made = tmp_path.parent / f"{tmp_path.name}-made"
    main(["prepare", "digits", "--data", str(made)])
    (made / "cat").write_text("mine")
    for how in (["--as", "files"], ["--size", "8", "8"]):
        assert main(["prepare", "folder", str(root), *how, "--force", "--data", str(made)]) == 1
        assert f"{made / 'cat'} is a file where a folder of samples is to be" in capsys.readouterr().err
        assert (made / "cat").read_text() == "mine" and len(load_notation(made)[1]) == 1797


def test_a_stray_tensor_makes_no_other_dataset_of_it(folder, tmp_path, capsys):
    root, IDs, _ = folder
    made = tmp_path.parent / f"{tmp_path.name}-made"
    main(["prepare", "folder", str(root), "--as", "files", "--data", str(made)])
    torch.save(torch.zeros(1), made / f"{IDs[0]}.pt")
    assert main(["check", "--data", str(made)]) == 0
    assert main(["prepare", "digits", "--force", "--data", str(made)]) == 0
    assert (made / f"{IDs[0]}.pt").exists() and not list(made.rglob("*.jpg"))
