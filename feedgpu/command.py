"""Writes a dataset in the article's layout, packs it, checks it.

feedgpu prepare digits
feedgpu prepare photographs --samples 2000 --size 224 224 --data photographs
feedgpu prepare photographs --samples 2000 --size 256 256 --as jpeg --data jpegs
feedgpu prepare folder my_images --size 64 64 --mode RGB --data my_data
feedgpu prepare folder my_images --as files --data my_data
feedgpu prepare table my_images/list.csv --data my_data
feedgpu prepare from my_samples.h5 --x images --y labels --data my_data
feedgpu prepare synthetic --samples 1000 --shape 3 224 224 --dtype uint8 --data noise
feedgpu check --data my_data
feedgpu pack --data my_data
feedgpu pack --size 224 224 --data jpegs

The samples are tensors or, as jpeg or files, image files for feedgpu.images.ImageDataset.
`python3 -m feedgpu` is the same command.
"""

import argparse
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from .rooms import MissingExtra
from .system import ctrl_c_heard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .prepare import Source


def run() -> NoReturn:
    """What the shell calls. Before the work begins, and when it is done, a Ctrl-C ends the process at once:
    torch aborts where it is interrupted while it is imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter gets its number
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())


def main(arguments: list[str] | None = None) -> int:
    "Does what the command line asks for, and returns the exit code"
    args = parse(arguments)
    from .notation import DatasetError  # imports torch, for which --help need not wait
    from .outside import reason, visible, wanting
    from .prepare import checking  # noqa: F401  and with it what every task imports

    try:
        with ctrl_c_heard():
            return {"prepare": prepare, "pack": pack, "check": check}[args.task](args)
    except KeyboardInterrupt:
        print(f"\nStopped by Ctrl-C: {args.data} is as it was, or new and whole.", file=sys.stderr)
        return 130
    except (DatasetError, MissingExtra) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(visible(f"{error.filename} cannot be read: {reason(error)}"), file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:  # torch's own want of memory is a RuntimeError
        if not (what := wanting(error)):
            raise
        print(f"This could not be done for want of {what}.", file=sys.stderr)
        return 1


def prepare(args: argparse.Namespace) -> int:
    "Writes a dataset, and says what it has"
    from .notation import sentence
    from .prepare import write

    if args.source == "from":
        return prepare_from(args)
    source = make_source(args)
    partition, labels = write(source, args.data, args.force, getattr(args, "skip_unreadable", False))
    there = {ID for IDs in partition.values() for ID in IDs}
    if left_out := [ID for IDs in source.partition.values() for ID in IDs if ID not in there]:
        print(sentence("left out, as they cannot be read", left_out))
    say(args.data, partition, labels)
    return 0


def prepare_from(args: argparse.Namespace) -> int:
    "Packs what lies at a path, and says what it has"
    from .prepare import pack_from

    size = (args.size[0], args.size[1]) if args.size else None
    options = {"target": args.target, "size": size, "mode": args.mode, "seed": args.seed, "force": args.force}
    partition, labels = pack_from(args.path, args.data, args.x, args.y, **options)
    say(args.data, partition, labels)
    return 0


def say(data: str, partition: Any, labels: Any) -> None:
    "What a dataset that was written has"
    print(f"{inventory(data)}: {in_parts(partition)}.")
    for line in inventory_of_classes(partition, labels, classes_of(data)):
        print(line)


def in_parts(partition: Any) -> str:
    "'80 for train, 10 for validation and 10 for test'"
    parts = [f"{len(IDs):,} for {name}" for name, IDs in partition.items()]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def classes_of(data: str) -> list[str] | None:
    "The names of a dataset's classes, if they have names"
    from pathlib import Path

    from .outside import read_json

    names = Path(data, "classes.json")
    return read_json(names) if names.exists() else None


def make_source(args: argparse.Namespace) -> "Source":
    "What the command line names as a source"
    from .notation import DatasetError
    from .prepare import digits, folder, photographs, synthetic, table

    if getattr(args, "kept_as", None) == "files" and (args.size or args.mode):
        raise DatasetError("--as files keeps the images as they are: leave --size and --mode out")
    size = (args.size[0], args.size[1]) if getattr(args, "size", None) else None
    match args.source:
        case "photographs" if size:
            return photographs(args.samples, size, args.seed, args.kept_as)
        case "folder":
            return folder(args.path, size, args.mode, args.seed, args.kept_as, args.target)
        case "table":
            return table(args.path, size, args.mode, args.seed, args.kept_as, args.target)
        case "synthetic":
            return synthetic(args.samples, tuple(args.shape), args.dtype, args.classes, args.seed)
    return digits()


def pack(args: argparse.Namespace) -> int:
    "Packs a dataset, and says what that takes"
    from .prepare import pack as pack_dataset
    from .prepare.packing import pack_to

    if args.to is not None:
        size = (args.size[0], args.size[1]) if args.size else None
        say(args.to, *pack_to(args.data, args.to, size, args.force))
        return 0
    manifest = pack_dataset(args.data, (args.size[0], args.size[1]) if args.size else None)
    size = sum(manifest["files"].values())
    print(f"{args.data}/packed: {manifest['samples']:,} samples in {size:,} bytes.")
    return 0


def check(args: argparse.Namespace) -> int:
    "Prints all that is wrong with a dataset, or that nothing is"
    from .prepare import check as check_dataset

    if faults := check_dataset(args.data):
        print(*faults, sep="\n", file=sys.stderr)
        return 1
    from .notation import read_notation

    partition, labels = read_notation(args.data)
    print(f"{inventory(args.data)}, are in order: {in_parts(partition)}.")
    for line in inventory_of_classes(partition, labels, classes_of(args.data)):
        print(line)
    return 0


def inventory(data: str) -> str:
    "How many samples of what kind a dataset has"
    from .notation import file_of, is_pack_alone, load_notation
    from .packed import PackedDataset
    from .prepare.commit import suffix_of
    from .prepare.streaming import sum_of_bytes
    from .sample import describe, read_sample

    partition, labels = load_notation(data, suffix=None)
    if is_pack_alone(partition):
        some = next(IDs for IDs in partition.values() if len(IDs))[:1]
        X = PackedDataset(some, None, data)[0]
        number = sum(map(len, partition.values()))
        return f"{data}: {number:,} samples, all {describe(X)}, {sum_of_bytes(X):,} bytes each"
    IDs = [ID for IDs in partition.values() for ID in IDs]
    if suffix_of(data, IDs) == "":
        files = [file_of(ID, data, "") for ID in IDs]
        size = sum(file.stat().st_size for file in files if file.exists())
        return f"{data}: {len(IDs):,} samples, image files of {size:,} bytes"
    file = file_of(IDs[0], data)
    X = read_sample(file) if file.exists() else PackedDataset(IDs[:1], None, data)[0]
    return f"{data}: {len(IDs):,} samples, all {describe(X)}, {sum_of_bytes(X):,} bytes each"


def inventory_of_classes(
    partition: "dict[str, Any]", labels: Any, names: list[str] | None
) -> "Iterator[str]":
    "How many samples each class has, for the first ten; and what a reader should know of them"
    from collections import Counter

    from .ids import LabelArray
    from .sample import is_class

    if isinstance(labels, LabelArray):
        if labels.array.ndim > 1 or labels.array.dtype.kind == "f":
            yield (
                "The targets are numbers." if labels.array.ndim == 1 else "The targets are lists of numbers."
            )
            return
        found = {part: Counter(labels.array[IDs.rows].tolist()) for part, IDs in partition.items()}
    elif labels is None or not all(map(is_class, labels.values())):
        return
    else:
        found = {part: Counter(labels[ID] for ID in IDs) for part, IDs in partition.items()}
    counts = sum(found.values(), Counter())

    def name(y: int) -> str:
        return names[y] if names and y < len(names) else str(y)

    shown = ", ".join(f"{name(y)} {counts[y]:,}" for y in sorted(counts)[:10]) + ", …" * (len(counts) > 10)
    yield f"{len(counts):,} class{'es' * (len(counts) != 1)}: {shown}."
    if len(counts) == 1:
        yield "There is one class only, so a model can learn nothing from the labels."
    for part, others in (("validation", "train"), ("train", "validation")):
        if lonely := [
            name(y) for y in sorted(counts) if found.get(part, {}).get(y) and not found[others].get(y)
        ]:
            more = ", …" * (len(lonely) > 5)
            yield f"Only in {part}: {', '.join(lonely[:5])}{more}."


MODE = "convert images to it; P: keep a palette's numbers, as masks have them; 16: keep 16 bits of grey"


class Parser(argparse.ArgumentParser):
    "Of arguments; wrong words get one sentence, where argparse would print its usage too"

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    "What the command line says; ends the process with a sentence and exit code 2 where it makes no sense"
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="feedgpu", description=__doc__, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"feedgpu {__version__}")
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    preparing = tasks.add_parser(
        "prepare", help="write a dataset", description="Writes a dataset into a folder."
    )
    add_sources(preparing.add_subparsers(dest="source", required=True, metavar="SOURCE"))
    packing = add(tasks, "pack", "put all samples of a dataset into one file, for PackedDataset")
    add_size(packing, "decode the images to this size, and pack their pixels")
    packing.add_argument("--to", metavar="DIR", help="another folder, which becomes a dataset of its own")
    packing.add_argument("--force", action="store_true", help="overwrite the dataset that is in that folder")
    add(tasks, "check", "read a whole dataset and list what is wrong with it")
    return parser.parse_args(arguments)


Parsers = argparse._SubParsersAction  # which has no public name


def add_sources(sources: "Parsers[Parser]") -> None:
    "The words after `feedgpu prepare`"

    def add_source(name: str, what: str) -> Parser:
        source = add(sources, name, what)
        source.add_argument("--force", action="store_true", help="overwrite the dataset that is there")
        return source

    def add_seed(source: Parser) -> None:
        source.add_argument(
            "--seed", type=int, default=0, help="another seed, other samples or partition (0)"
        )

    def add_as(source: Parser, kept: str) -> None:
        source.add_argument(
            "--as", dest="kept_as", choices=["tensors", kept], default="tensors", help="(tensors)"
        )

    add_source("digits", "the 1,797 handwritten digits that come with scikit-learn")

    source = add_source("photographs", "crops of the two photographs that come with scikit-learn")
    source.add_argument("--samples", type=positive, required=True, metavar="N", help="how many, 4 or more")
    add_size(source, "in pixels", required=True)
    add_as(source, "jpeg")
    add_seed(source)

    for name, what in (
        ("folder", "a folder with one subfolder a class"),
        ("table", "a CSV file with the columns id, path, label"),
    ):
        source = add_source(name, what + ": images, .npy and .pt")
        source.add_argument("path", metavar="PATH", help=what)
        add_size(source, "scale images to it")
        source.add_argument("--mode", choices=["L", "RGB", "RGBA", "P", "16"], help=MODE)
        source.add_argument("--skip-unreadable", action="store_true", help="leave out what cannot be read")
        add_as(source, "files")
        add_seed(source)
        kinds = ["class", "number", "several"] if name == "table" else ["class", "none"]
        source.add_argument("--target", choices=kinds, default="class", help="what the labels are (class)")

    source = add_source("from", "what a file of arrays, columns or records holds, packed without other files")
    source.add_argument(
        "path", metavar="PATH", help=".npy, .npz, HDF5, Parquet, .tar, safetensors, LMDB, or a folder of them"
    )
    source.add_argument(
        "--x", nargs="+", metavar="NAME", help="the arrays, columns or endings of the samples"
    )
    source.add_argument("--y", metavar="NAME", help="that of the targets")
    kinds = ["class", "number", "none"]
    source.add_argument("--target", choices=kinds, help="what the targets are (as their type says)")
    add_size(source, "scale images to it")
    source.add_argument("--mode", choices=["L", "RGB", "RGBA", "P", "16"], help=MODE)
    add_seed(source)

    source = add_source("synthetic", "noise over a pattern of its class, of any size")
    source.add_argument("--samples", type=positive, required=True, metavar="N", help="how many")
    source.add_argument(
        "--shape", type=positive, nargs=3, required=True, metavar=("C", "H", "W"), help="of each"
    )
    dtypes = ["uint8", "float16", "float32", "float64"]
    source.add_argument("--dtype", choices=dtypes, default="uint8", help="of the values (uint8)")
    source.add_argument("--classes", type=positive, default=10, metavar="K", help="how many (10)")
    add_seed(source)


def add(tasks: "Parsers[Parser]", name: str, what: str) -> Parser:
    task = tasks.add_parser(name, help=what, description=what)
    task.add_argument("--data", default="data", metavar="DIR", help="folder of the dataset (data)")
    return task


def add_size(parser: Parser, what: str, required: bool = False) -> None:
    parser.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"), required=required, help=what)


def positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
