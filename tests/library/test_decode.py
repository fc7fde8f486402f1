"""feedgpu/decode.py: right pixels, or a sentence with ID and file; with simplejpeg, and without it."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from pictures_on_disk import one, reference, save, scene
from PIL import Image, features

from feedgpu import DatasetError, decode
from feedgpu.decode import decoder_of, middle
from feedgpu.images import ImageDataset
from feedgpu.notation import Shortage

# Files of all kinds


@pytest.mark.parametrize(
    "name", ["a.jpg", "a b.jpg", "Ünïcode 雪.JPG", "deep/er/a.jpeg", "a.b.c.jpg", "no_suffix"]
)
def test_names_of_all_kinds(tmp_path, decoder, name):
    save(scene(), tmp_path / name, "JPEG")
    (X, _), *_ = ImageDataset([name], {name: 0}, tmp_path, (48, 64))
    assert np.array_equal(X.permute(1, 2, 0), reference(tmp_path / name))


def jpegs():
    image = Image.fromarray(scene())
    yield "grey", image.convert("L"), {}
    yield "CMYK", image.convert("CMYK"), {}
    yield "progressive", image, {"progressive": True}
    yield "444", image, {"subsampling": 0}
    yield "no YCbCr", image, {"keep_rgb": True}


@pytest.mark.parametrize(
    ("kind", "image", "how"), list(jpegs()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_jpegs_of_all_kinds(tmp_path, decoder, kind, image, how):
    file = save(image, tmp_path / "a.jpg", quality=90, **how)
    assert np.array_equal(one(file), reference(file))


def others():
    image = Image.fromarray(scene())
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        yield f"{mode}.png", image.convert(mode)
    yield "a PNG named so.jpg", image
    yield "photo.webp", image
    yield "scan.tif", image
    yield "frames.gif", image.convert("P")
    yield "bits.bmp", image


@pytest.mark.parametrize(
    ("name", "image"), list(others()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_other_kinds(tmp_path, decoder, name, image):
    how = {"format": "PNG"} if "PNG" in name else {"lossless": True} if "webp" in name else {}
    file = save(image, tmp_path / name, **how)
    assert np.array_equal(one(file), reference(file))


def test_a_palette_with_transparency(tmp_path, decoder):
    image = Image.fromarray(scene()).convert("P")
    file = save(image, tmp_path / "a.png", transparency=bytes(range(256)))
    with Image.open(file) as opened_again:
        expected = np.asarray(opened_again.convert("RGBA"))[..., :3]
    assert np.array_equal(one(file), expected)


def png_of_16_bits(values, colour_type):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_greys_of_16_bits_are_divided_by_257(tmp_path, decoder):
    values = np.arange(65_536).reshape(256, 256)
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values, 0))
    X = one(tmp_path / "a.png", (256, 256))
    assert np.array_equal(X, np.repeat(np.round(values / 257).astype(np.uint8)[..., None], 3, 2))
    save(values.astype(np.uint16), tmp_path / "a.tif")
    assert np.array_equal(one(tmp_path / "a.tif", (256, 256)), X)


def test_colours_of_16_bits_are_off_by_one_level_at_most(tmp_path, decoder):
    values = np.random.default_rng(0).integers(0, 65_536, (40, 50, 3))
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values, 2))
    assert abs(one(tmp_path / "a.png", (40, 50)) - np.round(values / 257)).max() <= 1


def test_a_grey_of_16_bits_is_turned_too(tmp_path, decoder):
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 6
    values = (np.arange(6 * 9).reshape(6, 9) * 1000).astype(np.uint16)
    file = save(values, tmp_path / "a.tif", exif=exif)
    assert np.array_equal(one(file, (9, 6))[..., 0], np.rot90(np.round(values / 257), -1))


def test_a_tiff_whose_white_is_zero(tmp_path, decoder):
    values = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    file = save(values * 20, tmp_path / "a.tif", tiffinfo={262: 0})
    assert np.array_equal(one(file, (48, 64))[..., 0], 255 - np.round(values * 20 / 257))


def tiff_of_12_bits(values):
    "Greys, uncompressed, two of them in three bytes"
    height, width = values.shape
    first, second = values.reshape(-1, 2).T
    data = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    listed = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + listed


def test_a_tiff_of_12_bits(tmp_path, decoder):
    values = np.arange(64 * 64).reshape(64, 64)
    (tmp_path / "a.tif").write_bytes(tiff_of_12_bits(values))
    assert np.array_equal(one(tmp_path / "a.tif", (64, 64))[..., 0], np.round(values / 4095 * 255))


@pytest.mark.parametrize("held", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_images_are_turned_as_their_camera_says(tmp_path, decoder, suffix, held):
    exif = Image.Exif()
    exif[decode.ORIENTATION] = held
    file = save(scene(40, 64), tmp_path / f"a.{suffix}", exif=exif)
    expected = reference(file)
    assert expected.shape[:2] == ((64, 40) if held >= 5 else (40, 64))
    assert np.array_equal(one(file), expected)
    # and scaled in decoding, where the crop is to be half as large or less
    small = one(file, (expected.shape[0] // 4, expected.shape[1] // 4)).astype(int)
    like = Image.fromarray(expected).resize(small.shape[1::-1], Image.Resampling.BILINEAR)
    assert abs(small - np.asarray(like)).mean() < 4


@pytest.mark.parametrize("before", ["nothing", "a colour profile", "a comment", "padding"])
def test_the_camera_is_found_behind_other_segments(tmp_path, decoder, before):
    "As Pillow finds it; a comment in front hides it from neither"
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 6
    file = save(scene(40, 64), tmp_path / "a.jpg", exif=exif)
    data = file.read_bytes()
    if before == "padding":
        file.write_bytes(data[:2] + b"\xff\xff" + data[2:])
    elif before != "nothing":
        kind, content = (
            (b"\xff\xe2", b"ICC_PROFILE\0" + bytes(60_000)) if "profile" in before else (b"\xff\xfe", b"hm")
        )
        data = data[:2] + kind + (len(content) + 2).to_bytes(2) + content + data[2:]
        file.write_bytes(data)
    assert np.array_equal(one(file), reference(file))


def test_the_camera_in_xmp_counts_too(tmp_path, decoder):
    data = save(scene(40, 64), tmp_path / "a.jpg").read_bytes()
    xmp = (
        b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'tiff:Orientation="6" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/></rdf:RDF></x:xmpmeta>'
    )
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xe1" + (len(xmp) + 2).to_bytes(2) + xmp + data[2:])
    expected = reference(tmp_path / "a.jpg")
    assert expected.shape == (64, 40, 3) and np.array_equal(one(tmp_path / "a.jpg"), expected)


def test_the_size_is_said_before_decoding(tmp_path, decoder):
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 8
    file = save(scene(40, 64), tmp_path / "a.jpg", exif=exif)
    height, width, decoded = decoder_of(file.read_bytes())
    assert (height, width) == (64, 40) and decoded(2).shape == (32, 20, 3)


# Parts of them, scaled


def test_one_pixel_fills_everything(tmp_path, decoder):
    file = save(np.full((1, 1, 3), [9, 200, 77], np.uint8), tmp_path / "a.png")
    for seed in (None, 0):
        assert (one(file, (5, 7), seed) == [9, 200, 77]).all()


@pytest.mark.parametrize("shape", [(300, 2), (2, 300), (1, 500), (33, 31)])
def test_shapes_of_all_kinds(tmp_path, decoder, shape):
    file = save(scene(*shape), tmp_path / "a.jpg", quality=95)
    for seed in (None, *range(20)):
        one(file, (16, 16), seed)


@pytest.mark.parametrize("shape", [(48, 64), (224, 224), (250, 301), (640, 560), (901, 1203)])
def test_the_crop_in_the_middle_is_pillows(tmp_path, decoder, shape):
    "Where nothing is scaled in decoding, to a level; else to what decoding small costs"
    file = save(scene(*shape), tmp_path / "a.jpg", quality=95)
    upper, left, h, w = middle(*shape, (40, 56))
    with Image.open(file) as image:
        expected = image.resize((56, 40), Image.Resampling.BILINEAR, box=(left, upper, left + w, upper + h))
    off = abs(one(file, (40, 56)).astype(int) - np.asarray(expected))
    scaled = h >= 80
    assert off.max() <= (12 if scaled else 2) and off.mean() < (2.5 if scaled else 0.1)


def test_the_crop_in_the_middle():
    assert middle(100, 300, (50, 50)) == (0, 100, 100, 100)
    assert middle(300, 100, (10, 20)) == (125, 0, 50, 100)
    assert middle(1, 1, (224, 224)) == (0, 0, 1, 1)


@pytest.mark.skipif(decode.simplejpeg is None, reason="simplejpeg is not installed")
@pytest.mark.parametrize("shape", [(256, 256), (641, 563), (97, 1999), (8, 8), (15, 17)])
@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_both_decoders_give_the_same_pixels(tmp_path, monkeypatch, shape, seed):
    for subsampling in (0, 1, 2):
        file = save(scene(*shape), tmp_path / f"{subsampling}.jpg", quality=85, subsampling=subsampling)
        fast = one(file, (32, 32), seed)
        with monkeypatch.context() as patch:
            patch.setattr(decode, "simplejpeg", None)
            assert np.array_equal(one(file, (32, 32), seed), fast)


def test_simplejpeg_is_used_where_it_is_there(tmp_path, monkeypatch):
    if decode.simplejpeg is None:
        pytest.skip("simplejpeg is not installed")
    file = save(scene(), tmp_path / "a.jpg")
    monkeypatch.setattr(decode, "open_image", None)
    one(file, (16, 16))


def test_torch_sees_that_colours_lie_side_by_side(tmp_path, decoder, monkeypatch):
    "By all strides, that of the batch too: `is_contiguous` says yes to more, for which torch takes longer"
    file, seen = save(scene(100, 120), tmp_path / "a.jpg"), []
    monkeypatch.setattr(
        decode, "interpolate", lambda X, *a, **b: seen.append(X.stride()) or X[:, :, :60, :60]
    )
    for seed, stride in [(None, (100 * 100 * 3, 1, 300, 3)), (0, None)]:
        one(file, (60, 60), seed)
        batch, colour, row, column = seen[-1]
        assert stride in (None, seen[-1]) and (colour, column) == (1, 3) and batch % row == 0 < batch


# Bad files


def test_what_can_be_decoded_to_its_end_is_no_error(tmp_path, decoder):
    "Bytes behind the end, as some cameras write them"
    jpeg = io.BytesIO()
    Image.fromarray(scene()).save(jpeg, "JPEG")
    (tmp_path / "a.jpg").write_bytes(jpeg.getvalue() + b"more" * 100)
    assert np.array_equal(one(tmp_path / "a.jpg"), reference(tmp_path / "a.jpg"))


@pytest.mark.skipif(decode.simplejpeg is None, reason="Pillow is silent about it")
def test_damage_in_the_middle_is_an_error(tmp_path):
    data = save(scene(200, 200), tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    with pytest.raises(DatasetError, match="a part of its data is missing or damaged"):
        one(tmp_path / "a.jpg", (8, 8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, decoder, kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    file = save(scene(40, 51), tmp_path / "a", kind)
    with pytest.raises(DatasetError, match="sample 'a': .*decompression bomb"):
        one(file, (8, 8))


@pytest.mark.parametrize(("kind", "mode", "options"), [("GIF", "P", {}), ("WEBP", "RGB", {"lossless": True})])
def test_many_pixels_in_few_bytes_are_refused_before_they_are_decoded(tmp_path, decoder, kind, mode, options):
    data = io.BytesIO()
    Image.new(mode, (5800, 5800)).save(data, kind, **options)
    (tmp_path / "a").write_bytes(data.getvalue())
    with pytest.raises(DatasetError, match="5,800×5,800 pixels in .* bytes: .* decompression bomb"):
        one(tmp_path / "a", (8, 8))
    (tmp_path / "a").write_bytes(data.getvalue() + bytes(5800 * 5800 // 100))
    assert one(tmp_path / "a", (8, 8)).shape == (8, 8, 3)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_damaged_avif_is_a_sentence(tmp_path, decoder):
    "For which Pillow raises RuntimeError, as for a mistake"
    file = save(scene(), tmp_path / "a.avif", quality=90)
    file.write_bytes(file.read_bytes().replace(b"av01", b"av00"))
    with pytest.raises(DatasetError, match="^sample 'a.avif': .* cannot be read: .* \\(RuntimeError\\)$"):
        one(file, (8, 8))


@pytest.mark.parametrize(("where", "kind"), [("open_image", "PNG"), ("as_seen", "PNG"), ("as_seen", "JPEG")])
@pytest.mark.parametrize(
    "error",
    [RuntimeError, KeyError, IndexError, TypeError, SyntaxError, struct.error, Image.DecompressionBombError],
)
def test_whatever_pillow_raises_for_a_file_tells_of_the_file(tmp_path, monkeypatch, where, kind, error):
    def fail(_):
        raise error("torn")

    file = save(scene(), tmp_path / "a", kind)
    monkeypatch.setattr(decode, "simplejpeg", None)
    monkeypatch.setattr(decode, where, fail)
    with pytest.raises(DatasetError, match=f"^sample 'a': .* cannot be read: .*torn.*{error.__name__}"):
        one(file, (8, 8))


@pytest.mark.parametrize(("error", "told"), [(MemoryError, Shortage), (KeyboardInterrupt, KeyboardInterrupt)])
def test_what_does_not_tell_of_the_file_is_not_blamed_on_it(tmp_path, monkeypatch, error, told):
    def fail(_):
        raise error

    file = save(scene(), tmp_path / "a.png")
    monkeypatch.setattr(decode, "open_image", fail)
    with pytest.raises(told):
        one(file, (8, 8))


def test_no_program_is_started_for_a_file(tmp_path, decoder):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(DatasetError, match="it holds no image of the kinds that are read"):
        one(tmp_path / "a.jpg", (8, 8))


def test_a_jpeg_of_countless_scans_is_refused(tmp_path, decoder):
    data = save(scene(), tmp_path / "a.jpg", progressive=True).read_bytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(data[:-2] + scan * 1000 + data[-2:])
    with pytest.raises(DatasetError, match="more than 500 scans"):
        one(tmp_path / "a.jpg", (8, 8))


def scan_by_scan(height, width, scans):
    "A black JPEG, not progressive, whose colours come in scans of their own, the first one `scans` times"

    def segment(marker, content):
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    table = bytes([1, *[0] * 15, 0])
    data = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC0, frame)
    data += segment(0xC4, b"\x00" + table + b"\x10" + table)
    for colour in [1] * scans + [2, 3]:
        data += segment(0xDA, bytes([1, colour, 0, 0, 63, 0])) + b"\0"
    return data + b"\xff\xd9"


def test_scans_are_counted_where_they_are_not_progressive_too(tmp_path, decoder):
    (tmp_path / "a.jpg").write_bytes(scan_by_scan(64, 64, 600))
    with pytest.raises(DatasetError, match="more than 500 scans"):
        one(tmp_path / "a.jpg", (8, 8))
    assert not decode.is_plain(scan_by_scan(64, 64, 1))
    assert decode.is_plain(save(scene(), tmp_path / "b.jpg").read_bytes())
    assert decode.is_plain(save(scene()[..., 0], tmp_path / "b.jpg").read_bytes())
    assert not decode.is_plain(save(scene(), tmp_path / "b.jpg", progressive=True).read_bytes())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DatasetError, match="it is a pipe"):
        one(tmp_path / "a.jpg", (8, 8))
