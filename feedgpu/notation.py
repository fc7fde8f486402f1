"""The notation of the article on disk: IDs, files, `partition` and `labels`, and what is wrong with them."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import numpy

from .ids import IDList, LabelArray
from .outside import read_array, read_json, reason, visible, wanting
from .sample import describe, form, kind_of


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


def refuse_unlike(samples: list[Any], IDs: Sequence[str], like: tuple[str, Any] | None = None) -> None:
    """Raises DatasetError for samples of one batch that cannot be stacked: places, dtypes and shapes of their
    tensors differ. What is no tensor is not looked at.

    `IDs`: theirs. `like`: (ID, sample) that all of them must resemble; None: the first of them.
    """
    like_ID, wanted = like or (IDs[0], samples[0])
    for ID, sample in zip(IDs, samples, strict=True):
        if form(sample) != form(wanted):
            raise DatasetError(
                f"samples of one batch must be alike: {like_ID!r} is {describe(wanted)}, "
                f"but {ID!r} is {describe(sample)}"
            )


Partition = dict[str, list[str]]


def load_notation(root: str | Path = "data", suffix: str | None = ".pt") -> tuple[Partition, Any]:
    """`(partition, labels)` of the dataset in the folder `root`, from its partition.json and labels.json.

    A label is a class (an integer from 0 up), a number or a list of numbers, of one kind in all samples;
    `labels` is None, and labels.json `null`, for samples without targets. `suffix`: of the samples' files;
    None for a packed dataset, whose files may be gone. Of a dataset that never had files, as `pack_samples`
    writes it, lists and mapping are arrays: see feedgpu.ids.

    Raises DatasetError, one sentence, if one of them is missing or is not of the form {"train": [ID, ...],
    "validation": [ID, ...]} and {ID: label, ...}, or for the first of `find_faults`. Reads no sample.
    """
    partition, labels = read_notation(root)
    if is_pack_alone(partition):
        if suffix is not None:
            raise DatasetError(
                f"{root} is a pack alone, without a file for each sample: read its IDs with "
                "load_notation(root, suffix=None) and its samples with PackedDataset"
            )
        return partition, labels
    for what, IDs in find_faults(partition, labels, root, suffix):
        raise DatasetError(f"{root}: {sentence(what, IDs)}{kept_as_they_are(root, what, IDs, suffix)}")
    return partition, labels


def kept_as_they_are(root: str | Path, what: str, IDs: list[Any], suffix: str | None) -> str:
    "What to do if the files that are missing are there without the suffix, as ImageDataset reads them"
    if not suffix or not what.startswith(WITHOUT_FILE) or without_file(IDs, root, ""):
        return ""
    return (
        "; its samples are image files: read them with feedgpu.images.ImageDataset, or pack them with "
        f"feedgpu pack --data {root} --size H W and read them with PackedDataset"
    )


def is_pack_alone(partition: Partition) -> bool:
    "Whether `read_notation` found a dataset that has no file for each sample"
    return any(isinstance(IDs, IDList) for IDs in partition.values())


def read_notation(root: str | Path = "data") -> tuple[Partition, Any]:
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
        without_targets = found[-1] is None and file.name == "labels.json"
        if not isinstance(found[-1], dict) and not without_targets:
            raise DatasetError(f"{file} holds a {type(found[-1]).__name__}, where a JSON object is needed")
    edition.refuse_another()  # the two belong together
    if isinstance(counts := found[0].get("packed"), dict):
        return of_pack(root, counts, edition)
    partition, labels = found[0], None if found[1] is None else Labels(found[1])
    if labels is not None:
        labels.edition = edition
    needed = {"train", "validation"} if labels is not None or not partition else set()
    for name in {*needed, *partition}:
        if not isinstance(partition.get(name), list):
            raise DatasetError(f"{root / 'partition.json'} needs a list of IDs under {name!r}")
    return partition, labels


def of_pack(root: Path, counts: dict[str, Any], edition: Edition) -> tuple[Partition, Any]:
    """What the arrays of a pack say of IDs, partition and targets: see manifest.py.

    `counts`: {partition: number of its samples}, as partition.json has it under "packed".
    """
    folder = root / "packed"
    arrays = {}
    for name in ("IDs", "partition", "labels", "order"):
        try:
            arrays[name] = read_array(folder / f"{name}.npy", mmap_mode="r")
        except FileNotFoundError as error:
            if name in ("IDs", "partition"):
                raise DatasetError(f"{folder / name}.npy is missing: prepare the dataset again") from error
        except (OSError, ValueError) as error:
            raise DatasetError(f"{folder / name}.npy cannot be read: {reason(error)}") from error
    IDs, codes = arrays["IDs"], arrays["partition"]
    rows = [numpy.flatnonzero(codes == code) for code in range(len(counts))]
    if (
        IDs.dtype.kind != "S"
        or any(array.shape[:1] != IDs.shape for array in arrays.values())
        or [len(of) for of in rows] != list(counts.values())
    ):
        raise DatasetError(f"{folder} is not what {root / 'partition.json'} says: prepare the dataset again")
    edition.refuse_another()
    small = numpy.int32 if len(IDs) < 2**31 else numpy.int64
    lists: Any = {name: IDList(IDs, of.astype(small), edition) for name, of in zip(counts, rows, strict=True)}
    if "labels" not in arrays:
        return lists, None
    return lists, LabelArray(IDs, arrays.get("order"), arrays["labels"], edition)


WITHOUT_FILE = "without a file"


def find_faults(
    partition: Partition,
    labels: dict[str, Any] | None,
    root: str | Path = "data",
    suffix: str | None = ".pt",
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
    }
    if labels is not None:
        faults["without a label"] = [ID for ID in inside if ID not in labels]
        faults |= faults_of_targets({ID: labels[ID] for ID in inside if ID in labels})
    if suffix is not None:
        faults[f"{WITHOUT_FILE} {Path(root) / '<ID>'}{suffix}"] = without_file(inside, root, suffix)
    empty: list[tuple[str, list[Any]]] = [
        (f"partition {name!r} is empty", []) for name in partition if not partition[name]
    ]
    return empty + [(what, IDs) for what, IDs in faults.items() if IDs]


def faults_of_targets(targets: dict[str, Any]) -> dict[str, list[Any]]:
    "Those that are not of the kind of most others, or not finite"
    kinds = {ID: kind_of(y) for ID, y in targets.items()}
    (usual, _), *_ = [*Counter(kind for kind in kinds.values() if kind).most_common(1), ("class", 0)]
    odd = [ID for ID, kind in kinds.items() if kind != usual]
    if usual == "class":
        return {"with a label that is not an integer of at least 0": odd}
    if usual == "number":
        infinite = [ID for ID, kind in kinds.items() if kind == usual and not isfinite(targets[ID])]
        return {
            "whose target is no number with a point, as the others are": odd,
            "whose target is infinite or not a number": infinite,
        }
    lists = [ID for ID, kind in kinds.items() if kind == usual]
    length = Counter(len(targets[ID]) for ID in lists).most_common(1)[0][0]
    return {
        f"whose target is no list of {length} numbers, as the others are": odd
        + [ID for ID in lists if len(targets[ID]) != length],
        "whose target is infinite or not a number": [
            ID for ID in lists if not all(map(isfinite, targets[ID]))
        ],
    }


def sentence(what: str, IDs: list[Any]) -> str:
    "One fault that `find_faults` found, in words: how many IDs and the first five of them"
    if not IDs:
        return what
    shown = ", ".join(repr(ID) for ID in IDs[:5]) + (f" and {len(IDs) - 5:,} more" if len(IDs) > 5 else "")
    return f"{len(IDs):,} ID{'s' if len(IDs) > 1 else ''} {what}: {shown}"


def one_line_a_kind(faults: Iterable[tuple[str, str, str]]) -> list[str]:
    """Of faults of single samples, (ID, what is wrong, the sentence that says so): one line with the first
    five IDs where more than five are of one kind, else the sentences. Of one kind are those that differ in
    numbers alone.
    """
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for fault in faults:
        kinds.setdefault(re.sub(r"\d[\d,.]*", "0", fault[1]), []).append(fault)
    lines = []
    for alike in kinds.values():
        if len(alike) <= 5:
            lines += [whole for _, _, whole in alike]
        else:
            IDs = ", ".join(repr(ID) for ID, _, _ in alike[:5])
            lines.append(f"{len(alike):,} samples: {alike[0][1]}: {IDs} and {len(alike) - 5:,} more")
    return lines


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
