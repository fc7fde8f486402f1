"""What a sample and a target may be.

A sample is a tensor, or a tuple or dict of tensors, its fields. A target is a class (an integer from 0 up), a
number, a list of numbers, or nothing: a dataset whose `labels` are None has samples without targets.
"""

import io
import os
import re
from collections.abc import Iterator
from math import prod
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch

from .outside import opened, wanting

SMALL = 2**24  # bytes of a file that is read at once: torch.load reads many pieces, which takes longer
PICKLE = re.compile(rb"\x80[^\x02]", re.DOTALL)  # how one begins that torch.save never writes
NO_SAMPLE = "it is empty, cut short or not written by torch.save"


def read_sample(file: Path) -> Any:
    """The sample that torch.save wrote to `file`: a tensor, or a tuple or dict of tensors, on the CPU.

    Code that the file asks for is refused. Raises OSError if the file cannot be opened, ValueError in plain
    words if it holds anything else.
    """
    with opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        return sample_of(stream.read() if size < SMALL else stream, size)


def sample_of(source: bytes | BinaryIO, size: int | None = None) -> Any:
    "`read_sample`, of a file's bytes, or of a stream with `size` bytes"
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    size = len(source) if isinstance(source, bytes) else size or 0
    if PICKLE.match(stream.read(2)):
        raise ValueError(NO_SAMPLE)
    stream.seek(0)
    try:
        X = torch.load(stream, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch.load raises a dozen kinds, each of which means a wrong file
        if wanting(error):
            raise
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ValueError(f"it asks to run {asked[1]}, which is refused: save plain tensors") from error
        raise ValueError(NO_SAMPLE) from error
    refuse_other(X)
    X = with_fields(X, [dense(one) for one in fields(X).values()])
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in fields(X).values()}
    if (held := sum(storage.nbytes() for storage in storages.values())) > size:
        raise ValueError(
            f"it holds {held:,} bytes in a file of {size:,}: save it uncompressed, with torch.save"
        )
    return X


def refuse_other(X: Any) -> None:
    "Raises ValueError for what is no sample"
    kind = type(X)
    if isinstance(X, torch.Tensor):
        return
    if kind not in (tuple, dict):
        raise ValueError(f"it holds a {kind.__name__}, not a tensor, nor a tuple or dict of tensors")
    if not X:
        raise ValueError(f"it holds a {kind.__name__} without a tensor")
    for name, one in X.items() if kind is dict else enumerate(X):
        if kind is dict and (not isinstance(name, str) or not name):
            raise ValueError(f"it holds a dict with the key {name!r}: the name of a field is a string")
        if not isinstance(one, torch.Tensor):
            found = f"a {kind.__name__} whose {name!r} is of type {type(one).__name__}"
            raise ValueError(f"it holds {found}, not a tensor")


def fields(X: Any) -> dict[str | int | None, torch.Tensor]:
    "The tensors of a sample by name: the key in a dict, the place in a tuple, None for a tensor alone"
    if isinstance(X, dict):
        return X
    return dict(enumerate(X)) if isinstance(X, tuple) else {None: X}


def with_fields(like: Any, values: list[Any]) -> Any:
    "A sample with the form of `like`, whose fields are these"
    if isinstance(like, dict):
        return dict(zip(like, values, strict=True))
    return tuple(values) if isinstance(like, tuple) else values[0]


def dense(X: torch.Tensor) -> torch.Tensor:
    """The tensor as a batch can hold it, with the same values: without a gradient, not conjugated.

    Raises ValueError for what has no such form: sparse, quantized, nested, without values, or one that shows
    more bytes than it holds.
    """
    kinds = {
        "nested": X.is_nested,
        "sparse": X.layout is not torch.strided,
        "quantized": X.is_quantized,
        "meta": X.is_meta,
    }
    if any(kinds.values()):
        kind = next(name for name, is_it in kinds.items() if is_it)
        raise ValueError(f"it holds a {kind} tensor, which a batch cannot: save a dense one")
    X = X.detach().resolve_conj().resolve_neg().as_subclass(torch.Tensor)
    shown = prod(X.shape) * X.itemsize  # X.nbytes may be more than it can count
    if shown > (held := X.untyped_storage().nbytes()):
        raise ValueError(f"its shape takes {shown:,} bytes, its storage has {held:,}: save X.contiguous()")
    return X


def has_numpy(X: torch.Tensor) -> bool:
    "Whether NumPy can have it: not with a gradient, on a GPU, or of a dtype that NumPy lacks"
    try:
        X.numpy()
    except (TypeError, RuntimeError):
        return False
    return True


def stored_as(dtype: torch.dtype) -> torch.dtype:
    "As what its values are stored: as they are, or as integers of the same bits if numpy lacks the type"
    try:
        torch.empty(0, dtype=dtype).numpy()
    except TypeError:
        return {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    return dtype


def tensors_in(sample: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    "Each tensor of what a dataset returned, in tuples, lists and dicts, with its place in it: '0.mask'"
    if isinstance(sample, torch.Tensor):
        yield path, sample
    elif isinstance(sample, (tuple, list)):
        for place, one in enumerate(sample):
            yield from tensors_in(one, f"{path}.{place}")
    elif isinstance(sample, dict):
        for name, one in sample.items():
            yield from tensors_in(one, f"{path}.{name}")


def form(sample: Any) -> list[tuple[str, torch.dtype, torch.Size]]:
    "What samples of one batch must have in common: place, dtype and shape of each tensor"
    return [(path, one.dtype, one.shape) for path, one in tensors_in(sample)]


def describe(sample: Any) -> str:
    "Its tensors in words: 'uint8 of shape 3×224×224', or 'image: uint8 of shape 3×8×8, mask: …'"
    found = list(tensors_in(sample))
    if len(found) == 1:
        return of_one(found[0][1])
    if isinstance(sample, tuple) and len(sample) == 2 and not isinstance(sample[0], torch.Tensor):
        found = [(path.removeprefix(".0"), one) for path, one in found]  # (X, y): the fields of X by name
    return ", ".join(f"{path[1:]}: {of_one(one)}" for path, one in found) or f"a {type(sample).__name__}"


def of_one(X: torch.Tensor) -> str:
    "'uint8 of shape 3×224×224'"
    return f"{str(X.dtype).removeprefix('torch.')} of shape {'×'.join(map(str, X.shape)) or '()'}"


def target(y: Any) -> Any:
    "As a sample carries it: a number or a list of numbers as float32, all else as it is"
    if isinstance(y, (float, numpy.floating)) and not isinstance(y, numpy.longdouble):
        return torch.tensor(float(y), dtype=torch.float32)
    if isinstance(y, (list, tuple)) and y and all(isinstance(one, Real) for one in y):
        return torch.tensor(y, dtype=torch.float32)
    return y


def kind_of(y: object) -> str | None:
    "Of a target in labels.json: class, number or list; None for what is none of them"
    if is_class(y):
        return "class"
    if isinstance(y, float):
        return "number"
    numbers = isinstance(y, list) and bool(y) and all(type(one) in (int, float) for one in y)
    return "list" if numbers else None


def is_class(y: object) -> bool:
    "Whether a label is a class: an integer from 0 up"
    return isinstance(y, int) and not isinstance(y, bool) and y >= 0
