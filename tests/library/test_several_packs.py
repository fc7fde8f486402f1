"""feedgpu/several_packs.py and side_by_side.py: several packs are read as if they were one."""

import os
import pickle
from math import gcd

import numpy
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from feedgpu import ConcatPacked, DatasetError, PackedDataset, PrefetchLoader, field
from feedgpu.prepare import pack_samples
from feedgpu.side_by_side import Rows, joined, next_place

SIZES = 5, 1, 30


def tensors(number, shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(number)
    return (torch.rand(number, *shape, generator=generator) * 200).to(dtype)


SAMPLES = {
    "rows": lambda size: tensors(size, (1, 28, 28)),
    "odd rows": lambda size: tensors(size, (3, 7), torch.uint8),
    "a type that NumPy lacks": lambda size: tensors(size, (5,), torch.bfloat16),
    "one number": lambda size: tensors(size, ()),
    "large rows": lambda size: tensors(size, (3, 211, 201), torch.uint8),
    "tuples": lambda size: list(zip(tensors(size, (3,)), tensors(size, (2, 2), torch.uint8), strict=True)),
    "dicts": lambda size: [{"a": one, "b": one[:2] + 1} for one in tensors(size, (3,))],
}


@pytest.fixture(params=["mapped side by side", "put together"])
def way(request, monkeypatch):
    "Also where the system cannot map a file to a given place"
    if request.param == "put together":

        def refuses(parts):
            raise OSError("not here")

        monkeypatch.setattr(field, "joined", refuses)
    elif os.name == "nt":
        pytest.skip("this system cannot do it")
    return request.param


def packs(root, samples, targets=True):
    found, number = [], 0
    for size in SIZES:
        here = samples(size)
        rows = [(f"id-{number + i}", X, *[number + i] * targets) for i, X in enumerate(here)]
        partition, labels = pack_samples(
            {"train": rows, "validation": [("v", *rows[0][1:])]}, root / str(size)
        )
        found.append(PackedDataset(partition["train"], labels, root / str(size)))
        number += size
    return found


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("targets", [True, False])
def test_several_are_read_as_one(tmp_path, way, samples, targets):
    parts = packs(tmp_path, SAMPLES[samples], targets)
    both, plain = ConcatPacked(parts), ConcatDataset(parts)
    how = {"batch_size": 7, "sampler": torch.randperm(36).tolist()}
    expected = [str(batch) for batch in DataLoader(plain, **how)]
    for loader in (
        DataLoader(both, **how),
        PrefetchLoader(both, **how),
        DataLoader(both, num_workers=1, **how),
    ):
        assert [str(batch) for batch in loader] == expected
    again = pickle.loads(pickle.dumps(both))
    assert str(again[[-1, 0, 8]]) == str(both[[35, 0, 8]])
    assert bool(both._joined.fields) == (way == "mapped side by side")
    for wrong in ([36], [0, -37]):
        with pytest.raises(IndexError, match=f"index {wrong[-1]} is out of bounds for 36 samples"):
            both.__getitems__(wrong)


def test_the_disk_is_asked_for_the_rows_of_each_file(tmp_path, monkeypatch):
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system takes no advice")
    both = ConcatPacked(packs(tmp_path, SAMPLES["rows"]))
    both.__getitems__([0])
    (one,) = both._joined.fields
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *how: asked.append(how[:3]))
    one.waited = True
    both.__getitems__([4, 5, 35])
    size = 28 * 28 * 4
    assert [
        (file, begin - part.start, length)
        for (file, begin, length), part in zip(asked, one.parts, strict=True)
    ] == [(part.file, row * size, size) for part, row in zip(one.parts, (4, 0, 29), strict=True)]


@pytest.mark.parametrize("stride", [1, 7, 21, 256, 3136, 4096, 150528, 1000003])
@pytest.mark.parametrize("shift", [0, 64, -64])
def test_the_next_place_is_the_first_one_that_fits(stride, shift):
    for end in (1, 4096, 5000, 123_456):
        if shift % gcd(4096, stride):
            with pytest.raises(OSError, match="cannot lie in one array"):
                next_place(end, shift, stride, 4096)
            continue
        place = next_place(end, shift, stride, 4096)
        assert place >= end and place % 4096 == 0 and (place + shift) % stride == 0
        step = 4096 * stride // gcd(4096, stride)
        assert place - step < end


def test_files_whose_headers_differ_lie_side_by_side(tmp_path):
    arrays = [numpy.arange(15 * i * i, dtype=numpy.int32).reshape(i * i, 15) for i in (1, 5, 20)]
    parts = []
    for i, array in enumerate(arrays):
        (tmp_path / str(i)).write_bytes(bytes(60 * i) + array.tobytes())
        with open(tmp_path / str(i), "rb") as file:
            mapped = numpy.memmap(file, numpy.int32, "r", 60 * i, array.shape)
            parts.append(Rows(os.dup(file.fileno()), 60 * i, numpy.asarray(mapped)))
    values, firsts = joined(parts)
    for part in parts:
        os.close(part.file)
    for first, array in zip(firsts, arrays, strict=True):
        assert numpy.array_equal(values[first : first + len(array)], array)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_a_pack_that_was_replaced_is_refused(tmp_path):
    both = ConcatPacked(packs(tmp_path, SAMPLES["rows"]))
    travelled = pickle.dumps(both)
    rows = [("id-0", torch.zeros(1, 28, 28), 0)]
    pack_samples({"train": rows, "validation": rows[:0] + [("v", *rows[0][1:])]}, tmp_path / "5", force=True)
    with pytest.raises(DatasetError, match="packed anew"):
        pickle.loads(travelled)[[0, 1]]
