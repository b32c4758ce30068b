# SPDX-License-Identifier: Apache-2.0
"""What the first bytes of a picture file say, and what its decoder would keep silent about.

OpenCV decodes pictures, but depending on its version it fills the missing part of a cut JPEG file
with grey, and it forgets the orientation when it is asked for the alpha channel. Both are read from
the file here. Formats other than JPEG, PNG and WebP are left to OpenCV.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Header", "read_header"]

_ORIENTATION = 0x0112
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # JPEG markers without a length
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says about its picture.

    Args:
        width: In pixels as stored, if known.
        height: In pixels as stored, if known.
        complete: False if the end of the picture is missing.
        orientation: 1 to 8 as in EXIF, for formats that may have alpha.
        may_have_alpha: False if no picture of this kind has an alpha channel.
        premultiplied: Whether OpenCV gives colours that are multiplied by alpha already.
    """

    width: int | None = None
    height: int | None = None
    complete: bool = True
    orientation: int = 1
    may_have_alpha: bool = True
    premultiplied: bool = False


def read_header(data: bytes) -> Header:
    """Read the header of the content of a picture file."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return Header(premultiplied=True)  # TIFF
    except (struct.error, IndexError):
        return Header(complete=False)
    return Header()


def _jpeg(data: bytes) -> Header:
    """Walk the segments; the picture is complete if its end marker is there."""
    position, width, height = 2, None, None
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
        elif marker == 0xD9:
            return Header(width=width, height=height, may_have_alpha=False)
        elif marker in _STANDALONE:
            position += 2
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            if marker in _SIZES:
                height, width = struct.unpack_from(">HH", data, position + 5)
            position += 2 + length
            if marker == 0xDA:
                end = _AFTER_SCAN.search(data, position)
                position = len(data) if end is None else end.start()
    return Header(width=width, height=height, complete=False)


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    orientation, complete, position = 1, False, 8
    alpha = data[25] in (4, 6)  # the colour types with an alpha channel
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        if kind == b"eXIf":
            orientation = _orientation(data[position + 8 : position + 8 + length])
        complete = complete or kind == b"IEND"
        alpha = alpha or kind == b"tRNS"
        position += 12 + length
    return Header(
        width=width,
        height=height,
        complete=complete,
        orientation=orientation,
        may_have_alpha=alpha,
    )


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    width, height, orientation, alpha = None, None, 1, False
    for kind, start, length in _webp_chunks(data):
        alpha = alpha or kind in (b"VP8L", b"ALPH", b"ANMF")
        if kind == b"VP8X":
            width = 1 + int.from_bytes(data[start + 4 : start + 7], "little")
            height = 1 + int.from_bytes(data[start + 7 : start + 10], "little")
        elif kind == b"EXIF":
            orientation = _orientation(data[start : start + length].removeprefix(b"Exif\0\0"))
    return Header(
        width=width,
        height=height,
        complete=len(data) >= size + 8,
        orientation=orientation,
        may_have_alpha=alpha,
    )


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position = 12
    while position + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, position + 4)
        yield data[position : position + 4], position + 8, length
        position += 8 + length + length % 2


def _orientation(exif: bytes) -> int:
    """Find the orientation in the TIFF structure of EXIF; 1 if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
