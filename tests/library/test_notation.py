"""feedgpu/notation.py: IDs and files, what is wrong with a dataset, and whose fault an error is."""

import builtins
import errno
import json
import os
import pickle
import struct
import traceback
import wave
import zipfile
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from feedgpu import DatasetError, load_notation, read_sample
from feedgpu.notation import (
    Edition,
    Shortage,
    file_of,
    find_faults,
    reading,
    refuse_unlike,
    sentence,
)
from feedgpu.sample import dense

# IDs and their files

OUTSIDE = [
    *("../id", "/id", "a/../../id", "a/..", "..", "", "C:id", "C:\\id", "\\id", "..\\id", "a\0b"),
    *(3, None),
]


@pytest.mark.parametrize("ID", OUTSIDE)
def test_an_ID_never_leads_out_of_the_folder(ID):
    with pytest.raises(DatasetError, match="is no ID"):
        file_of(ID)


@pytest.mark.parametrize("ID", ["a/b", "a..b", "..a", "a.b.c", "a b", "ä/ß", "a/...", "id-1"])
def test_other_IDs_name_a_file_in_the_folder(ID):
    assert file_of(ID, "data") == Path(f"data/{ID}.pt")


# One tensor in a file


def test_a_tensor_is_read_as_it_was_saved(tmp_path):
    for X in (torch.arange(6).view(2, 3), torch.tensor(True), torch.zeros(0, 3, dtype=torch.bfloat16)):
        torch.save(X, tmp_path / "a.pt")
        Y = read_sample(tmp_path / "a.pt")
        assert torch.equal(X, Y) and X.dtype == Y.dtype


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_of_any_protocol_is_refused_without_a_warning(tmp_path, protocol):
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"X": [1]}, protocol))
    with pytest.raises(ValueError, match="not written by torch.save|it holds a dict"):
        read_sample(tmp_path / "a.pt")


def test_a_compressed_file_is_refused(tmp_path):
    "A small one could hold more than the memory; torch.save compresses nothing, and torch.load reads it"
    torch.save(torch.zeros(10_000), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as plain, zipfile.ZipFile(tmp_path / "b.pt", "w", 8) as small:
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match="^it holds 40,000 bytes in a file of [0-9,]+: save it uncompressed"):
        read_sample(tmp_path / "b.pt")
    torch.save(torch.zeros(10_000)[:3], tmp_path / "a.pt")  # a view, with all that it is a view of
    assert read_sample(tmp_path / "a.pt").shape == (3,)


def test_a_file_that_cannot_be_opened_is_an_OSError(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_sample(tmp_path / "a.pt")
    with pytest.raises(ValueError, match="^it is a folder$"):
        read_sample(tmp_path)


# Whose fault an error is


def read_and_raise(error):
    with reading("id-1", Path("data/id-1.x")):
        raise error


MISTAKES = [
    *(NameError("name 'numpi' is not defined"), TypeError("no"), AttributeError("no"), ImportError("no")),
    *(ModuleNotFoundError("no"), KeyError("a"), IndexError("no"), RuntimeError("mine")),
    *(AssertionError("no"), ZeroDivisionError("no"), NotImplementedError(), StopIteration()),
    SyntaxError("invalid syntax", ("load.py", 1, 1, "a b", 1, 2)),
]


@pytest.mark.parametrize("error", MISTAKES, ids=lambda error: type(error).__name__)
def test_a_mistake_keeps_its_type_and_its_traceback_and_is_told_its_sample(error):
    with pytest.raises(type(error)) as caught:
        read_and_raise(error)
    assert caught.value is error
    assert error.__notes__ == [f"while sample 'id-1' was read from {Path('data/id-1.x')}"]
    assert "read_and_raise" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_a_mistake_that_python_finds_itself():
    with pytest.raises(SyntaxError) as caught, reading("a", Path("a")):
        compile("a b", "load.py", "exec")
    assert caught.value.filename == "load.py"


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "memory: "),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            "memory: ",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory: "),
        (OSError(errno.EMFILE, "Too many open files"), "open files: raise the limit (ulimit -n)"),
        (
            RuntimeError("unable to write to file </torch_12_34_0>: No space left on device"),
            "shared memory: ",
        ),
    ],
    ids=["MemoryError", "torch", "ENOMEM", "EMFILE", "shm"],
)
def test_what_is_wanting_is_not_blamed_on_the_file(error, what):
    with pytest.raises(Shortage) as caught:
        read_and_raise(error)
    assert str(caught.value).startswith(
        f"sample 'id-1': {Path('data/id-1.x')} could not be read for want of {what}"
    )


DAMAGE = [
    *(OSError("torn"), FileNotFoundError(2, "no"), EOFError("torn"), ValueError("torn"), zlib.error("torn")),
    *(
        wave.Error("torn"),
        struct.error("torn"),
        pickle.UnpicklingError("torn"),
        json.JSONDecodeError("", "", 0),
    ),
    *(Image.DecompressionBombError("torn"), SyntaxError("broken PNG file"), DatasetError("torn")),
]


