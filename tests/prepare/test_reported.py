"""Cases after public reports that went wrong once: their right values."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from feedgpu import DatasetError, PackedDataset, PrefetchLoader, load_notation
from feedgpu.command import main
from feedgpu.images import ImageDataset
from feedgpu.prepare import check, folder, pack, write

GREYS = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)


def pictures(root, names=("a", "b"), make=None, suffix="png"):
    "Four pictures in each class folder"
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(4):
            picture = make(i) if make else Image.new("RGB", (16, 16), (60 * i, 0, 0))
            picture.save(root / name / f"{i}.{suffix}")
    return root


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    return (code, *capsys.readouterr())


def test_16_bits_are_kept_if_asked_for_and_else_said_to_be_lost(tmp_path, capsys):
    root = pictures(tmp_path / "in", make=lambda i: Image.fromarray(GREYS + i))
    code, out, _ = run(capsys, "prepare", "folder", root, "--data", tmp_path / "8")
    assert code == 0 and out.startswith(
        f"{root}/a/0.png has 16 bits a value, of which the upper 8 are kept: say --mode 16 to keep all\n"
    )
    assert out.count("16 bits") == 1
    code, out, _ = run(capsys, "prepare", "folder", root, "--data", tmp_path / "16", "--mode", 16)
    assert code == 0 and "all uint16 of shape 1×16×16, 512 bytes each" in out
    X = torch.load(tmp_path / "16" / "a" / "3.pt", weights_only=True)
    assert np.array_equal(X.numpy(), GREYS[None] + 3)
    assert check(tmp_path / "16") == []
    half = folder(root, size=(8, 8), mode="16").read("a/0")
    assert half.dtype == torch.uint16 and 3800 < half.int().max() <= 4095


def test_a_grey_image_has_no_16_bits(tmp_path, capsys):
    root = pictures(tmp_path / "in")
    code, _, err = run(capsys, "prepare", "folder", root, "--data", tmp_path / "d", "--mode", 16)
    assert code == 1 and "8 samples: it has no 16 bits a value, its mode is RGB" in err


def test_the_numbers_of_a_mask_are_kept_and_scaled_without_mixing(tmp_path, capsys):
    numbers = np.zeros((16, 16), np.uint8)
    numbers[:, 8:] = 7

    def mask(i):
        picture = Image.fromarray(numbers).convert("P")
        picture.putdata(numbers.flatten().tolist())
        picture.putpalette(list(np.random.default_rng(i).integers(0, 256, 768)))
        return picture

    root = pictures(tmp_path / "in", make=mask)
    source = folder(root, mode="P")
    assert np.array_equal(source.read("a/1").numpy()[0], numbers)
    assert set(folder(root, size=(5, 5), mode="P").read("a/1").unique().tolist()) == {0, 7}
    with pytest.raises(DatasetError, match="it has no palette, its mode is RGB: leave --mode P out"):
        folder(pictures(tmp_path / "other"), mode="P").read("a/1")


def test_a_TIFF_of_other_colours_becomes_RGB(tmp_path):
    def red(i):
        return Image.new("RGB", (16, 16), (255, 0, 0)).convert("YCbCr")

    source = folder(pictures(tmp_path / "in", make=red, suffix="tif"))
    assert np.abs(source.read("a/1")[:, 0, 0].numpy().astype(int) - [255, 0, 0]).max() <= 2


def test_what_is_said_of_kinds_and_sizes(tmp_path, monkeypatch):
    source = folder(pictures(tmp_path / "in", suffix="tga"))
    with pytest.raises(DatasetError, match="no image of the kinds that are read \\(JPEG, PNG, .*BMP"):
        source.read("a/1")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        DatasetError, match="256 pixels.* exceeds limit.*: that could be .*; scale it down, or set PIL"
    ):
        folder(pictures(tmp_path / "large")).read("a/1")


@pytest.mark.skipif(os.name == "nt", reason="there a name is text")
def test_a_name_that_is_not_UTF_8_goes_the_whole_way(tmp_path, capsys):
    root = pictures(tmp_path / "in")
    os.rename(root / "a" / "0.png", os.path.join(os.fsencode(root), b"a", b"caf\xe9.png"))
    assert run(capsys, "prepare", "folder", root, "--data", tmp_path / "d")[0] == 0
    assert run(capsys, "check", "--data", tmp_path / "d")[0] == 0
    assert run(capsys, "pack", "--data", tmp_path / "d")[0] == 0
    assert run(capsys, "pack", "--data", tmp_path / "d", "--to", tmp_path / "p")[0] == 0
    for data in (tmp_path / "d", tmp_path / "p"):
        partition, labels = load_notation(data, suffix=None)
        assert "a/caf\udce9" in [ID for IDs in partition.values() for ID in IDs]
        assert len(PackedDataset(partition["train"], labels, data)) == 6


def test_check_names_a_class_that_is_validated_and_never_trained(tmp_path, capsys):
    write(folder(pictures(tmp_path / "in")), tmp_path / "d")
    labels = json.loads((tmp_path / "d" / "labels.json").read_text())
    ID = json.loads((tmp_path / "d" / "partition.json").read_text())["validation"][0]
    (tmp_path / "d" / "labels.json").write_text(json.dumps(labels | {ID: 2}))
    (tmp_path / "d" / "classes.json").write_text(json.dumps(["a", "b", "c"]))
    code, out, _ = run(capsys, "check", "--data", tmp_path / "d")
    assert code == 0 and "Only in validation: c.\n" in out


def test_conjugate_views_are_packed_and_checked(tmp_path, dataset):
    root, partition, labels = dataset()
    X = torch.view_as_complex(torch.randn(8, 8, 2))
    for ID in labels:
        torch.save(X.conj(), root / f"{ID}.pt")
    pack(root)
    assert check(root) == []
    packed = PackedDataset(partition["train"], labels, root)
    assert torch.equal(packed[0][0], X.conj().resolve_conj())


def test_300_bad_files_are_one_line(tmp_path, capsys):
    root = pictures(tmp_path / "in", make=lambda i: Image.new("L", (8, 8)))
    for i in range(300):
        (root / "a" / f"bad{i:03}.png").write_bytes(b"no image" * (i + 1))
    code, _, err = run(capsys, "prepare", "folder", root, "--data", tmp_path / "d")
    assert code == 1 and len(err.splitlines()) == 2
    assert err.splitlines()[1].startswith("300 samples: it holds no image")
    assert err.splitlines()[1].endswith("' and 295 more")


def test_a_folder_of_samples_without_targets(tmp_path, capsys):
    root = pictures(tmp_path / "in", ("a", "b"))
    Image.new("RGB", (16, 16)).save(root / "top.png")
    code, out, _ = run(capsys, "prepare", "folder", root, "--target", "none", "--data", tmp_path / "d")
    assert code == 0 and "9 samples, all uint8 of shape 3×16×16, 768 bytes each: 9 for predict" in out
    partition, labels = load_notation(tmp_path / "d")
    assert labels is None and len(partition["predict"]) == 9 and "top" in partition["predict"]
    assert check(tmp_path / "d") == []
    pack(tmp_path / "d")
    batch = next(iter(PrefetchLoader(PackedDataset(partition["predict"], None, tmp_path / "d"), 9)))
    assert batch.shape == (9, 3, 16, 16)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_transform_of_images(tmp_path, threads):
    root = pictures(tmp_path / "in")
    write(folder(root, kept_as="files"), tmp_path / "d")
    partition, labels = load_notation(tmp_path / "d", "")

    def scaled(X):
        return {"X": X.float() / 255, "mean": X.float().mean()}

    dataset = ImageDataset(partition["train"], labels, tmp_path / "d", 8, transform=scaled)
    dataset.threads = threads
    for loader in (DataLoader(dataset, 6), PrefetchLoader(dataset, 6)):
        X, y = next(iter(loader))
        assert X["X"].shape == (6, 3, 8, 8) and X["X"].dtype == torch.float32
        assert torch.allclose(X["mean"], X["X"].mean((1, 2, 3)) * 255, atol=1e-2)
        assert y.tolist() == [labels[ID] for ID in partition["train"]]

    def wrong(X):
        raise ZeroDivisionError("mine")

    dataset.transform = wrong
    with pytest.raises(ZeroDivisionError, match="mine"):
        list(PrefetchLoader(dataset, 6))
