"""Pictures that tests write to disk, whole and damaged, and what is to be read from them."""

import io

import numpy as np
import torch
from PIL import Image, ImageOps

from feedgpu import Visit
from feedgpu.images import ImageDataset


def scene(height=48, width=64, seed=0):
    "Smooth colours with a little noise, so that neighbours are alike as in a photograph: H×W×3"
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 8, (height, width, 3))
    smooth = np.stack([x * 200 // width, y * 200 // height, (x + y) * 100 // (height + width)], 2)
    return (smooth + noise + 20).astype(np.uint8)


def save(image, file, *args, **kwargs):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, *args, **kwargs)
    return file


def one(file, size=None, seed=None, epoch=0):
    "The only sample of a dataset; by default in the size that it has"
    if size is None:
        with Image.open(file) as image:
            size = ImageOps.exif_transpose(image).size[::-1]
    dataset = ImageDataset([file.name], {file.name: 3}, file.parent, size, seed)
    X, y = dataset[0 if seed is None else Visit(0, epoch)]
    assert y == 3 and X.dtype == torch.uint8 and X.shape == (3, *size)
    return X.permute(1, 2, 0).numpy()


def reference(file):
    "Its pixels as Pillow decodes them: H×W×3"
    with Image.open(file) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def everything(loader):
    "{label: sample} of an epoch; each label is that of one sample"
    return {y: X for Xs, ys in loader for X, y in zip(Xs, ys.tolist(), strict=True)}


def bad_files():
    "{name: (content, a pattern of what is said of it)}"
    jpeg = io.BytesIO()
    Image.fromarray(scene(200, 200)).save(jpeg, "JPEG")
    png = io.BytesIO()
    Image.fromarray(scene(200, 200)).save(png, "PNG")
    floats = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(floats, "TIFF")
    deep = io.BytesIO()
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(deep, "TIFF")
    return {
        "truncated.jpg": (jpeg.getvalue()[: len(jpeg.getvalue()) // 2], "truncated"),
        "header.jpg": (jpeg.getvalue()[:20], "no image|truncated"),
        "truncated.png": (png.getvalue()[: len(png.getvalue()) // 2], "truncated|broken"),
        "empty.jpg": (b"", "it is empty"),
        "text.jpg": (b"<html>404</html>", "it holds no image"),
        "noise.png": (bytes(range(256)) * 10, "it holds no image"),
        "zeros.jpg": (b"\xff\xd8\xff" + bytes(1000), "no image|truncated|broken|marker"),
        "floats.tif": (floats.getvalue(), "no whole numbers"),
        "deep.tif": (deep.getvalue(), "more than 16 bits"),
    }
