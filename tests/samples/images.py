# SPDX-License-Identifier: Apache-2.0
"""Images that tests write and read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tests.samples.paths import CAT

from foveate.arrays import UInt8Array
from foveate.images.reading import read_image


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def write_small_cat(file: Path) -> Path:
    """Write the cat of the package, 96x72 pixels, and return the file."""
    pixels = cv2.imread(str(CAT))
    assert pixels is not None
    assert cv2.imwrite(str(file), cv2.resize(pixels, (96, 72)))
    return file


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def encode_png(
    rows: bytes, size: tuple[int, int], depth: int, color_type: int, transparent: bytes = b""
) -> bytes:
    """Write a PNG of rows as they are stored, each after its filter type."""
    head = struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"tRNS", transparent), (b"IDAT", zlib.compress(rows))]
    kept = [(kind, body) for kind, body in chunks if body]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*one) for one in [*kept, (b"IEND", b"")])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def read(folder: Path, content: bytes, name: str = "image") -> np.ndarray:
    path = folder / name
    path.write_bytes(content)
    return read_image(path)


def square_image(
    height: int,
    width: int,
    box: tuple[int, int, int, int],
    color: tuple[int, int, int] = (255, 0, 0),
) -> UInt8Array:
    """Return a black image with one square xyxy."""
    image = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = color
    return image
