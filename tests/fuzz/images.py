# SPDX-License-Identifier: Apache-2.0
"""Damaged image files of every supported format, read by `read_image`."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tests.fuzz.harness import Campaign

from foveate.images.decoding import MAX_PIXELS
from foveate.images.reading import read_image

HEIGHT, WIDTH = 45, 61
# Lengths and sizes that overflow, contradict the data, or declare a huge image.
ODD_NUMBERS = (
    *(0, 1, 2, 3, 7, 127, 128, 255, 4095, 16000),
    *(32767, 65535, 1 << 24, 2**31 - 1, 2**32 - 1),
)


def _colors() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    return Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def _with_alpha() -> Image.Image:
    image = _colors()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _deep() -> Image.Image:
    return Image.fromarray(
        (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 23).astype(np.uint16)
    )


def _written(image: Image.Image, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        options["exif"] = exif
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _frames(kind: str, **options: object) -> bytes:
    later = [_colors().rotate(30 * number) for number in (1, 2)]
    return _written(_colors(), kind, save_all=True, append_images=later, **options)


def _jpegs() -> list[bytes]:
    colors = _colors()
    return [
        _written(colors, "JPEG", quality=90),
        _written(colors, "JPEG", progressive=True),
        _written(colors, "JPEG", subsampling=0, optimize=True),
        _written(colors, "JPEG", restart_marker_rows=1),
        _written(colors, "JPEG", progressive=True, restart_marker_blocks=2),
        _written(colors.convert("L"), "JPEG"),
        _written(colors.convert("CMYK"), "JPEG"),
        _frames("MPO"),
    ]


def _png(stored: np.ndarray, color_type: int, *, interlaced: bool = False) -> bytes:
    """Return a PNG of a kind that Pillow does not write, from (H, W, C) uint8 or uint16."""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
        ]
        passes.append((1, 0, 2, 1))
    parts = [stored[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(
        b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes()
        for part in parts
        if part.size
        for row in part
    )
    depth = 8 * stored.itemsize
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color_type, 0, 0, interlaced)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    checked = kind + body
    return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))


def _pngs() -> list[bytes]:
    colors, gray = _colors(), _colors().convert("L")
    palette = colors.quantize(16)
    rgba = np.asarray(_with_alpha())
    return [
        _written(colors, "PNG"),
        _written(_with_alpha(), "PNG"),
        _written(gray, "PNG", transparency=100),
        _written(_with_alpha().convert("LA"), "PNG"),
        _written(gray.convert("1"), "PNG"),
        _written(palette, "PNG", transparency=bytes(range(0, 240, 15))),
        _written(_deep(), "PNG"),
        _frames("PNG"),
        _png(rgba.astype(np.uint16) * 257, 6),
        _png(rgba[..., :3].astype(np.uint16) * 257, 2),
        _png(rgba, 6, interlaced=True),
        _png(rgba[..., :1], 0, interlaced=True),
    ]


def _webps() -> list[bytes]:
    alpha = _with_alpha()
    return [
        _written(_colors(), "WEBP"),
        _written(_colors(), "WEBP", lossless=True),
        _written(alpha, "WEBP"),
        _written(alpha, "WEBP", lossless=True),
        _frames("WEBP"),
    ]


def _gifs() -> list[bytes]:
    palette = _colors().quantize(32)
    return [
        _written(palette, "GIF"),
        _written(palette, "GIF", interlace=0, transparency=3),
        _written(_colors().convert("L"), "GIF"),
        _frames("GIF"),
    ]


def _tiled_tiff() -> bytes:
    """Return a TIFF with tiles of 32 x 32 pixels, which Pillow does not write."""
    tiles = [(top, left) for top in range(0, HEIGHT, 32) for left in range(0, WIDTH, 32)]
    whole = np.zeros((64, 64, 3), np.uint8)
    whole[:HEIGHT, :WIDTH] = np.asarray(_colors())
    bodies = [zlib.compress(whole[y : y + 32, x : x + 32].tobytes()) for y, x in tiles]
    after = 8 + 2 + 12 * 11 + 4
    lists = after + 6
    first = lists + 8 * len(bodies)
    places = [first + sum(map(len, bodies[:n])) for n in range(len(bodies))]
    count = len(bodies)
    entries = [(256, 3, 1, WIDTH), (257, 3, 1, HEIGHT), (258, 3, 3, after), (259, 3, 1, 8)]
    entries += [(262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 1), (322, 3, 1, 32), (323, 3, 1, 32)]
    entries += [(324, 4, count, lists), (325, 4, count, lists + 4 * count)]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    numbers = struct.pack("<3H", 8, 8, 8) + struct.pack(
        f"<{2 * count}I", *places, *map(len, bodies)
    )
    return head + numbers + b"".join(bodies)


def _tiffs() -> list[bytes]:
    colors, gray = _colors(), _colors().convert("L")
    packed = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return [
        *(_written(colors, "TIFF", compression=name) for name in packed),
        _written(gray.convert("1"), "TIFF", compression="group4"),
        _written(_with_alpha(), "TIFF", compression="tiff_lzw"),
        _written(_with_alpha().convert("LA"), "TIFF"),
        _written(colors.convert("CMYK"), "TIFF"),
        _written(colors.quantize(16), "TIFF"),
        _written(_deep(), "TIFF", tiffinfo={0x0112: 6}),
        _written(colors, "TIFF", big_tiff=True),
        _frames("TIFF"),
        _tiled_tiff(),
    ]


def _rle_bmp() -> bytes:
    """Return a BMP with run-length encoding, which Pillow does not write."""
    plain = _written(_colors().quantize(16), "BMP")
    offset = struct.unpack_from("<I", plain, 10)[0]
    body = b"".join(bytes([WIDTH, row % 16]) + b"\0\0" for row in range(HEIGHT)) + b"\0\1"
    head = bytearray(plain[:offset])
    struct.pack_into("<I", head, 2, offset + len(body))
    struct.pack_into("<II", head, 30, 1, len(body))
    return bytes(head) + body


def _bmps() -> list[bytes]:
    colors = _colors()
    return [
        _written(colors, "BMP"),
        _written(colors.quantize(16), "BMP"),
        _written(colors.convert("1"), "BMP"),
        _written(_with_alpha(), "BMP"),
        _rle_bmp(),
    ]


def _pnms() -> list[bytes]:
    gray = _colors().convert("L")
    plain = " ".join(map(str, np.asarray(gray).ravel()))
    return [
        _written(_colors(), "PPM"),
        _written(gray, "PPM"),
        _written(gray.convert("1"), "PPM"),
        _written(_deep(), "PPM"),
        f"P2\n# plain\n{WIDTH} {HEIGHT}\n255\n{plain}\n".encode(),
    ]


def _jp2s() -> list[bytes]:
    return [
        _written(_colors(), "JPEG2000"),
        _written(_with_alpha(), "JPEG2000", irreversible=True, quality_layers=[20]),
        _written(_deep(), "JPEG2000", no_jp2=True),
        _written(_colors(), "JPEG2000", tile_size=(32, 32)),
    ]


def _avifs() -> list[bytes]:
    return [
        _written(_colors(), "AVIF", speed=10),
        _written(_with_alpha(), "AVIF", speed=10),
        _written(_colors().convert("L"), "AVIF", speed=10),
    ]


_WRITERS: dict[str, Callable[[], list[bytes]]] = {
    "jpeg": _jpegs,
    "png": _pngs,
    "webp": _webps,
    "gif": _gifs,
    "tiff": _tiffs,
    "bmp": _bmps,
    "pnm": _pnms,
    "jp2": _jp2s,
    "avif": _avifs,
}


@functools.cache
def samples(kind: str) -> list[bytes]:
    """Return undamaged files of a format, one per kind."""
    return _WRITERS[kind]()


def _damaged(data: bytes, rng: np.random.Generator) -> bytes:
    for _ in range(rng.integers(1, 5)):
        if len(data) < 8:
            break
        data = _DAMAGES[rng.integers(len(_DAMAGES))](data, rng)
    return data


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 9)):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:first] if rng.random() < 0.5 else data[:first] + data[last:]


def _zeros(data: bytes, rng: np.random.Generator) -> bytes:
    place, count = rng.integers(len(data)), int(rng.integers(1, 300))
    return data[:place] + bytes(count) + data[place + count * int(rng.integers(2)) :]


def _swap(data: bytes, rng: np.random.Generator) -> bytes:
    a, b, c = sorted(rng.integers(len(data) + 1, size=3).tolist())
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:last] + data[first:last] + data[last:]


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a field with an odd number, in the header most of the time."""
    size = int(rng.choice([1, 2, 4]))
    end = len(data) if rng.random() < 0.3 else min(len(data), 160)
    place = int(rng.integers(max(1, end - size)))
    value = int(rng.choice(ODD_NUMBERS)) % (1 << 8 * size)
    return data[:place] + value.to_bytes(size, rng.choice(["big", "little"])) + data[place + size :]


_DAMAGES = (_flip, _cut, _zeros, _swap, _repeat, _number, _number)


def _check_sums(data: bytes) -> bytes:
    """Correct the checksums of the chunks of a PNG, so that their contents are decoded."""
    position, corrected = 8, bytearray(data)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", corrected, end, zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(corrected)


def _make(kind: str, rng: np.random.Generator, folder: Path) -> Path:
    intact = samples(kind)
    data = _damaged(intact[rng.integers(len(intact))], rng)
    if kind == "png" and rng.random() < 0.7:
        data = _check_sums(data)
    path = folder / f"damaged.{kind}"
    path.write_bytes(data)
    return path


def _use(path: Path) -> None:
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS
    assert image.flags.c_contiguous


CAMPAIGNS = tuple(
    Campaign(name=kind, make=functools.partial(_make, kind), use=_use) for kind in _WRITERS
)
