"""Writes a dataset in the article's layout, checks or packs one: the command line.

python3 -m feedgpu.prepare digits
python3 -m feedgpu.prepare photographs --samples 2000 --size 224 224 --data photographs
python3 -m feedgpu.prepare photographs --samples 2000 --size 256 256 --as jpeg --data jpegs
python3 -m feedgpu.prepare folder my_images --size 64 64 --mode RGB --data my_data
python3 -m feedgpu.prepare folder my_images --as files --data my_data
python3 -m feedgpu.prepare table my_images/list.csv --data my_data
python3 -m feedgpu.prepare synthetic --samples 1000 --shape 3 224 224 --dtype uint8 --data noise
python3 -m feedgpu.prepare check --data my_data
python3 -m feedgpu.prepare pack --data my_data
python3 -m feedgpu.prepare pack --size 224 224 --data jpegs

The samples are tensors, or, as jpeg or files, image files for my_images.ImageDataset.
"""

import argparse
import sys

from feedgpu.commit import suffix_of
from feedgpu.files import folder, table
from feedgpu.full_check import check
from feedgpu.layout import Source, write
from feedgpu.pack import pack
from feedgpu.sources import digits, photographs, synthetic
from my_classes import (
    DatasetError,
    PackedDataset,
    describe,
    file_of,
    load_notation,
    read_tensor,
    reason,
    sentence,
)


def main(arguments: list[str] | None = None) -> int:
    "Does what the command line asks for, and returns the exit code"
    args = parse(arguments)
    try:
        if args.source == "check":
            return report(args.data)
        if args.source == "pack":
            manifest = pack(args.data, args.size and tuple(args.size))
            size = sum(manifest["files"].values())
            print(f"{args.data}/packed: {manifest['samples']:,} samples in {size:,} bytes.")
            return 0
        source = make_source(args)
        skip_unreadable = getattr(args, "skip_unreadable", False)
        partition, labels = write(source, args.data, args.force, skip_unreadable)
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename} cannot be read: {reason(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nStopped by Ctrl-C: {args.data} is as it was, or new and whole.", file=sys.stderr)
        return 130
    if left_out := [ID for ID in source.labels if ID not in labels]:
        print(sentence("left out, as they cannot be read", left_out))
    parts = " and ".join(f"{len(IDs):,} for {name}" for name, IDs in partition.items())
    print(f"{inventory(args.data)}: {parts}.")
    return 0


def make_source(args: argparse.Namespace) -> Source:
    match args.source:
        case "digits":
            return digits()
        case "photographs":
            return photographs(args.samples, args.size, args.seed, args.kept_as)
        case "folder" | "table" if args.kept_as == "files" and (args.size or args.mode):
            raise DatasetError("files that are kept are not changed: leave --size and --mode out")
        case "folder":
            return folder(args.path, args.size, args.mode, args.seed, args.kept_as)
        case "table":
            return table(args.path, args.size, args.mode, args.seed, args.kept_as)
        case "synthetic":
            return synthetic(args.samples, args.shape, args.dtype, args.classes, args.seed)


def report(data: str) -> int:
    "Prints all that is wrong with a dataset, or that nothing is"
    if faults := check(data):
        print(*faults, sep="\n", file=sys.stderr)
        return 1
    print(f"{inventory(data)}, are in order.")
    return 0


def inventory(data: str) -> str:
    partition, labels = load_notation(data, suffix=None)
    IDs = [ID for IDs in partition.values() for ID in IDs]
    if suffix_of(data, IDs) == "":
        files = [file_of(ID, data, "") for ID in IDs]
        size = sum(file.stat().st_size for file in files if file.exists())
        return f"{data}: {len(IDs):,} samples, image files of {size:,} bytes"
    file = file_of(IDs[0], data)
    X = read_tensor(file) if file.exists() else PackedDataset(IDs[:1], labels, data)[0][0]
    return f"{data}: {len(IDs):,} samples, all {describe(X)}"


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        "One sentence, where argparse would print its usage too"
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python3 -m feedgpu.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")

    def add(name: str, what: str, writes=True) -> argparse.ArgumentParser:
        source = sources.add_parser(name, help=what, description=what)
        source.add_argument("--data", default="data", metavar="DIR", help="folder of the dataset (data)")
        if writes:
            source.add_argument("--force", action="store_true", help="overwrite the dataset that is there")
        return source

    def add_seed(source: argparse.ArgumentParser):
        source.add_argument(
            "--seed", type=int, default=0, help="another seed, other samples or partition (0)"
        )

    def add_as(source: argparse.ArgumentParser, kept: str):
        source.add_argument(
            "--as", dest="kept_as", choices=["tensors", kept], default="tensors", help="(tensors)"
        )

    add("digits", "the 1,797 handwritten digits that come with scikit-learn")

    source = add("photographs", "crops of the two photographs that come with scikit-learn")
    source.add_argument("--samples", type=positive, required=True, metavar="N", help="how many, 4 or more")
    source.add_argument("--size", type=positive, nargs=2, required=True, metavar=("H", "W"), help="in pixels")
    add_as(source, "jpeg")
    add_seed(source)

    for name, what in (
        ("folder", "a folder with one subfolder a class"),
        ("table", "a CSV file: id,path,label"),
    ):
        source = add(name, what + ": images, .npy and .pt")
        source.add_argument("path", metavar="PATH", help=what)
        source.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"), help="scale images to it")
        source.add_argument("--mode", choices=["L", "RGB", "RGBA"], help="convert images to it")
        source.add_argument("--skip-unreadable", action="store_true", help="leave out what cannot be read")
        add_as(source, "files")
        add_seed(source)

    source = add("synthetic", "noise over a pattern of its class, of any size")
    source.add_argument("--samples", type=positive, required=True, metavar="N", help="how many")
    source.add_argument(
        "--shape", type=positive, nargs=3, required=True, metavar=("C", "H", "W"), help="of each"
    )
    dtypes = ["uint8", "float16", "float32", "float64"]
    source.add_argument("--dtype", choices=dtypes, default="uint8", help="of the values (uint8)")
    source.add_argument("--classes", type=positive, default=10, metavar="K", help="how many (10)")
    add_seed(source)

    add("check", "read a whole dataset and list what is wrong with it", writes=False)
    source = add("pack", "put all samples of a dataset into one file, for PackedDataset", writes=False)
    source.add_argument(
        "--size", type=positive, nargs=2, metavar=("H", "W"), help="of the images, which are packed decoded"
    )
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
