"""feedgpu.files: the user's own images and tensors, in folders or listed in a table."""

import io
import json
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from feedgpu import DatasetError, load_notation, read_sample
from feedgpu.command import main
from feedgpu.notation import file_of
from feedgpu.prepare import check, folder, table, write

RED = np.full((6, 4, 3), (250, 0, 0), np.uint8)


def image(file, pixels=RED, mode=None, **options):
    "Writes an image, and the folders above it"
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(pixels))
    (picture.convert(mode) if mode else picture).save(file, **options)


@pytest.fixture
def path(tmp_path):
    "Two classes with three images each"
    for name in ("cat", "dog"):
        for i in range(3):
            image(tmp_path / "images" / name / f"{i}.png", RED // (i + 1))
    return tmp_path / "images"


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    return (code, *capsys.readouterr())


def only(path, size=None, mode=None):
    "The sample of a folder that holds a single file"
    source = folder(path, size, mode)
    (ID,) = source.labels
    return source.read(ID)


# Folders


def test_a_folder_of_classes(path, tmp_path, capsys):
    data = tmp_path / "data"
    assert run(capsys, "prepare", "folder", path, "--data", data) == (
        0,
        f"{data}: 6 samples, all uint8 of shape 3×6×4, 72 bytes each: 4 for train and 2 for validation.\n"
        "2 classes: cat 3, dog 3.\n",
        "",
    )
    partition, labels = load_notation(data)
    assert labels == {f"{name}/{i}": y for y, name in enumerate(("cat", "dog")) for i in range(3)}
    assert {labels[ID] for ID in partition["validation"]} == {0, 1}
    assert json.loads((data / "classes.json").read_text()) == ["cat", "dog"]
    assert torch.equal(read_sample(data / "dog/1.pt"), torch.from_numpy(RED // 2).permute(2, 0, 1))
    assert check(data) == []


@pytest.mark.parametrize("name", ["validation", "val", "Valid", "DEV"])
def test_a_folder_that_is_divided_already(tmp_path, name):
    for home, label, i in (("train", "b", 1), ("train", "a", 1), (name, "b", 2), (name, "c", 3)):
        image(tmp_path / "images" / home / label / f"{i}.jpg")
    partition, labels = write(folder(tmp_path / "images"), tmp_path / "data")
    assert partition == {"train": ["train/a/1", "train/b/1"], "validation": [f"{name}/b/2", f"{name}/c/3"]}
    assert labels == {"train/a/1": 0, "train/b/1": 1, f"{name}/b/2": 1, f"{name}/c/3": 2}


@pytest.mark.parametrize(
    "names, said",
    [
        (["train"], "has train: it needs one folder for validation \\(validation, val, valid, dev"),
        (["VAL"], "has VAL: it needs one folder for train"),
        (
            ["train", "validation", "val"],
            "has train and val and validation: it needs one folder for",
        ),
        (["validation", "val"], "has val and validation: it needs one folder for train"),
        (["train", "val", "test", "testing"], "has test and testing: one of them is enough"),
    ],
)
def test_a_folder_that_is_divided_by_halves(tmp_path, names, said):
    for name in names:
        image(tmp_path / name / "cat" / "1.png")
    with pytest.raises(DatasetError, match=said):
        folder(tmp_path)


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(DatasetError, match="there is no folder .*nowhere"):
        folder(tmp_path / "nowhere")
    image(tmp_path / "loose.png")
    with pytest.raises(DatasetError, match="no images, .npy or .pt files in class folders"):
        folder(tmp_path)


def test_other_files_are_counted_and_hidden_ones_are_not(path, capsys):
    image(path / "loose.png")
    (path / "cat/notes.txt").touch()
    (path / "cat/.hidden.png").touch()
    image(path / ".cache/x.png")
    assert len(folder(path).labels) == 6
    assert capsys.readouterr().out == (
        "Not part of the dataset, 2 other files: 'cat/notes.txt', 'loose.png'\n"
    )


def test_subfolders_and_links_are_followed_but_not_in_circles(path, tmp_path):
    image(path / "cat/deep/er/4.png")
    image(tmp_path / "elsewhere/5.png")
    (path / "eel").symlink_to(tmp_path / "elsewhere")
    (path / "cat/back").symlink_to(path)
    labels = folder(path).labels
    assert labels["cat/deep/er/4"] == 0 and labels["eel/5"] == 2 and len(labels) == 8


def test_ids_are_told_apart(tmp_path):
    for name in ("a.jpg", "a.png", "a.jpg.png", "b.png", "c.d.png"):
        image(tmp_path / "images/x" / name)
    source = folder(tmp_path / "images")
    assert list(source.labels) == ["x/a.jpg", "x/a.jpg.png", "x/a.png", "x/b", "x/c.d"]
    write(source, tmp_path / "data")
    assert check(tmp_path / "data") == []


def test_names_in_other_scripts(path, tmp_path):
    image(path / "猫 1" / "ñandú 'ü'.png")
    (path / os.fsdecode(b"\xff")).mkdir()
    image(path / os.fsdecode(b"\xff") / "x.png")
    write(folder(path), tmp_path / "data")
    assert len(load_notation(tmp_path / "data")[1]) == 8 and check(tmp_path / "data") == []


def test_data_inside_the_images_is_refused(path, capsys):
    for data in (path, path / "cat", path / "new"):
        code, _, err = run(capsys, "prepare", "folder", path, "--data", data)
        assert code == 1 and "which is to be read: choose another --data" in err
    assert not (path / "new").exists()


# Images


@pytest.mark.parametrize(
    "mode, suffix, channels",
    [("RGB", "jpg", 3), ("L", "png", 1), ("RGBA", "png", 4), ("CMYK", "tif", 4), ("LA", "png", 2)],
)
def test_modes_stay_as_stored(tmp_path, mode, suffix, channels):
    image(tmp_path / f"x/1.{suffix}", mode=mode)
    X = only(tmp_path)
    assert X.shape == (channels, 6, 4) and X.dtype == torch.uint8


def test_palettes_and_bits_become_colours_and_greys(tmp_path):
    image(tmp_path / "p/x/1.png", mode="P")
    assert only(tmp_path / "p")[:, 0, 0].tolist() == [255, 0, 0]
    image(tmp_path / "bits/x/1.png", RED * 2, mode="1")
    X = only(tmp_path / "bits")
    assert X.shape == (1, 6, 4) and set(X.flatten().tolist()) <= {0, 255}


def test_size_and_mode(tmp_path):
    image(tmp_path / "x/1.png")
    assert only(tmp_path, size=(9, 5)).shape == (3, 9, 5)
    assert only(tmp_path, mode="L").shape == (1, 6, 4)
    assert only(tmp_path, size=(2, 3), mode="RGBA").shape == (4, 2, 3)


def test_scaling_down_averages(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 200
    image(tmp_path / "x/1.png", stripes)
    assert (only(tmp_path, size=(4, 4)).int() - 100).abs().max() <= 3


def test_images_are_turned_as_the_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    image(tmp_path / "x/1.jpg", exif=exif)
    assert only(tmp_path).shape == (3, 4, 6)


# Tensors


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">f4", "<f8", "float16", "bool"])
def test_npy(tmp_path, dtype):
    (tmp_path / "x").mkdir()
    array = np.arange(6).reshape(2, 3).astype(dtype)
    np.save(tmp_path / "x/1.npy", array)
    np.save(tmp_path / "x/2.npy", np.asfortranarray(array))
    write(folder(tmp_path), tmp_path.parent / f"{tmp_path.name}-data")
    for ID in ("x/1", "x/2"):
        X = read_sample(file_of(ID, tmp_path.parent / f"{tmp_path.name}-data"))
        assert X.tolist() == array.tolist() and X.numpy().dtype == array.dtype.newbyteorder("=")


def test_pt(tmp_path):
    (tmp_path / "x").mkdir()
    torch.save(torch.arange(10.0).view(5, 2)[3], tmp_path / "x/1.pt")
    assert only(tmp_path, size=(9, 9), mode="L").tolist() == [6, 7]


def test_unequal_samples_are_an_error_that_names_two(path, tmp_path, capsys):
    image(path / "dog/3.png", RED[:3])
    code, _, err = run(capsys, "prepare", "folder", path, "--data", tmp_path / "data", "--skip-unreadable")
    assert code == 1 and "cat/" in err and f"{path}/dog/3.png is uint8 of shape 3×3×4" in err
    assert "is uint8 of shape 3×6×4" in err and "--size H W" in err and "--mode RGB" in err
    assert not (tmp_path / "data").exists()
    assert run(capsys, "prepare", "folder", path, "--data", tmp_path / "data", "--size", 5, 5)[0] == 0


# What cannot be read


class Evil:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch '{self.file}'",)


def test_all_unreadable_files_are_named_and_no_code_is_run(path, tmp_path, capsys, monkeypatch):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    Image.fromarray(noise).save(whole, "png")
    bad = {
        "cut.png": whole.getvalue()[:2000],
        "empty.jpg": b"",
        "text.gif": b"no image",
        "foreign.npy": b"no array",
        "foreign.pt": b"no tensor",
        "evil.pt": pickle.dumps(Evil(tmp_path / "ran")),
    }
    for name, content in bad.items():
        (path / "cat" / name).write_bytes(content)
    torch.save(Evil(tmp_path / "ran"), path / "cat/evil2.pt")
    torch.save({"epoch": 3}, path / "cat/dict.pt")
    torch.save(torch.eye(3).to_sparse(), path / "cat/sparse.pt")
    np.save(path / "cat/evil.npy", np.array([Evil(tmp_path / "ran")]))
    np.save(path / "cat/strings.npy", np.array(["a"]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    image(path / "cat/bomb.png", np.zeros((200, 100), np.uint8))
    Image.fromarray(np.full((6, 4), 0.5, np.float32)).save(path / "cat/deep.tif")
    (path / "cat/broken.png").symlink_to("nowhere")
    bad_names = [*bad, "evil2.pt", "dict.pt", "sparse.pt", "evil.npy", "strings.npy", "bomb.png", "deep.tif"]
    bad_names.append("broken.png")

    code, _, err = run(capsys, "prepare", "folder", path, "--data", tmp_path / "data")
    assert code == 1 and err.startswith("14 of 20 samples cannot be read, so none was written")
    assert sorted(line.partition(": ")[0] for line in err.splitlines()[1:]) == sorted(
        f"{path}/cat/{name}" for name in bad_names
    )
    for words in ("truncated", "no image", "it asks to run posix.system", "there is no such file", "bomb"):
        assert words in err
    assert not (tmp_path / "data").exists()

    code, out, _ = run(capsys, "prepare", "folder", path, "--data", tmp_path / "data", "--skip-unreadable")
    assert code == 0 and "14 IDs left out, as they cannot be read: 'cat/" in out and "6 samples" in out
    assert len(load_notation(tmp_path / "data")[1]) == 6
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read(path, tmp_path, capsys):
    (path / "dog").chmod(0)
    code, _, err = run(capsys, "prepare", "folder", path, "--data", tmp_path / "data")
    assert code == 1 and err == f"{path}/dog cannot be read: Permission denied (PermissionError)\n"


# Tables


def listed(path, text):
    file = path / "list.csv"
    file.write_bytes(text.encode())
    return file


def test_a_table(path, tmp_path, capsys):
    text = (
        "id,path,label\nc/1,cat/0.png,tabby\nc/2,cat/1.png,tabby\nd,dog/0.png,big dog\ne,dog/1.png,big dog\n"
    )
    data = tmp_path / "data"
    assert run(capsys, "prepare", "table", listed(path, text), "--data", data, "--size", 2, 2) == (
        0,
        f"{data}: 4 samples, all uint8 of shape 3×2×2, 12 bytes each: 2 for train and 2 for validation.\n"
        "2 classes: big dog 2, tabby 2.\n",
        "",
    )
    assert load_notation(data)[1] == {"c/1": 1, "c/2": 1, "d": 0, "e": 0}
    assert json.loads((data / "classes.json").read_text()) == ["big dog", "tabby"]
    assert check(data) == []


def test_a_table_with_partitions_and_numbers_as_excel_writes_it(path):
    text = '\ufeffid,note,path,partition,label\r\na,"x\r\ny",cat/0.png,train,7\r\n\r\nb,,cat/1.png,val,2\r\n'
    source = table(listed(path, text + "c,,cat/2.png,validation,2\r\n"))
    assert source.partition == {"train": ["a"], "validation": ["b", "c"]}
    assert source.labels == {"a": 7, "b": 2, "c": 2} and source.classes is None


def test_a_table_names_files_from_its_own_folder_or_absolutely(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = f"id,path,label\na,{path}/cat/0.png,1\nb,../images/cat/0.png,1\n"
    source = table(listed(path, text))
    assert torch.equal(source.read("a"), source.read("b"))
    assert capsys.readouterr().out.startswith("From outside the table's folder, 2 files: '")


GOOD = "a,cat/0.png,1,train\nb,cat/1.png,1,validation\n"


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "line 1: there is no column path"),
        (
            "id,path\na,cat/0.png\n",
            "line 1: there is no column label; needed are path and label, besides id and partition; "
            "there are 'id', 'path'",
        ),
        ("id,path,label,partition\n" + GOOD + ",cat/2.png,1,train\n", "line 4: it has no id"),
        ("id,path,label,partition\n" + GOOD + "c,cat/2.png,1,\n", "line 4: it has no partition"),
        ("id,path,label,partition\n" + GOOD + "c,cat/2.png\n", "line 4: it has no label"),
        ("id,path,label,partition\n" + GOOD + "c,cat/2.png,1,train,x\n", "line 4: it has more values"),
        (
            "id,path,label,partition\n" + GOOD + "a,cat/2.png,1,train\n",
            "line 4: 'a' was the ID of a line before",
        ),
        ("id,path,label,partition\n" + GOOD + "../c,cat/2.png,1,train\n", "line 4: '../c' is no ID"),
        ("id,path,label,partition\n" + GOOD + "c,cat/2.png,1,tset\n", "line 4: 'tset' is no partition"),
        ("id,path,label,is_valid\na,cat/0.png,1,no\nb,cat/1.png,1,2\n", "line 3: '2' is no partition"),
        ("id,path,label,partition\n" + GOOD + "c,cat/2.txt,1,train\n", "line 4: 'cat/2.txt' is neither"),
        ('id,path,label\na,"cat/0.png,1\n', "line 2: unexpected end of data"),
    ],
)
def test_a_faulty_table_names_the_line(path, text, said):
    with pytest.raises(DatasetError) as error:
        table(listed(path, text))
    assert str(error.value).startswith(f"{path}/list.csv, {said}")


@pytest.mark.parametrize(
    "head",
    ["id,path,label,split", "ID;Path;Label;Set", " id,  path, Label , fold", "id\tpath\tLABEL\tPartition"],
)
def test_tables_as_people_write_them(path, head):
    by = next(mark for mark in ";\t," if mark in head)
    lines = [
        ("a", "cat/0.png", "x", "Train"),
        ("b", "cat/1.png", "y", "dev"),
        ("c", "cat/2.png", "y", "TEST"),
    ]
    source = table(listed(path, "\n".join([head, *map(by.join, lines)])))
    assert source.partition == {"train": ["a"], "validation": ["b"], "test": ["c"]}
    assert source.labels == {"a": 0, "b": 1, "c": 1} and source.classes == ["x", "y"]


def test_a_path_may_be_the_ID_and_columns_are_named_that_are_not_used(path, capsys):
    text = "path,label,is_valid,width,note\ncat/0.png,1,False,3,\ncat/1.png,2,True,4,x\n"
    source = table(listed(path, text))
    assert source.partition == {"train": ["cat/0.png"], "validation": ["cat/1.png"]}
    assert capsys.readouterr().out == f"Columns of {path}/list.csv that are not used: width, note\n"


TARGETS = {
    "whole numbers with a point": ("class", ["0.0", "2.0", "10.0"], [0, 2, 10], None),
    "names that are numbers come in their order": ("class", ["10", "x", "2"], [1, 2, 0], ["2", "10", "x"]),
    "numbers": ("number", ["0.4893", "0.13", "-2"], [0.4893, 0.13, -2.0], None),
    "names": ("several", ["a|b", "b", "c | a"], [[1, 1, 0], [0, 1, 0], [1, 0, 1]], ["a", "b", "c"]),
    "numbers each": ("several", ["0.5|1", "2|3", "4|5"], [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]], None),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_of_a_table(path, tmp_path, kind):
    target, column, expected, classes = TARGETS[kind]
    lines = [f"{ID},cat/{i}.png,{label}" for i, (ID, label) in enumerate(zip("abc", column, strict=True))]
    source = table(listed(path, "\n".join(["id,path,label", *lines])), target=target)
    assert list(source.labels.values()) == expected and source.classes == classes
    assert [type(y) for y in source.labels.values()] == [type(y) for y in expected]


@pytest.mark.parametrize(
    ("target", "label", "says"),
    [
        ("class", "0.4893", "the labels are numbers, such as 0.4893: say --target number"),
        ("number", "big", "the target of 'a' is 'big', which is no number"),
    ],
)
def test_targets_that_are_something_else(path, target, label, says):
    text = f"id,path,label\na,cat/0.png,{label}\nb,cat/1.png,1\n"
    with pytest.raises(DatasetError, match=says):
        table(listed(path, text), target=target)


def test_class_folders_that_are_numbers_are_sorted_as_numbers(tmp_path):
    for name in ("10", "2", "1"):
        image(tmp_path / name / "a.png")
        image(tmp_path / name / "b.png")
    source = folder(tmp_path)
    assert source.classes == ["1", "2", "10"] and source.labels["10/a"] == 2


def test_a_third_partition(tmp_path, capsys):
    for home in ("Training", "Val", "TEST"):
        for name in ("cat", "dog"):
            image(tmp_path / "images" / home / name / "1.png")
    image(tmp_path / "images/Val/fox/1.png")
    done = run(capsys, "prepare", "folder", tmp_path / "images", "--data", tmp_path / "data")
    assert "2 for train, 3 for validation and 2 for test.\n3 classes: cat 3, dog 3, fox 1.\n" in done[1]
    assert done[1].endswith("Only in validation: fox.\n")
    assert list(load_notation(tmp_path / "data")[0]) == ["train", "validation", "test"]


def test_one_folder_too_many(tmp_path):
    image(tmp_path / "archive/cats/1.png")
    image(tmp_path / "archive/dogs/1.png")
    with pytest.raises(DatasetError, match="one class folder, archive, which holds the folders cats, dogs"):
        folder(tmp_path)


def test_a_table_that_is_no_table(path, tmp_path, capsys):
    (path / "list.csv").write_bytes(b"\xff\xfeid,path,label\n")
    with pytest.raises(DatasetError, match="is not written in UTF-8"):
        table(path / "list.csv")
    assert run(capsys, "prepare", "table", path / "none.csv")[0] == 1
    with pytest.raises(DatasetError, match="list.csv cannot be read|images cannot be read"):
        table(path)
    with pytest.raises(DatasetError, match="no sample for 'train'"):
        write(table(listed(path, "id,path,label\n")), tmp_path / "data")


def test_all_files_missing_from_a_table_are_named(path, tmp_path):
    text = "id,path,label\na,cat/0.png,1\nb,none.png,1\nc,cat/none.png,1\n"
    with pytest.raises(DatasetError) as error:
        write(table(listed(path, text)), tmp_path / "data")
    assert sorted(str(error.value).splitlines()[1:]) == [
        f"{path}/cat/none.png: there is no such file",
        f"{path}/none.png: there is no such file",
    ]


def test_class_folders_that_link_to_each_other_come_to_an_end(path):
    for one, other in (("cat", "dog"), ("dog", "cat")):
        (path / one / "friends").symlink_to(path / other, target_is_directory=True)
    with pytest.raises(DatasetError, match="are one folder: take one of the two away"):
        folder(path)


def test_want_of_memory_leaves_no_sample_out(path, tmp_path, monkeypatch, capsys):
    def wanting(*_):
        raise MemoryError

    monkeypatch.setattr("feedgpu.prepare.files.read_image", wanting)
    code, _, err = run(capsys, "prepare", "folder", path, "--data", tmp_path / "data", "--skip-unreadable")
    assert code == 1 and "could not be read for want of memory: " in err
    assert not (tmp_path / "data" / "partition.json").exists()
