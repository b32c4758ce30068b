# SPDX-License-Identifier: Apache-2.0
"""Every kind of picture that people have, written by Pillow and read by us."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from foveate.errors import InputError
from foveate.pictures import MAX_PIXELS, as_picture, find_pictures, read_picture

LOSSLESS = ("PNG", "BMP", "TIFF", "WEBP")


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def read(tmp_path: Path, content: bytes, name: str = "picture") -> np.ndarray:
    path = tmp_path / name
    path.write_bytes(content)
    return read_picture(path)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_pictures_are_read_exactly(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = smooth()
    assert np.array_equal(
        read(tmp_path, encode(Image.fromarray(picture), kind, **options)), picture
    )


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_read_as_pillow_does(tmp_path: Path, progressive: bool) -> None:
    data = encode(Image.fromarray(smooth()), "JPEG", quality=92, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(read(tmp_path, data).astype(int) - expected).max() <= 2


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*gone\.jpg: check the path"):
        read_picture(tmp_path / "gone.jpg")


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is empty: .*empty\.jpg: copy or download"):
        read(tmp_path, b"", "empty.jpg")


def test_a_text_file_by_the_name_of_a_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no picture that can be decoded: .*notes\.jpg: convert"):
        read(tmp_path, b"milk, bread and butter\n" * 20, "notes.jpg")


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is a folder"):
        read_picture(tmp_path)


def test_a_name_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_picture(f"{tmp_path}/a\0b")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_picture_is_an_error(
    tmp_path: Path, kind: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(InputError, match=r"cut off|no picture that can be decoded"):
        read(tmp_path, data[: int(share * len(data))])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_jpeg_is_named_so_whatever_the_decoder_does(
    tmp_path: Path, share: float, progressive: bool
) -> None:
    data = encode(Image.fromarray(smooth(200, 300)), "JPEG", progressive=progressive)
    with pytest.raises(InputError, match=r"cut off: .*holiday\.jpg: copy or download"):
        read(tmp_path, data[: int(share * len(data))], "holiday.jpg")


def test_a_jpeg_with_a_thumbnail_and_a_tail_is_complete(tmp_path: Path) -> None:
    inner = encode(Image.fromarray(smooth(16, 16)), "JPEG")
    data = encode(Image.fromarray(smooth()), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner
    with_thumbnail = data[:2] + segment + data[2:]
    assert read(tmp_path, with_thumbnail + b"trailing bytes").shape == (48, 64, 3)
    with pytest.raises(InputError, match="cut off"):
        read(tmp_path, with_thumbnail[:-20])


def test_one_pixel(tmp_path: Path) -> None:
    one = np.array([[[3, 200, 77]]], np.uint8)
    assert np.array_equal(read(tmp_path, encode(Image.fromarray(one), "PNG")), one)


def test_a_very_wide_picture(tmp_path: Path) -> None:
    wide = np.zeros((10, 16000, 3), np.uint8)
    assert read(tmp_path, encode(Image.fromarray(wide), "PNG")).shape == wide.shape


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, kind: str) -> None:
    grey = smooth()[..., 0]
    picture = read(
        tmp_path, encode(Image.fromarray(grey), kind, **({"quality": 95} if kind == "JPEG" else {}))
    )
    assert picture.shape == (48, 64, 3)
    assert (picture == picture[..., :1]).all()
    assert np.abs(picture[..., 0].astype(int) - grey).max() <= 6


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    picture = read(tmp_path, encode(Image.fromarray(deep), "PNG"))
    assert picture.dtype == np.uint8
    assert np.abs(picture[..., 0] - deep / 257).max() <= 1


def test_sixteen_bits_with_alpha(tmp_path: Path) -> None:
    deep = np.full((4, 5, 4), 65535, np.uint16)
    deep[:, :, 0], deep[:, 2:, 3] = 0, 0  # OpenCV writes BGRA
    ok, data = cv2.imencode(".png", deep)
    assert ok
    picture = read(tmp_path, data.tobytes())
    assert picture[0, 0].tolist() == [255, 255, 0]
    assert picture[0, 4].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_blended_with_white(tmp_path: Path, kind: str) -> None:
    picture = np.dstack([smooth(), np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found = read(tmp_path, encode(Image.fromarray(picture, "RGBA"), kind, **options))
    share = picture[..., 3:] / 255
    assert np.abs(found - (picture[..., :3] * share + 255 * (1 - share))).max() <= 1


def test_grey_with_alpha_and_palettes(tmp_path: Path) -> None:
    image = Image.fromarray(smooth())
    assert read(tmp_path, encode(image.convert("LA"), "PNG")).shape == (48, 64, 3)
    palette = image.convert("P")
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(read(tmp_path, encode(palette, "PNG")), expected)
    seen = read(tmp_path, encode(palette, "PNG", transparency=int(np.asarray(palette)[0, 0])))
    assert seen[0, 0].tolist() == [255, 255, 255]


def test_cmyk_is_converted_as_pillow_does(tmp_path: Path) -> None:
    data = encode(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    image = Image.open(io.BytesIO(data))
    assert image.mode == "CMYK"
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(read(tmp_path, data) - expected).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("WEBP", "RGB"),
        ("WEBP", "RGBA"),
        ("TIFF", "RGB"),
    ],
)
def test_exif_orientation_is_honoured(
    tmp_path: Path, orientation: int, kind: str, mode: str
) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(image, kind, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    found = read(tmp_path, data)
    assert found.shape == np.asarray(upright).shape
    assert np.abs(found.astype(int) - np.asarray(upright)).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.full((48, 64, 3), v, np.uint8)) for v in (10, 100, 200)]
    options = {} if kind == "TIFF" else {"duration": 100}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    found = read(tmp_path, data)
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - 10).max() <= 1


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_small_file_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"30000 x 30000 pixels, more than the 256 million"):
        read(tmp_path, bomb(30_000, 30_000))
    assert MAX_PIXELS < 30_000**2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path, kind: str) -> None:
    data = bytearray(encode(Image.fromarray(smooth()), kind))
    rng = np.random.default_rng(3)
    for _ in range(60):
        damaged = data.copy()
        for place in rng.integers(0, len(data), 4):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(InputError):
            assert read(tmp_path, bytes(damaged)).ndim == 3


def test_a_folder_gives_its_pictures_by_name(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "d.jpg").mkdir()
    found = find_pictures([str(tmp_path), "other.jpg"])
    assert [path.name for path in found] == ["a.png", "b.JPG", "c.webp", "other.jpg"]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no pictures"):
        find_pictures([str(tmp_path)])


def test_arrays_are_taken_as_they_are() -> None:
    picture = smooth()
    assert as_picture(picture) is picture
    turned = as_picture(picture[:, ::-1])
    assert turned.flags.c_contiguous
    assert np.array_equal(turned, picture[:, ::-1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"found uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"found uint8 of shape \(4, 4, 4\)"),
        (np.zeros((3, 4, 4), np.uint8), r"found uint8 of shape \(3, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "found float32"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        ([[1]], "found list"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_picture(array)
