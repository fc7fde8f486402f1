"""Image files decoded, cropped and scaled: by simplejpeg where it can, else by Pillow, to the same pixels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from io import BytesIO
from math import inf
from typing import Any

import numpy
import torch
from torch.nn.functional import interpolate

from .outside import reason
from .rooms import missing

try:
    from PIL import Image as Image  # for feedgpu.prepare, too
    from PIL import ImageOps as ImageOps
    from PIL import UnidentifiedImageError
except ImportError as error:
    raise missing("Reading image files", "Pillow", "images") from error
try:
    import simplejpeg
except ImportError:
    simplejpeg = None

Pixels = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]  # height × width × 3
Box = tuple[int, int, int, int]  # upper, left, height, width
SCALES = (8, 4, 2)  # by which a JPEG can be decoded smaller than it is, in less time
ORIENTATION, BITS, WHITE = 0x0112, 258, 262  # tags of EXIF and TIFF
KINDS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")  # none runs a program
SCANS, SEGMENTS = 500, 1000  # of a JPEG; more than any has
FRAMES, SCAN = (0xC0, 0xC1), 0xDA  # markers of a JPEG: frames that are not progressive, and a scan
HARMLESS = {0xC4, 0xDB, 0xDD, 0xE0, *range(0xE2, 0xF0), 0xFE}  # tables, notes of programs, and comments
PLENTY, DENSITY = 2**25, 100  # pixels that any file may hold, and for each of its bytes beyond them
ROWS = 32_000  # values that torch changes without starting threads


@contextmanager
def damage_told() -> Iterator[None]:
    "Of what a decoder raises for a damaged file, OSError and ValueError pass; the others become ValueError"
    try:
        yield
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # by Pillow: RuntimeError of an AVIF, KeyError of a TIFF, TypeError of EXIF
        raise ValueError(reason(error)) from error


@damage_told()
def decoder_of(data: bytes) -> tuple[int, int, Callable[[int], Pixels]]:
    """Height and width of an image as one looks at it, and a function that decodes it: `decode(scale)` is
    uint8, height×width×3, smaller by a `scale` of 1 or, for a JPEG, of 2, 4 or 8.

    Raises ValueError and OSError for what is no image.
    """
    jpeg = data.startswith(b"\xff\xd8\xff")
    plain = jpeg and is_plain(data)
    if jpeg and not plain and data.count(b"\xff\xda") > SCANS:
        raise ValueError(f"it is a JPEG of more than {SCANS} scans, which take for ever to decode")
    if jpeg and simplejpeg is not None:
        with suppress(ValueError):  # it is damaged, or of a kind that simplejpeg does not know
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            turned = not plain and has_exif(data) and orientation(open_image(data)) != 1
            if colours in ("YCbCr", "Gray", "RGB") and not turned and height * width <= most_pixels(data):
                return height, width, partial(with_simplejpeg, data, height, width)
    image = open_image(data)
    if image.format not in ("JPEG", "MPO"):
        pixels = with_pillow(image, 1)
        return *pixels.shape[:2], lambda scale: pixels
    width, height = image.size
    if orientation(image) >= 5:
        height, width = width, height
    return height, width, partial(with_pillow, image)


def is_plain(data: bytes) -> bool:
    """Whether a JPEG is one scan of all its colours and has neither EXIF nor XMP, by its segments before the
    scan. If anything there is unusual, it is not plain: then all of it is looked at, which takes longer."""
    place, colours = 2, None
    for _ in range(SEGMENTS):
        head = data[place : place + 10]
        if len(head) < 10 or head[0] != 0xFF:
            return False
        if head[1] == SCAN:
            return head[4] == colours
        if head[1] in FRAMES:
            colours = head[9]
        elif head[1] not in HARMLESS:
            return False
        place += 2 + (head[2] << 8 | head[3])
    return False


def has_exif(data: bytes) -> bool:
    "Whether it may say how the camera was held, in EXIF or XMP; Pillow, which takes longer, then looks"
    return b"Exif\0\0" in data or b"rientation" in data


def with_simplejpeg(data: bytes, height: int, width: int, scale: int) -> Pixels:
    least = {"min_height": -(-height // scale), "min_width": -(-width // scale)}
    try:
        found: Pixels = simplejpeg.decode_jpeg(data, **least)
        return found
    except ValueError as error:
        pixels = with_pillow(open_image(data), scale)  # which may take it, or says better why not
        if "premature end of data segment" in str(error):  # about which Pillow may be silent
            raise ValueError("a part of its data is missing or damaged") from error
        return pixels


@damage_told()
def with_pillow(image: Image.Image, scale: int) -> Pixels:
    if scale > 1:
        image.draft(image.mode, (image.width // scale, image.height // scale))
    image = as_seen(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return numpy.array(image.convert("RGB"))


BOMB = "that could be a decompression bomb; scale it down, or set PIL.Image.MAX_IMAGE_PIXELS = None yourself"


def open_image(data: bytes) -> Image.Image:
    if not data:
        raise ValueError("it is empty")
    try:
        image = Image.open(BytesIO(data), formats=kinds())
    except UnidentifiedImageError as error:
        raise ValueError(f"it holds no image of the kinds that are read ({', '.join(kinds())})") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{str(error).partition(', could')[0]}: {BOMB}") from error
    if image.width * image.height > most_pixels(data):
        raise ValueError(f"{image.width:,}×{image.height:,} pixels in {len(data):,} bytes: {BOMB}")
    return image


@cache
def kinds() -> tuple[str, ...]:
    "Those of KINDS that this Pillow has"
    Image.init()
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def orientation(image: Image.Image) -> int:
    "How the camera was held: 1 upright, 5 to 8 on its side"
    held = image.getexif().get(ORIENTATION, 1)
    return held if held in range(1, 9) else 1


def as_seen(image: Image.Image, bits: int = 8) -> Image.Image:
    """Turned as its camera says, and with 8 bits a value: 16 are divided by 257, which Pillow would clip.

    `bits`: 16, for a grey image of 16 bits whose values are to stay as they are.
    """
    if image.mode.startswith("I"):
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        most = 2 ** min(16, tags.get(BITS, (16,))[0]) - 1
        values = numpy.asarray(image)
        if values.size and not 0 <= values.min() <= values.max() <= most:
            raise ValueError("its values have more than 16 bits: save it with 8, or as .npy")
        if bits == 8:
            values, most = (values.astype(numpy.uint32) * 255 + most // 2) // most, 255
        turned = image.getexif()
        values = most - values if tags.get(WHITE) == 0 else values
        image = Image.fromarray(values.astype(numpy.uint8 if bits == 8 else numpy.int32))
        image.getexif().update(turned)
    elif image.mode == "F":
        raise ValueError("its values are no whole numbers: save it with 8 bits a value, or as .npy")
    return ImageOps.exif_transpose(image)


def most_pixels(data: bytes) -> float:
    """More are refused: a small file may hold so many that they fill the memory. Pillow's limit, and for a
    file of few bytes a lower one: 2**25 pixels of one colour took 94 MB (JPEG) to 810 MB (WebP) to decode."""
    if Image.MAX_IMAGE_PIXELS is None:
        return inf
    return min(2 * Image.MAX_IMAGE_PIXELS, max(PLENTY, DENSITY * len(data)))


def mirrored(X: torch.Tensor) -> torch.Tensor:
    "Left and right exchanged: 3×height×width. In pieces, or torch starts threads for it, in each of ours."
    Y, rows = torch.empty_like(X), max(1, ROWS // (3 * X.shape[2]))
    for piece, target in zip(torch.split(X, rows, 1), torch.split(Y, rows, 1), strict=True):
        target.copy_(piece.flip(-1))
    return Y


def middle(height: int, width: int, size: tuple[float, float]) -> Box:
    "The largest crop in the middle that has the shape of `size`: (upper, left, height, width)"
    share = min(height / size[0], width / size[1])
    h, w = max(1, round(share * size[0])), max(1, round(share * size[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def cropped(
    decode: Callable[[int], Pixels], shape: tuple[int, int], box: Box, size: tuple[int, int]
) -> torch.Tensor:
    """The part `box` of an image of this (height, width), scaled to `size`: uint8, 3×height×width.

    Bilinear and antialiased, as Pillow does it, by torch, which takes a fraction of the time where the
    colours of a pixel lie side by side. Where the crop is to become half as large or smaller, a JPEG is
    decoded so.
    """
    upper, left, h, w = box
    scale = next((by for by in SCALES if h >= by * size[0] and w >= by * size[1]), 1)
    pixels = decode(scale)
    if pixels.shape[:2] != shape:
        down, across = pixels.shape[0] / shape[0], pixels.shape[1] / shape[1]
        upper, left = round(upper * down), round(left * across)
        h, w = max(1, round(h * down)), max(1, round(w * across))
    # By NumPy, in this thread alone: torch would start threads of its own to copy, in each of ours, and gives
    # Python's lock away for each view, for which the next one then waits.
    pixels = numpy.ascontiguousarray(pixels[upper : upper + h, left : left + w])
    X = torch.from_numpy(pixels.reshape(1, *pixels.shape).transpose(0, 3, 1, 2))
    if X.shape[2:] != size:
        X = interpolate(X, size, mode="bilinear", antialias=True)
    return torch.from_numpy(X.numpy()[0])
