"""`feedgpu prepare from PATH` and `pack_samples`: what comes out is what was in the source, or a sentence."""

import io
import json
import os
import tarfile

import numpy
import pytest
import torch

from feedgpu import ConcatPacked, DatasetError, PackedDataset, PrefetchLoader, load_notation
from feedgpu.command import main
from feedgpu.prepare import check, pack_samples
from feedgpu.prepare.any_source import pack_from
from feedgpu.prepare.written import drawn

N = 60
X = numpy.random.default_rng(0).integers(0, 256, (N, 3, 8, 8), numpy.uint8)
Y = numpy.arange(N) % 5


def png(values: numpy.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(values.transpose(1, 2, 0)).save(stream, "PNG")
    return stream.getvalue()


def npy(values) -> bytes:
    stream = io.BytesIO()
    numpy.save(stream, values)
    return stream.getvalue()


def samples_in(root) -> dict:
    "{ID: (X, y)} of a whole dataset, and the partition"
    partition, labels = load_notation(root, suffix=None)
    found = {}
    for IDs in partition.values():
        dataset = PackedDataset(IDs, labels, root)
        found |= {ID: dataset[i] for i, ID in enumerate(IDs)}
    return found


def is_whole(root, rows=range(N), names=None):
    "Whether the dataset has these rows, in the order of their IDs, and nothing is wrong with it"
    found = samples_in(root)
    assert check(root) == []
    assert len(found) == len(rows)
    for ID, row in zip(sorted(found), rows, strict=True):
        values, y = found[ID]
        assert torch.equal(values, torch.from_numpy(X[row])), ID
        assert y == Y[row]
    return True


def write_tar(path, rows, endings=("png", "cls")):
    with tarfile.open(path, "w") as archive:
        for row in rows:
            contents = {
                "png": png(X[row]),
                "cls": str(Y[row]).encode(),
                "json": b'{"from": 1}',
                "npy": npy(X[row]),
            }
            for ending in endings:
                member = tarfile.TarInfo(f"{row:04}.{ending}")
                member.size = len(contents[ending])
                archive.addfile(member, io.BytesIO(contents[ending]))


def write_lmdb(path, entries: dict[str, bytes]):
    import lmdb

    with lmdb.open(str(path), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)


def a_npy(folder):
    numpy.save(folder / "x.npy", X)
    numpy.save(folder / "y.npy", Y)
    return folder / "x.npy", {"y": str(folder / "y.npy")}


def columns_first(folder):
    numpy.save(folder / "x.npy", numpy.asfortranarray(X))
    numpy.save(folder / "y.npy", Y)
    return folder / "x.npy", {"y": str(folder / "y.npy")}


def a_npz(folder):
    numpy.savez_compressed(folder / "a.npz", images=X, labels=Y[:, None], ignored=numpy.zeros(3))
    return folder / "a.npz", {}


def npz_columns_first(folder):
    numpy.savez(folder / "a.npz", images=numpy.asfortranarray(X), labels=Y)
    return folder / "a.npz", {}


def hdf5(folder):
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["group/pixels"], file["group/digit"], file["three"] = X, Y.astype("int8"), numpy.zeros(3)
    return folder / "a.h5", {"x": ["group/pixels"], "y": "group/digit"}


def safetensors(folder):
    from safetensors.torch import save_file

    save_file({"x": torch.from_numpy(X), "y": torch.from_numpy(Y)}, folder / "a.safetensors")
    return folder / "a.safetensors", {}


def parquet(folder, name="a.parquet", rows=slice(None)):
    import pyarrow
    import pyarrow.parquet

    pixels = pyarrow.array([pixels.tolist() for pixels in X[rows]], pyarrow.list_(uint8_3d()))
    table = pyarrow.table({"image": pixels, "label": Y[rows]})
    pyarrow.parquet.write_table(table, folder / name)
    return folder / name, {}


def uint8_3d():
    import pyarrow

    return pyarrow.list_(pyarrow.list_(pyarrow.uint8()))


def parquet_of_images(folder):
    import pyarrow
    import pyarrow.parquet

    images = [{"bytes": png(pixels), "path": None} for pixels in X]
    table = pyarrow.table({"id": [f"{i:03}" for i in range(N)], "image": images, "label": Y})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    return folder / "a.parquet", {}


def tar(folder):
    write_tar(folder / "a.tar", range(N))
    return folder / "a.tar", {}


def tar_gz(folder):
    write_tar(folder / "a.tar", range(N), ("npy", "cls"))
    import gzip

    (folder / "a.tar.gz").write_bytes(gzip.compress((folder / "a.tar").read_bytes()))
    return folder / "a.tar.gz", {}


def an_lmdb(folder):
    write_lmdb(
        folder / "a.lmdb",
        {f"{i:03}.npy": npy(X[i]) for i in range(N)} | {f"{i:03}.cls": str(Y[i]).encode() for i in range(N)},
    )
    return folder / "a.lmdb", {}


def datasets_folder(folder):
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list("abcde"))}
    )
    rows = {"image": [{"bytes": png(pixels), "path": None} for pixels in X], "label": Y.tolist()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder / "saved")
    return folder / "saved", {}


