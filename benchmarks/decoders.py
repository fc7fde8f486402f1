"""What decoding and scaling one JPEG takes, decoder by decoder, and by how much their pixels differ.

    make bench                                       # sets up what is needed, then runs, among others:
    build/bench/bin/python benchmarks/decoders.py    # a minute; rewrites results/decoders.json and .md
    ... --quick    # a few images, prints the tables and writes nothing
    ... --again    # measures nothing: the tables from the stored numbers

Microseconds an image in one thread, from the bytes of the file in memory: medians of alternating rounds. Of
JPEGs of 256×256, and of large ones, 640×560, which some decoders make half as large in less time, by leaving
out frequencies ("by half"). Then scaling alone, of what Pillow has decoded, to 224×224; and both together,
as a loader does it. Differences, mean and greatest in levels of 256: of decoding and of scaling each from
Pillow's, all images together; by half from Pillow's draft mode.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy
import simplejpeg
import torch
from image_loaders import SIZE, jpegs, opencv, pillow, simplejpeg_opencv
from imagecodecs import jpeg8_decode
from peers import write_text
from PIL import Image
from torch.nn.functional import interpolate

from feedgpu import decode as decoding
from feedgpu.measure import alternate, machine, number
from feedgpu.prepare import photographs, write

RESULTS = Path(__file__).parent / "results" / "decoders.json"
KINDS = {"256×256": (256, 256), "640×560": (640, 560)}  # (height, width)
LARGE = "640×560"  # decoded by half too


def draft(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.draft("RGB", (image.width // 2, image.height // 2))
    return image.convert("RGB")


def by_half(data: bytes) -> numpy.ndarray:
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    return simplejpeg.decode_jpeg(data, min_height=-(-height // 2), min_width=-(-width // 2))


def cv2_decoded(flags: int) -> Callable:
    return lambda data: cv2.imdecode(numpy.frombuffer(data, numpy.uint8), flags)


def to_size(pixels: numpy.ndarray, how: int = cv2.INTER_LINEAR) -> numpy.ndarray:
    return cv2.resize(pixels, SIZE[::-1], interpolation=how)


def in_torch(X: torch.Tensor, antialias: bool = True) -> numpy.ndarray:
    return interpolate(X, SIZE, mode="bilinear", antialias=antialias)[0].permute(1, 2, 0).numpy()


def in_pillow(image: Image.Image) -> numpy.ndarray:
    return numpy.array(image.resize(SIZE[::-1], Image.Resampling.BILINEAR))


def ours(data: bytes) -> numpy.ndarray:
    "As ImageDataset does it, by half where that is large enough; here the whole image, whatever its shape"
    height, width, decode = decoding.decoder_of(data)
    return decoding.cropped(decode, (height, width), (0, 0, height, width), SIZE).permute(1, 2, 0).numpy()


# Of each table the first is what the others are compared with.
WHOLE = {
    "Pillow": lambda data: numpy.array(Image.open(BytesIO(data)).convert("RGB")),
    "simplejpeg": simplejpeg.decode_jpeg,
    "simplejpeg, fastdct and fastupsample": partial(simplejpeg.decode_jpeg, fastdct=True, fastupsample=True),
    "OpenCV": cv2_decoded(cv2.IMREAD_COLOR_RGB),
    "imagecodecs": jpeg8_decode,
}
HALVED = {
    "Pillow, draft mode": lambda data: numpy.array(draft(data)),
    "simplejpeg, min_height and min_width": by_half,
    # This is IMREAD_REDUCED_COLOR_2, with red first.
    "OpenCV, reduced by 2": cv2_decoded(cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB),
}
SCALINGS = {
    "Pillow": lambda pixels: in_pillow(Image.fromarray(pixels)),
    "torch, x[None].permute(0, 3, 1, 2)": lambda x: in_torch(torch.from_numpy(x)[None].permute(0, 3, 1, 2)),
    "torch, x.permute(2, 0, 1)[None]": lambda x: in_torch(torch.from_numpy(x).permute(2, 0, 1)[None]),
    "torch, antialias=False": lambda x: in_torch(torch.from_numpy(x)[None].permute(0, 3, 1, 2), False),
    "OpenCV, INTER_AREA": partial(to_size, how=cv2.INTER_AREA),
    "OpenCV, INTER_LINEAR": to_size,
}
NOT_ANTIALIASED = ("torch, antialias=False", "OpenCV, INTER_LINEAR")
WAYS = {
    "Pillow": pillow,
    "ImageDataset (simplejpeg, torch)": ours,
    "simplejpeg, OpenCV INTER_LINEAR": simplejpeg_opencv,
    "OpenCV, INTER_LINEAR": opencv,
}
WAYS_BY_HALF = {
    "Pillow, draft mode": lambda data: in_pillow(draft(data)),
    "simplejpeg by half, OpenCV INTER_LINEAR": lambda data: to_size(by_half(data)),
    "OpenCV reduced by 2, INTER_LINEAR": lambda data: to_size(HALVED["OpenCV, reduced by 2"](data)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few images, writes nothing")
    parser.add_argument("--again", action="store_true", help="the tables from the stored numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if arguments.again:
        return report(json.loads(RESULTS.read_text()))
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "kinds": {}}
    for kind, size in KINDS.items():
        found["kinds"][kind] = measure(kind, size, *((4, 2) if arguments.quick else (50, 11)))
    if arguments.quick:
        return print(tables(found))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    report(found)


def measure(kind: str, size: tuple[int, int], images: int, rounds: int) -> dict:
    with TemporaryDirectory() as folder:
        write(photographs(images, size, kept_as="jpeg"), Path(folder) / "images")
        files = [data for data, _ in jpegs(Path(folder) / "images")]
    pixels = [WHOLE["Pillow"](data) for data in files]
    large = kind == LARGE
    return {
        "images": images,
        "bytes": sum(map(len, files)),
        "decoding": compared(WHOLE, files, rounds),
        "decoding by half": compared(HALVED, files, rounds) if large else {},
        "scaling": compared(SCALINGS, pixels, rounds),
        "both": compared(WAYS | (WAYS_BY_HALF if large else {}), files, rounds),
    }


def compared(works: dict[str, Callable], inputs: list, rounds: int) -> dict:
    "{name: seconds an image, and the differences from what the first makes}"
    wanted = numpy.stack([works[next(iter(works))](one) for one in inputs]).astype(numpy.int16)
    found = {}
    for name, work in works.items():
        apart = abs(numpy.stack([work(one) for one in inputs]) - wanted)
        found[name] = {"mean": apart.mean().item(), "greatest": apart.max().item()}

    def seconds(work: Callable) -> float:
        began = time.perf_counter()
        for one in inputs:
            work(one)
        return (time.perf_counter() - began) / len(inputs)

    took = alternate({name: partial(seconds, work) for name, work in works.items()}, rounds)
    return {name: {"seconds": vars(took[name])} | found[name] for name in works}


def tables(found: dict) -> str:
    parts = []
    for kind, of in found["kinds"].items():
        size = number(of["bytes"] / of["images"] / 1e3, 2)
        parts.append(f"## JPEGs of {kind}, {size} KB each")
        for what in ("decoding", "decoding by half", "scaling", "both"):
            if of[what]:
                parts.append(table(what, of[what]))
    return "\n\n".join(parts)


def table(what: str, rows: dict) -> str:
    title = {"scaling": "scaling to 224×224", "both": "decoding and scaling"}.get(what, what)
    base = next(iter(rows))
    lines = [
        f"| {title} | µs (least–greatest) | apart from {base}: mean | greatest |",
        "|---" * 4 + "|",
    ]
    for name, row in rows.items():
        took = [number(1e6 * row["seconds"][which]) for which in ("median", "low", "high")]
        name += ", not antialiased" if what == "scaling" and name in NOT_ANTIALIASED else ""
        lines.append(
            f"| {name} | {took[0]} ({took[1]}–{took[2]}) | {number(row['mean'], 2)} | {row['greatest']} |"
        )
    return "\n".join(lines)


def report(found: dict):
    "Prints the tables, and writes them beside the numbers"
    write_text("Decoders of JPEGs", "decoders.py", found, tables(found), RESULTS)


if __name__ == "__main__":
    main()