@pytest.mark.parametrize("error", DAMAGE, ids=lambda error: type(error).__name__)
def test_what_tells_of_a_file_is_a_sentence_with_ID_and_file(error):
    with pytest.raises(DatasetError) as caught:
        read_and_raise(error)
    assert caught.value.__cause__ is error
    assert str(caught.value).startswith(f"sample 'id-1': {Path('data/id-1.x')} cannot be read: ")
    assert "\n" not in str(caught.value)


def test_a_ctrl_c_while_reading_is_left_alone():
    with pytest.raises(KeyboardInterrupt) as caught:
        read_and_raise(KeyboardInterrupt())
    assert not hasattr(caught.value, "__notes__")


def damaged(kind, file):
    "Writes a file of this kind that is damaged, and returns a function that reads it"
    if kind == "zlib":
        file.write_bytes(zlib.compress(bytes(99))[:-9] + b"x" * 9)
        return lambda: zlib.decompress(file.read_bytes())
    if kind == "wave":
        file.write_bytes(b"RIFF\4\0\0\0WAVX")
        return lambda: wave.open(str(file)).close()
    if kind == "png":
        Image.fromarray(numpy.zeros((9, 9, 3), numpy.uint8)).save(file, "PNG")
        file.write_bytes(file.read_bytes().replace(b"IDAT", b"I\0AT"))
        return lambda: Image.open(file).load()
    file.write_bytes(b"\x93NUMPY\1\0")
    return lambda: numpy.load(file)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", ["zlib", "wave", "png", "npy"])
def test_damage_that_a_librarys_decoder_finds(tmp_path, kind):
    read = damaged(kind, tmp_path / "a")
    with pytest.raises(DatasetError, match="^sample 'a': .* cannot be read: "), reading("a", tmp_path / "a"):
        read()


def test_a_workers_traceback_is_cut_off_a_sentence():
    assert str(
        DatasetError("Caught DatasetError in worker\n  File x\nfeedgpu.DatasetError: a sentence\n")
    ) == ("a sentence")


def test_samples_of_one_batch_must_be_alike():
    alike = [(torch.zeros(2), 0), (torch.ones(2), 1)]
    refuse_unlike(alike, ["a", "b"])
    refuse_unlike([("no tensor", 0), ("nor this", 1.5)], ["a", "b"])
    with pytest.raises(DatasetError, match=r"'a' is float32 of shape 2, but 'c' is float32 of shape \(\)"):
        refuse_unlike([*alike, (torch.tensor(0.0), 0)], ["a", "b", "c"])
    with pytest.raises(DatasetError, match="'z' is int64 of shape 2, but 'a' is float32 of shape 2"):
        refuse_unlike(alike, ["a", "b"], ("z", (torch.zeros(2, dtype=torch.int64), 0)))
    masked = [({"image": torch.zeros(2), "mask": torch.zeros(3)}, 0), ({"image": torch.zeros(2)}, 0)]
    with pytest.raises(DatasetError, match="'a' is image: .*, mask: .* of shape 3, but 'b' is float32"):
        refuse_unlike(masked, ["a", "b"])


# The notation and its quick check


def test_a_sound_dataset_has_no_faults(dataset):
    root, partition, labels = dataset()
    assert load_notation(root) == (partition, labels)
    assert find_faults(partition, labels, root) == []


def set_partition(root, partition):
    (root / "partition.json").write_text(json.dumps(partition))


NOTATION_FAULTS = {
    "no partition": (
        lambda root: (root / "partition.json").unlink(),
        "there is no dataset in .*no partition.json",
    ),
    "no labels": (
        lambda root: (root / "labels.json").unlink(),
        "labels.json cannot be read: there is no such file",
    ),
    "no JSON": (lambda root: (root / "labels.json").write_text("{"), "labels.json cannot be read: "),
    "no text": (
        lambda root: (root / "labels.json").write_bytes(b"\xff\xfe\xff"),
        "labels.json cannot be read: ",
    ),
    "a list": (lambda root: (root / "labels.json").write_text("[1]"), "labels.json holds a list"),
    "no validation": (
        lambda root: set_partition(root, {"train": []}),
        "needs a list of IDs under 'validation'",
    ),
    "no list": (
        lambda root: set_partition(root, {"train": "id-1", "validation": []}),
        "needs a list of IDs under 'train'",
    ),
    "no samples": (
        lambda root: [file.unlink() for file in root.glob("*.pt")],
        "16 IDs without a file .*<ID>.pt",
    ),
}


@pytest.mark.parametrize("fault", NOTATION_FAULTS)
def test_a_faulty_notation_is_one_sentence(dataset, fault):
    root, _, _ = dataset()
    spoil, words = NOTATION_FAULTS[fault]
    spoil(root)
    with pytest.raises(DatasetError, match=words) as caught:
        load_notation(root)
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)