SOURCES = [
    a_npy, columns_first, a_npz, npz_columns_first, hdf5, safetensors, parquet, parquet_of_images, tar,
    tar_gz, an_lmdb, datasets_folder,
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_all_samples_come_out_as_they_were(source, tmp_path):
    path, how = source(tmp_path)
    partition, labels = pack_from(path, tmp_path / "data", **how)
    assert is_whole(tmp_path / "data")
    assert {name: len(IDs) for name, IDs in partition.items()} == {"train": N - 10, "validation": 10}
    assert [labels[ID] for ID in partition["validation"]].count(0) == 2  # a fifth of 12
    X, y = next(iter(PrefetchLoader(PackedDataset(partition["train"], labels, tmp_path / "data"), 8)))
    assert X.shape == (8, 3, 8, 8) and y.dtype == torch.int64


def test_one_array_is_linked_where_the_system_allows_it(tmp_path):
    path, how = a_npy(tmp_path)
    pack_from(path, tmp_path / "data", **how)
    assert os.path.samefile(path, tmp_path / "data" / "packed" / "samples.npy")
    numpy.save(tmp_path / "x.npy", X)  # in place of the file: the same file, with the same content
    with open(path, "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(bytes([255 - X.flat[-1]]))
    assert "has changed since it was written" in check(tmp_path / "data")[0]


def test_an_array_is_copied_where_it_cannot_be_linked(tmp_path, monkeypatch):
    def refused(*paths):
        raise OSError(18, "Invalid cross-device link")

    path, how = a_npy(tmp_path)
    monkeypatch.setattr("feedgpu.prepare.writing.os.link", refused)
    pack_from(path, tmp_path / "data", **how)
    assert is_whole(tmp_path / "data")
    assert not os.path.samefile(path, tmp_path / "data" / "packed" / "samples.npy")


def test_what_stands_behind_an_array_does_not_come_with_it(tmp_path):
    path, how = a_npy(tmp_path)
    with open(path, "ab") as stream:
        stream.write(b"something else")
    pack_from(path, tmp_path / "data", **how)
    assert is_whole(tmp_path / "data")


@pytest.mark.parametrize("names", [("x_train", "x_test"), ("train_x", "test_x"), ("train/x", "TEST/x")])
def test_names_tell_the_partition_and_validation_is_drawn_from_train(names, tmp_path, capsys):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[names[0]], file[names[0].replace("x", "y", 1)] = X[:40], Y[:40]
        file[names[1]], file[names[1].replace("x", "y", 1)] = X[40:], Y[40:]
    partition, labels = pack_from(tmp_path / "a.h5", tmp_path / "data")
    assert {name: len(IDs) for name, IDs in partition.items()} == {"train": 30, "validation": 10, "test": 20}
    assert "a fifth of train is drawn" in capsys.readouterr().out
    test_set = PackedDataset(partition["test"], labels, tmp_path / "data")
    assert [test_set[i][1] for i in range(20)] == Y[40:].tolist()


def test_targets_that_were_said_are_never_dropped(tmp_path, capsys):
    numpy.savez(tmp_path / "a.npz", x_train=X[:40], t_train=Y[:40], x_test=X[40:], t_test=Y[40:])
    for y in ("t_train", "t"):
        _, labels = pack_from(tmp_path / "a.npz", tmp_path / "data", y=y, force=True)
        assert sorted(labels.array.tolist()) == sorted(Y.tolist())
    numpy.savez(tmp_path / "b.npz", x_train=X[:40], t_train=Y[:40], x_test=X[40:])
    with pytest.raises(DatasetError, match="there are no targets 't' for test"):
        pack_from(tmp_path / "b.npz", tmp_path / "data", y="t_train", force=True)


@pytest.mark.parametrize("kind", [numpy.array, torch.tensor])
def test_a_generator_may_use_its_memory_again(kind, tmp_path):
    def samples():
        memory = {"a": kind([0.0, 0.0]), "b": kind([0.0])}
        target = kind([0.0, 0.0])
        for i in range(10):
            memory["a"][:], memory["b"][0], target[:] = i, -i, i / 2
            yield f"{i}", memory, target

    partition, labels = pack_samples(samples(), tmp_path / "data")
    for IDs in partition.values():
        for ID, (sample, y) in zip(IDs, PackedDataset(IDs, labels, tmp_path / "data"), strict=True):
            i = int(ID)
            assert sample["a"].tolist() == [i, i] and sample["b"].tolist() == [-i]
            assert y.tolist() == [i / 2, i / 2]


def test_check_names_samples_of_another_shape(tmp_path):
    samples = [(f"a{i}", numpy.zeros(5 if i == 7 else 4, "f4"), i % 2) for i in range(20)]
    pack_samples(samples, tmp_path / "data")
    (fault,) = check(tmp_path / "data")
    assert fault.startswith("1 ID of another shape than the first sample") and fault.endswith("'a7'")


def test_what_is_not_used_is_said(tmp_path, capsys):
    write_tar(tmp_path / "a.tar", range(6), ("png", "cls", "json"))
    pack_from(tmp_path / "a.tar", tmp_path / "data")
    assert "samples from png, targets from cls; not used: json." in capsys.readouterr().out
    numpy.savez(tmp_path / "a.npz", x_train=X[:40], y_train=Y[:40], x_test=X[40:], y_test=Y[40:])
    pack_from(tmp_path / "a.npz", tmp_path / "data", x=["x_train"], y="y_train", force=True)
    assert "not used: x_test, y_test." in capsys.readouterr().out


def test_file_names_tell_the_partition(tmp_path):
    (tmp_path / "shards").mkdir()
    for name, rows in {"train-0": range(20), "train-1": range(20, 40), "val-0": range(40, 60)}.items():
        write_tar(tmp_path / "shards" / f"{name}.tar", rows)
    partition, _ = pack_from(tmp_path / "shards", tmp_path / "data")
    assert partition["validation"] == [f"val-0/{i:04}" for i in range(40, 60)]
    assert is_whole(tmp_path / "data")

    (tmp_path / "columns").mkdir()
    for name, rows in {"train-0-of-1": slice(0, 40), "validation": slice(40, 60)}.items():
        parquet(tmp_path / "columns", f"{name}.parquet", rows)
    partition, _ = pack_from(tmp_path / "columns", tmp_path / "data", force=True)
    assert {name: len(IDs) for name, IDs in partition.items()} == {"train": 40, "validation": 20}


def test_a_column_tells_the_partition_and_the_IDs(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"a": [0.5, 1.5, 2.5], "b": [1, 2, 3], "price": [1.0, 2.0, 3.0], "ID": [7, 8, 9],
                           "Split": ["TRAIN", "val", "train"]})  # fmt: skip
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    partition, labels = pack_from(tmp_path / "a.parquet", tmp_path / "data", x=["a", "b"], y="price")
    assert partition == {"train": ["7", "9"], "validation": ["8"]}
    X, y = PackedDataset(partition["train"], labels, tmp_path / "data")[1]
    assert X.tolist() == [2.5, 3] and y.dtype == torch.float32 and y == 3


def test_several_fields_are_a_dict(tmp_path):
    numpy.savez(tmp_path / "a.npz", image=X, mask=X[:, 0])
    partition, labels = pack_from(tmp_path / "a.npz", tmp_path / "data", x=["image", "mask"])
    assert labels is None
    sample = PackedDataset(partition["train"], labels, tmp_path / "data")[0]
    assert {name: tuple(values.shape) for name, values in sample.items()} == {
        "image": (3, 8, 8),
        "mask": (8, 8),
    }


def test_names_of_classes_are_kept(tmp_path):
    path, how = datasets_folder(tmp_path)
    pack_from(path, tmp_path / "data", **how)
    assert json.loads((tmp_path / "data" / "classes.json").read_text()) == list("abcde")
    pack_samples(((str(i), X[i], "ab"[i % 2]) for i in range(6, 0, -1)), tmp_path / "named")
    assert json.loads((tmp_path / "named" / "classes.json").read_text()) == ["a", "b"]
    _, labels = load_notation(tmp_path / "named", suffix=None)
    assert dict(labels) == {str(i): i % 2 for i in range(1, 7)}


def test_the_order_of_the_IDs_does_not_matter(tmp_path):
    IDs = [f"{i * 7 % N}" for i in range(N)]
    partition, labels = pack_samples(zip(IDs, X, Y.tolist(), strict=True), tmp_path / "data")
    for i, ID in enumerate(IDs):
        assert labels[ID] == Y[i]
    assert "no such" not in labels and "" not in labels and 7 not in labels
    assert sorted(labels) == sorted(IDs)
    assert check(tmp_path / "data") == []
    some = partition["train"][3:9]
    assert some == list(partition["train"])[3:9] and some[-1] == partition["train"][8]
    as_list = PackedDataset(list(some), labels, tmp_path / "data")  # a list of one's own
    assert [y for _, y in as_list] == [labels[ID] for ID in some]


def test_the_partition_is_the_one_that_is_drawn_elsewhere():
    from feedgpu.order import hashed_seed, hashed_seeds
    from feedgpu.prepare import split

    labels = {f"{i}": int(y) for i, y in enumerate(numpy.random.default_rng(1).integers(0, 9, 200))}
    keys = numpy.array([hashed_seed(3, ID) for ID in labels])
    assert (hashed_seeds(3, [ID.encode() for ID in labels]) == keys).all()
    odd = ["it's", "plain {}/~", "ö\udce9", 'a"b', "\\"]
    for ID in odd:
        assert hashed_seeds(-7, [ID.encode("utf-8", "surrogateescape")]) == hashed_seed(-7, ID)
    chosen = drawn(numpy.array(list(labels.values())), keys)
    assert [ID for ID, one in zip(labels, chosen, strict=True) if one] == split(labels, 3)["validation"]


def test_the_partition_is_the_users_if_he_says_it(tmp_path):
    some = [(str(i), X[i], int(Y[i])) for i in range(6)]
    given = {"train": ["5", "0", "1"], "validation": ["2"], "rest": ["3", "4"]}
    partition, _ = pack_samples(some, tmp_path / "data", partition=given)
    assert {name: sorted(IDs) for name, IDs in partition.items()} == {
        "train": ["0", "1", "5"], "validation": ["2"], "rest": ["3", "4"],
    }  # fmt: skip
    for wrong, told in (
        ({"train": ["0", "9"], "validation": ["1"]}, "of partition 'train' not among the samples: '9'"),
        ({"train": ["0", "1"], "validation": ["1"]}, "in more than one partition, or twice in one: '1'"),
        ({"train": ["0"], "validation": ["1"]}, "4 IDs in no partition: '2', '3', '4', '5'"),
        ({"train": ["0"], "validation": []}, "partition 'validation' is empty"),
    ):
        with pytest.raises(DatasetError, match=told):
            pack_samples(some, tmp_path / "data", partition=wrong, force=True)
    assert len(load_notation(tmp_path / "data", None)[0]["rest"]) == 2  # as it was


SAMPLE = numpy.zeros(3, numpy.float32)
WRONG = [
    ([("a", SAMPLE, 0), ("a", SAMPLE, 1)], "1 ID more than once: 'a'"),
    ([("a", SAMPLE, 0), ("b", SAMPLE, "x")], "that of 'a' is 0, that of 'b' is of another type"),
    ([("a", SAMPLE, 0), ("b", SAMPLE, 1.5)], "labels must be of one kind.* 'b' is 1.5"),
    ([("a", SAMPLE, 0), ("b", SAMPLE)], "'b' is among those that have none"),
    ([("a", SAMPLE, float("nan")), ("b", SAMPLE, 1.0)], "target of 'a', nan, is infinite or not a number"),
    ([("a", SAMPLE, [1.0, 2.0]), ("b", SAMPLE, [1.0])], "labels must be of one kind"),
    ([("a", SAMPLE, -1), ("b", SAMPLE, 1)], "target of 'a', -1, is no class.*--target number"),
    ([("a", SAMPLE, 0), ("b", numpy.zeros((3, 3)), 1)], "'a' is float32 of shape 3, but 'b' is float64"),
    ([("../a", SAMPLE, 0)], "'../a' is no ID"),
    ([(7, SAMPLE, 0)], "'7' is no ID"),
    ([("a", {"i": SAMPLE, "m": SAMPLE}, 0), ("b", {"i": SAMPLE}, 1)], "must have the same fields"),
    ([("a", ["x"], 0)], "sample 'a' cannot be packed: it holds a list"),
    ([("a", numpy.array(["s"]), 0)], "sample 'a' cannot be packed"),
    ([SAMPLE], r"must come as \(ID, X, y\) or \(ID, X\), not as a ndarray"),
    ([], "there is no sample to pack"),
    ([("a", SAMPLE, 0)], "no sample for 'validation'"),
]  # fmt: skip


@pytest.mark.parametrize(("samples", "told"), WRONG, ids=[told[:30] for _, told in WRONG])
def test_wrong_samples_are_a_sentence_and_leave_nothing(samples, told, tmp_path):
    with pytest.raises(DatasetError, match=told):
        pack_samples(iter(samples), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def damaged(folder, name):
    "A source with a fault, what is asked of it, and what is to be said"
    import h5py
    import pyarrow
    import pyarrow.parquet

    if name == "an HDF5 whose arrays differ in length":
        with h5py.File(folder / "a.h5", "w") as file:
            file["images"], file["labels"] = X, Y[:50]
        return "a.h5", {}, "images has 60 rows, labels has 50 rows: a row of each is needed for every sample"
    if name == "an HDF5 that is cut short":
        hdf5(folder)
        (folder / "a.h5").write_bytes((folder / "a.h5").read_bytes()[:5000])
        return "a.h5", {"x": ["group/pixels"]}, "a.h5 cannot be read: .*truncated.*copy it again"
    if name == "an HDF5 that points elsewhere":
        (folder / "secret").write_bytes(bytes(1000))
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("x", (10, 10), "u1", external=[(str(folder / "secret"), 0, 1000)])
        return "a.h5", {}, "the values of x lie in another file"
    if name == "an HDF5 of many names":
        with h5py.File(folder / "a.h5", "w") as file:
            file["left"], file["right"] = X, X
        return "a.h5", {}, r"has left \(60×3×8×8 uint8\), right .*say which are the samples with --x NAME"
    if name == "a name that is not there":
        numpy.savez(folder / "a.npz", images=X)
        return "a.npz", {"x": ["image"]}, r"a.npz has no 'image'; it has images \(60×3×8×8 uint8\)"
    if name == "a .npz of objects":
        numpy.savez(folder / "a.npz", x=numpy.array([{}, {}]))
        return "a.npz", {}, "a.npz cannot be read: it holds Python objects, which could run code"
    if name == "a .npz with a wrong byte":
        numpy.savez(folder / "a.npz", x=X)
        data = bytearray((folder / "a.npz").read_bytes())
        data[5000] ^= 255
        (folder / "a.npz").write_bytes(data)
        return "a.npz", {}, "a.npz cannot be read: Bad CRC-32"
    if name in ("a tar that ends early", "a tar that ends between two files"):
        write_tar(folder / "a.tar", range(N))
        data = (folder / "a.tar").read_bytes()
        (folder / "a.tar").write_bytes(data[:20_100] if name.endswith("early") else data[: 512 * 40])
        said = (
            "unexpected end of data .*copy it again" if name.endswith("early") else "it ends early, after '00"
        )
        return "a.tar", {}, f"a.tar cannot be read: {said}"
    if name == "a tar in which a field is missing":
        write_tar(folder / "a.tar", range(3))
        with tarfile.open(folder / "a.tar", "a") as archive:
            archive.addfile(tarfile.TarInfo("0009.png"))
        return "a.tar", {}, "a.tar: sample '0009' has no 'cls', as others have"
    if name == "a tar with several kinds of sample":
        write_tar(folder / "a.tar", range(3), ("png", "npy", "cls"))
        return "a.tar", {}, "sample '0000' has png, npy, cls: say which are the samples with --x NAME"
    if name in ("a Parquet with a nested column", "a Parquet with a missing value", "a Parquet with text"):
        column = {"nested": [{"k": 1}, {"k": 2}], "missing": [1.0, None], "text": ["a", "b"]}[
            name.split()[-2 if "column" in name or "value" in name else -1]
        ]
        pyarrow.parquet.write_table(pyarrow.table({"x": column, "y": [0, 1]}), folder / "a.parquet")
        said = {
            "nested": "column x is of the type struct<k: int64>, which holds no numbers",
            "missing": "column x has no value in row 1",
            "text": "column x holds text: turn it into numbers first",
        }
        return "a.parquet", {}, next(value for key, value in said.items() if key in name)
    if name == "a Parquet that is cut short":
        parquet(folder)
        (folder / "a.parquet").write_bytes((folder / "a.parquet").read_bytes()[:3000])
        return "a.parquet", {}, "a.parquet cannot be read"
    if name == "a Parquet with another word for a partition":
        table = pyarrow.table({"x": [1.0, 2.0], "y": [0, 1], "split": ["train", "holdout"]})
        pyarrow.parquet.write_table(table, folder / "a.parquet")
        return "a.parquet", {}, "'holdout' in column split is no partition"
    if name == "an LMDB of a foreign layout":
        write_lmdb(folder / "a.lmdb", {"num-samples": b"1", "image-1": png(X[0]), "label-1": b"word"})
        return "a.lmdb", {}, "sample 'label-1'.* holds no image.*Keys are taken as <ID> or <ID>.<ending>"
    if name == "an empty LMDB":
        write_lmdb(folder / "a.lmdb", {})
        return "a.lmdb", {}, "has no entry"
    if name == "targets that are not finite":
        numpy.savez(folder / "a.npz", x=X, y=numpy.where(Y == 3, numpy.nan, 1.0))
        return "a.npz", {}, "the target of '03', nan, is infinite or not a number"
    if name == "a file of another kind":
        (folder / "a.txt").write_text("some words that are no array\n" * 30)
        return "a.txt", {}, r"a.txt is none of: \.npy, \.npz, HDF5"
    if name == "a folder of another kind":
        (folder / "images").mkdir()
        return "images", {}, "is none of: .*feedgpu prepare folder"
    assert name == "nothing"
    return "nothing", {}, "nothing cannot be read: there is no such file"


@pytest.mark.parametrize(
    "name",
    [
        "an HDF5 whose arrays differ in length", "an HDF5 that is cut short", "an HDF5 that points elsewhere",
        "an HDF5 of many names", "a name that is not there", "a .npz of objects", "a .npz with a wrong byte",
        "a tar that ends early", "a tar that ends between two files", "a tar in which a field is missing",
        "a tar with several kinds of sample", "a Parquet with a nested column",
        "a Parquet with a missing value", "a Parquet with text", "a Parquet that is cut short",
        "a Parquet with another word for a partition", "an LMDB of a foreign layout", "an empty LMDB",
        "targets that are not finite", "a file of another kind", "a folder of another kind", "nothing",
    ],
)  # fmt: skip
def test_a_damaged_source_is_a_sentence_and_leaves_nothing(name, tmp_path):
    path, how, told = damaged(tmp_path, name)
    with pytest.raises(DatasetError, match=told):
        pack_from(tmp_path / path, tmp_path / "data", **how)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("library", ["h5py", "safetensors", "pyarrow", "lmdb", "datasets"])
def test_a_missing_extra_is_a_sentence(library, tmp_path, monkeypatch, capsys):
    import sys

    source = {"h5py": hdf5, "safetensors": safetensors, "pyarrow": parquet, "lmdb": an_lmdb}
    path, _ = source.get(library, datasets_folder)(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["prepare", "from", str(path), "--data", str(tmp_path / "data")]) == 1
    assert (
        f"needs {library}, which is not installed: pip install 'feed-the-gpu[sources]'"
        in capsys.readouterr().err
    )


def test_the_command_says_what_it_took_for_what(tmp_path, capsys):
    path, how = hdf5(tmp_path)
    data = str(tmp_path / "data")
    assert main(["prepare", "from", str(path), "--x", *how["x"], "--y", how["y"], "--data", data]) == 0
    assert capsys.readouterr().out == (
        f"{path}: samples from group/pixels, targets from group/digit; not used: three.\n"
        f"{data}: 60 samples, all uint8 of shape 3×8×8, 192 bytes each: 50 for train and 10 for validation.\n"
        "5 classes: 0 12, 1 12, 2 12, 3 12, 4 12.\n"
    )
    assert main(["check", "--data", data]) == 0
    assert main(["prepare", "from", str(path), "--x", *how["x"], "--data", data]) == 1
    assert "holds a dataset: overwrite it with --force" in capsys.readouterr().err
    assert main(["pack", "--data", data]) == 1
    assert "is a pack already" in capsys.readouterr().err
    how = ["--x", *how["x"], "--target", "none", "--force"]
    assert main(["prepare", "from", str(path), *how, "--data", data]) == 0
    assert load_notation(data, suffix=None)[1] is None


def test_whole_numbers_can_be_numbers(tmp_path):
    path, how = a_npy(tmp_path)
    _, labels = pack_from(path, tmp_path / "data", target="number", **how)
    assert labels["07"] == 2.0 and isinstance(labels["07"], float)
    numpy.save(tmp_path / "y.npy", Y.astype(float))
    _, labels = pack_from(path, tmp_path / "data", target="class", force=True, **how)
    assert labels["07"] == 2 and isinstance(labels["07"], int)
    numpy.save(tmp_path / "y.npy", Y + 0.5)
    with pytest.raises(DatasetError, match="'00', 0.5, is no class"):
        pack_from(path, tmp_path / "data", target="class", force=True, **how)


def test_a_pack_alone_is_read_as_such(tmp_path):
    path, how = a_npy(tmp_path)
    data = tmp_path / "data"
    partition, labels = pack_from(path, data, **how)
    with pytest.raises(DatasetError, match="is a pack alone, .* read its IDs with load_notation"):
        load_notation(data)
    (data / "packed" / "partition.npy").unlink()
    with pytest.raises(DatasetError, match="partition.npy is missing"):
        load_notation(data, suffix=None)
    pack_from(path, data, force=True, **how)
    with pytest.raises(DatasetError, match="has changed while its dataset was in use"):
        PackedDataset(partition["train"], labels, data)
    numpy.save(data / "packed" / "partition.npy", numpy.zeros(N, numpy.uint8))
    with pytest.raises(DatasetError, match="is not what .*partition.json says"):
        load_notation(data, suffix=None)


def test_check_finds_what_a_stranger_put_into_a_pack(tmp_path):
    from feedgpu.prepare.writing import write_manifest

    values = numpy.array([[1, 2], [3, numpy.nan], [5, 6]], numpy.float32)
    pack_samples(
        ((ID, v, y) for ID, v, y in zip("abc", values, (0.5, 1.5, 2.5), strict=True)), tmp_path / "d"
    )
    folder = tmp_path / "d" / "packed"
    assert check(tmp_path / "d") == ["1 ID with values that are infinite or not a number: 'b'"]
    manifest = json.loads((folder / "manifest.json").read_text())
    IDs, y = numpy.array([b"../a", b"b", b"b"]), numpy.array([1, numpy.inf, 2], numpy.float32)
    write_manifest(folder, manifest, IDs, y)
    faults = check(tmp_path / "d")
    assert "1 ID absolute, leading out of the folder or too long: '../a'" in faults
    assert any("samples in" in fault and "have the ID of another one" in fault for fault in faults)
    assert "1 ID whose target is infinite or not a number: 'b'" in faults


@pytest.mark.parametrize("step", ["labels.json", "packed", "partition.json"])
def test_a_kill_leaves_the_old_dataset_or_the_new_one(step, tmp_path, monkeypatch):
    import feedgpu.prepare.commit as commit

    path, how = a_npy(tmp_path)
    data = tmp_path / "data"
    pack_samples(((f"old{i}", SAMPLE, i % 2) for i in range(4)), data)
    moved = os.replace

    def killed(source, target):
        if os.path.basename(target) == step and ".incoming" not in str(target):
            raise SystemExit  # as far as the disk can tell: nothing after this was done
        moved(source, target)

    monkeypatch.setattr(commit.os, "replace", killed)
    monkeypatch.setattr("feedgpu.prepare.layout.recover", lambda root: None)
    with pytest.raises(SystemExit):
        pack_from(path, data, force=True, **how)
    monkeypatch.undo()
    commit.recover(data)
    assert is_whole(data) and not (data / ".incoming").exists()


def test_a_dataset_of_files_takes_the_place_of_a_pack_and_the_other_way_round(tmp_path):
    from feedgpu.prepare import digits, write

    path, how = a_npy(tmp_path)
    data = tmp_path / "data"
    write(digits(), data)
    pack_from(path, data, force=True, **how)
    assert is_whole(data)
    assert not list(data.glob("*.pt"))
    write(digits(), data, force=True)
    assert not (data / "packed").exists() and check(data) == []


def test_pack_to_another_folder(tmp_path, capsys):
    from feedgpu.prepare import digits, write

    partition, labels = write(digits(), tmp_path / "input")
    data, to = str(tmp_path / "input"), str(tmp_path / "work")
    os.chmod(data, 0o555)
    try:
        assert main(["pack", "--data", data, "--to", to]) == 0
    finally:
        os.chmod(data, 0o755)
    assert not (tmp_path / "input" / "packed").exists()
    found, y = load_notation(to, suffix=None)
    assert found == partition and dict(y) == labels
    whole = PackedDataset(found["train"], y, to)
    ID = partition["train"][70]
    assert torch.equal(whole[70][0], torch.load(f"{data}/{ID}.pt", weights_only=True))
    assert main(["pack", "--data", data, "--to", to]) == 1
    assert "holds a dataset: overwrite it with --force" in capsys.readouterr().err
    assert main(["pack", "--data", data, "--to", f"{data}/inside"]) == 1


def test_several_packs_read_as_one(tmp_path):
    from torch.utils.data import ConcatDataset, DataLoader

    parts = []
    for number, rows in enumerate((range(0, 25), range(25, 60))):
        samples = [(str(i), {"i": X[i], "v": X[i, 0, 0]}, int(Y[i])) for i in rows]
        partition, labels = pack_samples(samples, tmp_path / str(number))
        parts.append(PackedDataset(partition["train"], labels, tmp_path / str(number)))
    both, plain = ConcatPacked(parts), ConcatDataset(parts)
    for one, other in zip(
        DataLoader(both, 16, shuffle=True, generator=torch.Generator().manual_seed(0)),
        DataLoader(plain, 16, shuffle=True, generator=torch.Generator().manual_seed(0)),
        strict=True,
    ):
        assert torch.equal(one[0]["i"], other[0]["i"]) and torch.equal(one[0]["v"], other[0]["v"])
        assert torch.equal(one[1], other[1])
    last = both.__getitems__([-1, 0])
    assert torch.equal(last[0][0]["i"], plain[-1][0]["i"])
    with pytest.raises(IndexError, match="index 99 is out of bounds"):
        both.__getitems__([0, 99])
    partition, labels = pack_samples(((str(i), X[i], 0.5) for i in range(9)), tmp_path / "other")
    with pytest.raises(DatasetError, match="different kinds of samples or targets"):
        ConcatPacked([parts[0], PackedDataset(partition["train"], labels, tmp_path / "other")])


def test_several_packs_of_unequal_samples(tmp_path):
    parts = []
    for number in range(2):
        samples = [(str(i), numpy.zeros((i + number + 1, 2)), i % 2) for i in range(10)]
        partition, labels = pack_samples(samples, tmp_path / str(number))
        parts.append(PackedDataset(partition["train"], labels, tmp_path / str(number)))
    both = ConcatPacked(parts)
    assert both.lengths.tolist() == [len(both[i][0]) for i in range(len(both))]
    batch = both.__getitems__([9, 0])
    assert [len(X) for X, y in batch] == [len(both[9][0]), len(both[0][0])]
