# SPDX-License-Identifier: Apache-2.0
"""Every kind of image that people have, written by Pillow and read by us."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.samples.images import encode, encode_png, read, smooth

from foveate.errors import InputError
from foveate.images.reading import as_image

Order = Literal["<", ">"]
LOSSLESS = ("PNG", "BMP", "TIFF", "WEBP")


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_images_are_read_exactly(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = smooth()
    assert np.array_equal(read(tmp_path, encode(Image.fromarray(image), kind, **options)), image)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_read_as_pillow_does(tmp_path: Path, progressive: bool) -> None:
    data = encode(Image.fromarray(smooth()), "JPEG", quality=92, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(read(tmp_path, data).astype(int) - expected).max() <= 2


def test_one_pixel(tmp_path: Path) -> None:
    one = np.array([[[3, 200, 77]]], np.uint8)
    assert np.array_equal(read(tmp_path, encode(Image.fromarray(one), "PNG")), one)


def test_a_very_wide_image(tmp_path: Path) -> None:
    wide = np.zeros((10, 16000, 3), np.uint8)
    assert read(tmp_path, encode(Image.fromarray(wide), "PNG")).shape == wide.shape


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_gray_becomes_three_equal_channels(tmp_path: Path, kind: str) -> None:
    gray = smooth()[..., 0]
    image = read(
        tmp_path, encode(Image.fromarray(gray), kind, **({"quality": 95} if kind == "JPEG" else {}))
    )
    assert image.shape == (48, 64, 3)
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0].astype(int) - gray).max() <= 6


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    image = read(tmp_path, encode(Image.fromarray(deep), "PNG"))
    assert image.dtype == np.uint8
    assert np.abs(image[..., 0] - deep / 257).max() <= 1


def test_sixteen_bits_with_alpha(tmp_path: Path) -> None:
    deep = np.full((4, 5, 4), 65535, np.uint16)
    deep[:, :, 0], deep[:, 2:, 3] = 0, 0  # OpenCV writes BGRA
    ok, data = cv2.imencode(".png", deep)
    assert ok
    image = read(tmp_path, data.tobytes())
    assert image[0, 0].tolist() == [255, 255, 0]
    assert image[0, 4].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_blended_with_white(tmp_path: Path, kind: str) -> None:
    image = np.dstack([smooth(), np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found = read(tmp_path, encode(Image.fromarray(image), kind, **options))
    share = image[..., 3:] / 255
    assert np.abs(found - (image[..., :3] * share + 255 * (1 - share))).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_colors_that_contain_their_alpha_are_not_multiplied_again(
    tmp_path: Path, mode: str
) -> None:
    alpha = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    stored = (smooth()[..., : len(mode) - 1] * (alpha / 255)[..., None]).astype(np.uint8)
    data = encode(Image.fromarray(np.dstack([stored, alpha]), mode), "TIFF")
    # The tag ExtraSamples: 1 stands for such colors, and Pillow writes 2.
    entry = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
    assert data.count(entry) == 1
    found = read(tmp_path, data.replace(entry, struct.pack("<HHIHH", 338, 3, 1, 1, 0)))
    assert np.abs(found - (stored + 255.0 - alpha[..., None])).max() <= 2


def test_gray_with_alpha_and_palettes(tmp_path: Path) -> None:
    opened = Image.fromarray(smooth())
    assert read(tmp_path, encode(opened.convert("LA"), "PNG")).shape == (48, 64, 3)
    palette = opened.convert("P")
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(read(tmp_path, encode(palette, "PNG")), expected)
    seen = read(tmp_path, encode(palette, "PNG", transparency=int(np.asarray(palette)[0, 0])))
    assert seen[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_is_converted_as_pillow_does(tmp_path: Path, transform: int) -> None:
    """2 marks the first three inks as luma and chroma (YCCK), as Photoshop stores them."""
    data = encode(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    mark = data.index(b"Adobe") + 11
    data = data[:mark] + bytes([transform]) + data[mark + 1 :]
    opened = Image.open(io.BytesIO(data))
    assert opened.mode == "CMYK"
    assert opened.info["adobe_transform"] == transform
    expected = np.asarray(opened.convert("RGB")).astype(int)
    assert np.abs(read(tmp_path, data) - expected).max() <= 2


TURNS = {
    1: lambda array: array,
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: array.swapaxes(0, 1)[:, ::-1],
    7: lambda array: array.swapaxes(0, 1)[::-1, ::-1],
    8: lambda array: array.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("MPO", "RGB"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("WEBP", "RGB"),
        ("WEBP", "RGBA"),
        ("TIFF", "RGB"),
        ("TIFF", "RGBA"),
        ("AVIF", "RGB"),
        ("AVIF", "RGBA"),
    ],
)
def test_an_image_is_turned_upright(tmp_path: Path, orientation: int, kind: str, mode: str) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    data = encode(Image.fromarray(smooth()).convert(mode), kind, exif=exif, **options)
    found, expected = read(tmp_path, data), TURNS[orientation](smooth())
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 3
    assert found.flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "WEBP", "AVIF"])
def test_gray_that_is_transparent_becomes_white(tmp_path: Path, kind: str) -> None:
    opened = Image.fromarray(smooth()).convert("LA")
    opened.putalpha(0)
    assert (read(tmp_path, encode(opened, kind)) == 255).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_gray_that_a_png_calls_transparent_becomes_white(tmp_path: Path, depth: int) -> None:
    values = np.arange(64) % (1 << min(depth, 6))
    bits = np.unpackbits(values.astype(">u2").view(np.uint8)).reshape(64, 16)[:, 16 - depth :]
    row = b"\0" + np.packbits(bits).tobytes()
    found = read(tmp_path, encode_png(row * 4, (64, 4), depth, 0, struct.pack(">H", 1)))
    top = (1 << depth) - 1
    expected = np.where(values == 1, 255, values * 255 // top if depth < 16 else values >> 8)
    assert np.array_equal(found, np.broadcast_to(expected[None, :, None], (4, 64, 3)))


@pytest.mark.parametrize("depth", [8, 16])
def test_the_color_that_a_png_calls_transparent_becomes_white(tmp_path: Path, depth: int) -> None:
    image = smooth()
    stored = image if depth == 8 else image.astype(">u2") << 8
    stored = stored.astype(">u2" if depth == 16 else np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in stored)
    transparent = struct.pack(">3H", *stored[0, 0].tolist())
    found = read(tmp_path, encode_png(rows, (64, 48), depth, 2, transparent))
    hidden = (image == image[0, 0]).all(-1)
    assert (found[hidden] == 255).all()
    assert np.array_equal(found[~hidden], image[~hidden])


def test_alpha_is_rounded_to_the_nearest(tmp_path: Path) -> None:
    colors, alpha = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    opened = Image.fromarray(np.dstack([colors] * 3 + [alpha]).astype(np.uint8))
    expected = np.floor((colors * alpha + 255 * (255 - alpha)) / 255 + 0.5)
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert np.array_equal(read(tmp_path, encode(opened, kind, **options))[..., 0], expected)


def test_lab_becomes_rgb(tmp_path: Path) -> None:
    opened = Image.fromarray(smooth())
    srgb, profile = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(opened, srgb, profile, outputMode="LAB")
    assert lab is not None
    found = read(tmp_path, encode(lab, "TIFF"))
    assert np.abs(found.astype(int) - smooth()).mean() < 8  # its white is another one


def test_luma_and_chroma_become_rgb(tmp_path: Path) -> None:
    found = read(tmp_path, encode(Image.fromarray(smooth()).convert("YCbCr"), "TIFF"))
    assert np.abs(found.astype(int) - smooth()).mean() < 3


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_of_unknown_range_are_refused(tmp_path: Path, mode: str) -> None:
    data = encode(Image.fromarray(smooth()).convert("L").convert(mode), "TIFF")
    with pytest.raises(InputError, match=r"32-bit numbers.*: convert it to 8 or 16 bits"):
        read(tmp_path, data)


def write_tiff(
    kind: type[np.number], order: Order, *, bits: int = 16, from_white: bool = False
) -> bytes:
    """Return a gray TIFF of 5 x 6 pixels."""
    values = (np.arange(30) * 1000 << bits >> 16).reshape(5, 6)
    if bits == 12:
        unpacked = values[..., None] >> np.arange(11, -1, -1) & 1
        stored = np.packbits(unpacked.reshape(5, -1).astype(np.uint8), axis=1).tobytes()
    else:
        stored = values.astype(np.dtype(kind).newbyteorder(order)).tobytes()
    sample_format = 2 if np.issubdtype(kind, np.signedinteger) else 1
    tags = {256: 6, 257: 5, 258: bits, 259: 1, 262: 0 if from_white else 1, 273: 134, 277: 1}
    tags |= {278: 5, 279: len(stored), 339: sample_format}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, n) for tag, n in tags.items())
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + struct.pack(f"{order}I", 0) + stored


@pytest.mark.parametrize(("kind", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_a_tiff_that_counts_from_white_is_inverted(
    tmp_path: Path, kind: type[np.number], bits: int
) -> None:
    data = write_tiff(kind, "<", bits=bits, from_white=True)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert expected is not None
    assert expected[0, 0] == 255
    assert np.array_equal(read(tmp_path, data), np.repeat(expected[..., None], 3, -1))


def test_a_big_endian_tiff_that_counts_from_white_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a kind of TIFF that cannot be decoded: .*: convert it"):
        read(tmp_path, write_tiff(np.uint16, ">", from_white=True))


def test_of_twelve_bits_the_eight_high_ones_are_taken(tmp_path: Path) -> None:
    data = write_tiff(np.uint16, "<", bits=12)
    scaled = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert scaled is not None
    assert scaled.max() == 29_000 >> 4 << 4
    assert np.array_equal(read(tmp_path, data), np.repeat(scaled[..., None] // 256, 3, -1))


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_numbers_are_refused_as_such(tmp_path: Path, order: Order) -> None:
    message = r"signed 16-bit numbers of unknown range: .*: convert them to unsigned numbers of 8"
    with pytest.raises(InputError, match=message):
        read(tmp_path, write_tiff(np.int16, order))


def test_a_format_that_pillow_knows_in_part_is_not_called_damaged(tmp_path: Path) -> None:
    done, data = cv2.imencode(".tiff", smooth().astype(np.float32))
    assert done
    with pytest.raises(InputError, match=r"a kind of TIFF that cannot be decoded: .*: convert it"):
        read(tmp_path, data.tobytes())


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_of_sixteen_bits_the_high_byte_is_taken(tmp_path: Path, kind: str) -> None:
    deep = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    found = read(tmp_path, encode(Image.fromarray(deep), kind))
    assert np.array_equal(found, np.repeat(deep[..., None] >> 8, 3, -1))


@pytest.mark.parametrize("size", [(1, 300_000), (300_000, 1), (1, 1)])
def test_images_of_any_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert np.array_equal(read(tmp_path, encode(Image.fromarray(image), "PNG")), image)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.full((48, 64, 3), v, np.uint8)) for v in (10, 100, 200)]
    options = {} if kind == "TIFF" else {"duration": 100}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    found = read(tmp_path, data)
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - 10).max() <= 1


def test_arrays_are_taken_as_they_are() -> None:
    image = smooth()
    assert as_image(image) is image
    turned = as_image(image[:, ::-1])
    assert turned.flags.c_contiguous
    assert np.array_equal(turned, image[:, ::-1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"found uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"found uint8 of shape \(4, 4, 4\)"),
        (np.zeros((3, 4, 4), np.uint8), r"found uint8 of shape \(3, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "found float32"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((4, 0, 3), np.uint8), "at least one pixel"),
        ([[1]], "found list"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_image(array)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (b"\xff\xd8", "pass the path of the file, or the array that a decoder makes of it"),
        (io.BytesIO(), "pass the path of the file, or the array that a decoder makes of it"),
        (None, r"pass the path of a file, or a uint8 array of shape \(H, W, 3\) in RGB order"),
        ({}, r"pass the path of a file, or a uint8 array of shape \(H, W, 3\) in RGB order"),
        (Image.new("RGB", (2, 3)), r"convert it with numpy.asarray to a uint8 array of shape \(H,"),
    ],
)
def test_what_is_no_image_is_refused_with_what_helps(value: Any, remedy: str) -> None:
    message = f"a path or a numpy array, found {type(value).__name__}: {remedy}"
    with pytest.raises(InputError, match=message):
        as_image(value)