def test_every_fault_of_a_dataset_is_found(dataset):
    root, partition, labels = dataset()
    partition["train"] += ["../x", "/y", 3, ["l"], "id-1", "gone", "a/gone", "id-13"]
    partition["test"] = []
    labels |= {"id-2": -1, "id-3": True, "id-4": 1.0, "id-5": "1", "gone": 0}
    del labels["id-6"]
    assert dict(find_faults(partition, labels, root)) == {
        "partition 'test' is empty": [],
        "of another type than a string": [3, ["l"]],
        "absolute, leading out of the folder or too long": ["../x", "/y"],
        "more than once in one partition": ["id-1"],
        "in more than one partition": ["id-13"],
        "without a label": ["id-6", "a/gone"],
        "with a label that is not an integer of at least 0": ["id-2", "id-3", "id-4", "id-5"],
        f"without a file {root / '<ID>.pt'}": ["gone", "a/gone"],
    }


def test_a_fault_names_five_IDs_and_how_many():
    assert sentence("without a label", ["a"]) == "1 ID without a label: 'a'"
    assert sentence("x", list("abcdef")) == "6 IDs x: 'a', 'b', 'c', 'd', 'e' and 1 more"
    assert sentence("partition 'train' is empty", []) == "partition 'train' is empty"


def test_the_quick_check_lists_each_folder_once_and_opens_nothing(tmp_path, monkeypatch):
    IDs = [f"folder-{i % 10}/id-{i}" for i in range(5000)]
    for i in range(10):
        (tmp_path / f"folder-{i}").mkdir()
    for ID in IDs:
        (tmp_path / f"{ID}.pt").touch()
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or listdir(folder))
    monkeypatch.setattr(builtins, "open", None)
    monkeypatch.setattr(os, "stat", None)
    assert find_faults({"train": IDs[1:], "validation": IDs[:1]}, dict.fromkeys(IDs, 0), tmp_path) == []
    assert len(listed) == 10


# A sample is a dense tensor of its own


KINDS = {
    "a gradient": torch.rand(3, requires_grad=True),
    "a parameter": torch.nn.Parameter(torch.rand(3)),
    "conjugated": torch.rand(3, dtype=torch.complex64).conj(),
    "negated": torch.rand(3, dtype=torch.complex64).conj().imag,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_comes_as_a_batch_can_hold_it(tmp_path, kind):
    torch.save(KINDS[kind], tmp_path / "a.pt")
    X = read_sample(tmp_path / "a.pt")
    assert type(X) is torch.Tensor and not (X.requires_grad or X.is_conj() or X.is_neg())
    assert torch.equal(X, KINDS[kind].detach().resolve_conj().resolve_neg())


REFUSED = {
    "sparse": torch.eye(3).to_sparse(),
    "meta": torch.empty(3, device="meta"),
    "quantized": torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8),
    "nested": torch.nested.nested_tensor([torch.rand(2), torch.rand(3)]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_such_form_is_refused_by_its_kind(kind):
    with pytest.raises(
        ValueError, match=f"^it holds a {kind} tensor, which a batch cannot: save a dense one$"
    ):
        dense(REFUSED[kind])


@pytest.mark.parametrize("size", [(40_000_000_000,), (2**31, 2**31)])
def test_a_tensor_that_shows_more_than_its_file_holds_is_refused(tmp_path, size):
    torch.save(torch.zeros(1).expand(size), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="bytes, its storage has 4: save X.contiguous"):
        read_sample(tmp_path / "a.pt")


# One dataset for as long as somebody reads it


def test_another_dataset_in_the_folder_is_noticed(dataset, tmp_path):
    root, partition, labels = dataset()
    edition = Edition(root)
    with reading("id-1", root / "id-1.pt", edition):
        pass
    (root / "partition.json").write_text((root / "partition.json").read_text() + " ")
    for error in (None, FileNotFoundError(2, "gone")):
        with pytest.raises(DatasetError, match="partition.json has changed while its dataset was in use"):
            with reading("id-1", root / "id-1.pt", edition):
                if error:
                    raise error


def test_of_a_folder_without_a_list_nothing_is_known(tmp_path):
    edition = Edition(tmp_path)
    (tmp_path / "partition.json").write_text("{}")
    edition.refuse_another()


# Messages


def test_what_a_worker_raised_is_told_by_its_sentence_alone():
    told = (
        "Caught DatasetError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        "  File 'x'\nfeedgpu.notation.DatasetError: sample 'a DatasetError: b' is torn"
    )
    assert str(DatasetError(told)) == "sample 'a DatasetError: b' is torn"
    assert str(DatasetError("sample 'a DatasetError: b' is torn")) == "sample 'a DatasetError: b' is torn"


def test_a_name_cannot_colour_a_terminal():
    assert str(DatasetError("folder\x1b[31m/\udcff is torn\nand so on")) == (
        "folder\\x1b[31m/\\udcff is torn\nand so on"
    )


@pytest.mark.parametrize("ID", ["x" * 1001, "a/" * 60 + "b"], ids=["long", "deep"])
def test_an_ID_has_an_end(ID):
    with pytest.raises(DatasetError, match="is no ID: .*of at most 1,000 letters"):
        file_of(ID)
