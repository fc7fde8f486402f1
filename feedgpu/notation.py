"""The notation of the article on disk: IDs, files, `partition` and `labels`, and what is wrong with them."""

import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch

from .outside import opened, read_json, reason, visible, wanting


class DatasetError(Exception):
    """What is wrong with a dataset: one sentence that names the ID and the file.

    A DataLoader raises a worker's error again with the worker's whole traceback as its message. Only the
    sentence at its end is kept, so that the words are the same whatever the number of workers.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught ") and (begins := [*RAISED.finditer(message)]):
            message = message[begins[-1].end() :]
        super().__init__(visible(message.strip()))


class Shortage(DatasetError):
    "Memory, open files or the like were wanting: nothing is wrong with the dataset"


RAISED = re.compile(r"^feedgpu\.[\w.]+: ", re.MULTILINE)  # how a traceback names one of our errors

# Of the folder, on any system; or it is too long or too deep to be meant
LEADS_OUT = re.compile(r"^$|^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\0|(?s:.{1000})|(?:[^/\\]*[/\\]){50}")


def file_of(ID: str, root: str | Path = "data", suffix: str = ".pt") -> Path:
    """The file of a sample, `root/<ID>suffix`. Raises DatasetError for an ID that leads out of `root`."""
    if not isinstance(ID, str) or LEADS_OUT.search(ID):
        shown = repr(ID) if len(str(ID)) < 100 else f"{str(ID)[:60]!r}…"
        raise DatasetError(
            f"{shown} is no ID: an ID is a string that names a file inside {root}, without .. and of at most "
            "1,000 letters"
        )
    return Path(root) / (ID + suffix)


def read_tensor(file: Path) -> torch.Tensor:
    """The tensor that torch.save wrote to `file`, on the CPU. Code that the file asks for is refused.

    Raises OSError if the file cannot be opened, ValueError in plain words if it holds anything else.
    """
    with opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        source = io.BytesIO(stream.read()) if size < SMALL else stream
        if PICKLE.match(source.read(2)):
            raise ValueError(NO_TENSOR)
        source.seek(0)
        try:
            X = torch.load(source, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # torch.load raises a dozen kinds, each of which means a wrong file
            if wanting(error):
                raise
            if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
                raise ValueError(
                    f"it asks to run {asked[1]}, which is refused: save a plain tensor"
                ) from error
            raise ValueError(NO_TENSOR) from error
    if not isinstance(X, torch.Tensor):
        raise ValueError(f"it holds a {type(X).__name__}, not a tensor")
    X = dense(X)
    if (held := X.untyped_storage().nbytes()) > size:
        raise ValueError(
            f"it holds {held:,} bytes in a file of {size:,}: save it uncompressed, with torch.save"
        )
    return X


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


SMALL = 2**24  # bytes of a file that is read at once: torch.load reads many pieces, which takes longer
PICKLE = re.compile(rb"\x80[^\x02]", re.DOTALL)  # how one begins that torch.save never writes
NO_TENSOR = "it is empty, cut short or not written by torch.save"


class Edition:
    """Which dataset lies in a folder, as its partition.json tells: another one may come in its place.

    `feedgpu prepare` moves partition.json away before it changes a sample. So what was read before the file
    was seen to be the same belongs to the same dataset. Of a folder without it nothing is known.

    `labels`: if load_notation read them from that folder, the dataset is the one that was there then.
    """

    def __init__(self, root: str | Path, labels: object = None) -> None:
        self.file = Path(root) / "partition.json"
        read = getattr(labels, "edition", None)
        self.found = read.found if read and read.file == self.file else self.look()

    def look(self) -> tuple[int, ...] | None:
        try:
            now = os.stat(self.file)
        except (OSError, ValueError):
            return None
        return now.st_ino, now.st_size, now.st_mtime_ns

    def refuse_another(self) -> None:
        "Raises DatasetError if the dataset is no longer the one that was there first"
        if self.found is not None and self.look() != self.found:
            raise DatasetError(
                f"{self.file} has changed while its dataset was in use: begin again, with the partition and "
                "labels that are there now"
            )


class Labels(dict[str, Any]):
    "{ID: label}, as they were read from a folder; which dataset lay there goes with them"

    edition: Edition | None = None


@contextmanager
def reading(ID: str, file: Path, edition: Edition | None = None) -> Iterator[None]:
    """Turns an error that tells of a damaged or missing file into a DatasetError that names ID and file.

    A mistake in the code that reads keeps its type and its traceback; a note says which sample was read. Want
    of memory, or of open files, becomes a Shortage. `edition`: of the dataset that the sample must belong to.
    """
    try:
        yield
    except Exception as error:
        if edition:
            edition.refuse_another()
        if what := wanting(error):
            raise Shortage(f"sample {ID!r}: {file} could not be read for want of {what}") from error
        if tells_of_a_file(error):
            raise DatasetError(f"sample {ID!r}: {file} cannot be read: {reason(error)}") from error
        error.add_note(f"while sample {ID!r} was read from {file}")
        raise
    else:
        if edition:
            edition.refuse_another()


def tells_of_a_file(error: Exception) -> bool:
    """Whether an error says that a file is missing, damaged or of another kind, and not that code is wrong.

    These are OSError, EOFError, ValueError, and what a decoder's library defines for itself (zlib.error,
    wave.Error). Pillow raises SyntaxError for a damaged PNG; Python's own names the line.
    """
    if isinstance(error, SyntaxError):
        return error.filename is None
    if isinstance(error, (OSError, EOFError, ValueError)):
        return True
    mistakes = NameError, TypeError, AttributeError, ImportError, LookupError, RuntimeError, MemoryError
    return type(error).__module__ != "builtins" and not isinstance(error, mistakes)


def refuse_unlike(
    samples: list[tuple[Any, Any]], IDs: Sequence[str], like: tuple[str, torch.Tensor] | None = None
) -> None:
    """Raises DatasetError for samples `(X, y)` of one batch that cannot be stacked.

    `IDs`: theirs. `like`: (ID, tensor) that all of them must resemble; None: the first of them.
    """
    like_ID, wanted = like or (IDs[0], samples[0][0])
    for ID, (X, _) in zip(IDs, samples, strict=True):
        if isinstance(X, torch.Tensor) and (X.shape != wanted.shape or X.dtype != wanted.dtype):
            raise DatasetError(
                f"samples of one batch must be alike: {like_ID!r} is {describe(wanted)}, "
                f"but {ID!r} is {describe(X)}"
            )


Partition = dict[str, list[str]]


def load_notation(root: str | Path = "data", suffix: str | None = ".pt") -> tuple[Partition, dict[str, Any]]:
    """`(partition, labels)` of the dataset in the folder `root`, from its partition.json and labels.json.

    `suffix`: of the samples' files; None for a packed dataset, whose files may be gone.

    Raises DatasetError, one sentence, if one of them is missing or is not of the form {"train": [ID, ...],
    "validation": [ID, ...]} and {ID: label, ...}, or for the first of `find_faults`. Reads no sample.
    """
    partition, labels = read_notation(root)
    for what, IDs in find_faults(partition, labels, root, suffix):
        raise DatasetError(f"{root}: {sentence(what, IDs)}")
    return partition, labels


def read_notation(root: str | Path = "data") -> tuple[Partition, dict[str, Any]]:
    "`load_notation` without the check of what the two files say"
    root = Path(root)
    edition = Edition(root)
    if not os.path.exists(root / "partition.json"):
        begun = (root / ".incoming" / "partition.json").exists()
        again = ", for one is being written: wait, or, if its process ended, run feedgpu prepare once more"
        raise DatasetError(f"there is no dataset in {root}: it has no partition.json{again * begun}")
    found = []
    for file in (root / "partition.json", root / "labels.json"):
        try:
            found.append(read_json(file))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{file} cannot be read: {reason(error)}") from error
        if not isinstance(found[-1], dict):
            raise DatasetError(f"{file} holds a {type(found[-1]).__name__}, where a JSON object is needed")
    edition.refuse_another()  # the two belong together
    partition, labels = found[0], Labels(found[1])
    labels.edition = edition
    for name in {"train", "validation", *partition}:
        if not isinstance(partition.get(name), list):
            raise DatasetError(f"{root / 'partition.json'} needs a list of IDs under {name!r}")
    return partition, labels


def find_faults(
    partition: Partition, labels: dict[str, Any], root: str | Path = "data", suffix: str | None = ".pt"
) -> list[tuple[str, list[Any]]]:
    """What is wrong with a dataset, as far as that shows without reading a sample.

    Returns `(what, IDs)` for each kind of fault, an empty list if there is none; `sentence` puts one into
    words. Lists each folder that the IDs name once, and opens no file: 100,000 IDs take less than a second.
    """
    counts = [Counter(ID for ID in IDs if isinstance(ID, str)) for IDs in partition.values()]
    homes = Counter(ID for count in counts for ID in count)
    inside = [ID for ID in homes if not LEADS_OUT.search(ID)]
    faults = {
        "of another type than a string": [
            ID for IDs in partition.values() for ID in IDs if not isinstance(ID, str)
        ],
        "absolute, leading out of the folder or too long": [ID for ID in homes if LEADS_OUT.search(ID)],
        "more than once in one partition": [ID for count in counts for ID in count if count[ID] > 1],
        "in more than one partition": [ID for ID in homes if homes[ID] > 1],
        "without a label": [ID for ID in inside if ID not in labels],
        "with a label that is not an integer of at least 0": [
            ID for ID in inside if not is_class(labels.get(ID, 0))
        ],
    }
    if suffix is not None:
        faults[f"without a file {Path(root) / '<ID>'}{suffix}"] = without_file(inside, root, suffix)
    empty: list[tuple[str, list[Any]]] = [
        (f"partition {name!r} is empty", []) for name in partition if not partition[name]
    ]
    return empty + [(what, IDs) for what, IDs in faults.items() if IDs]


def sentence(what: str, IDs: list[Any]) -> str:
    "One fault that `find_faults` found, in words: how many IDs and the first five of them"
    if not IDs:
        return what
    shown = ", ".join(repr(ID) for ID in IDs[:5]) + (f" and {len(IDs) - 5:,} more" if len(IDs) > 5 else "")
    return f"{len(IDs):,} ID{'s' if len(IDs) > 1 else ''} {what}: {shown}"


def without_file(IDs: Iterable[str], root: str | Path, suffix: str) -> list[str]:
    "Those of the IDs whose file is not there; each folder is listed once"
    folders: dict[str, list[tuple[str, str]]] = {}
    for ID in IDs:
        folder, _, name = ID.rpartition("/")
        folders.setdefault(folder, []).append((name + suffix, ID))
    absent = []
    for folder, files in folders.items():
        try:
            there = set(os.listdir(Path(root) / folder))
        except OSError:
            there = set()
        absent += [ID for file, ID in files if file not in there]
    return absent


def is_class(label: object) -> bool:
    "Whether a label is a class: an integer from 0 up"
    return isinstance(label, int) and not isinstance(label, bool) and label >= 0


def describe(X: torch.Tensor) -> str:
    "Its dtype and shape in words: 'uint8 of shape 3×224×224'"
    return f"{str(X.dtype).removeprefix('torch.')} of shape {'×'.join(map(str, X.shape)) or '()'}"
