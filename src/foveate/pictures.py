# SPDX-License-Identifier: Apache-2.0
"""Reading pictures: any file that OpenCV decodes becomes (H, W, 3) uint8 RGB, upright.

Grey becomes three equal channels, 16 bits become 8, CMYK becomes RGB, alpha is blended with white
(what is transparent is often black or garbage underneath), and of an animation the first frame is
taken. Whatever cannot be read to its end is an error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from foveate.errors import InputError
from foveate.picture_headers import Header, read_header

if TYPE_CHECKING:
    from foveate.arrays import Array, Bytes

__all__ = ["MAX_PIXELS", "PICTURE_SUFFIXES", "as_picture", "find_pictures", "read_picture"]

MAX_PIXELS = 1 << 28  # 0.8 GB as RGB; a small file can claim far more
PICTURE_SUFFIXES = frozenset(
    [
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".ppm",
        ".pnm",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
_SILENT = 0


def as_picture(picture: Array | str | os.PathLike[str]) -> Bytes:
    """Return a picture as (H, W, 3) uint8 RGB in C order.

    Args:
        picture: A file, or such an array, which is not copied unless it has to be.

    Raises:
        InputError: It is neither.
    """
    if isinstance(picture, (str, os.PathLike)):
        return read_picture(picture)
    if not isinstance(picture, np.ndarray):
        raise InputError(
            f"a picture must be a path or a numpy array, found {type(picture).__name__}",
            remedy="convert it with numpy.asarray",
        )
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(
            "a picture must be a uint8 array of shape (H, W, 3) in RGB order, "
            f"found {picture.dtype} of shape {picture.shape}",
            remedy="convert it, or give the file",
        )
    if 0 in picture.shape:
        raise InputError(f"a picture needs at least one pixel, found shape {picture.shape}")
    return np.ascontiguousarray(picture)


def read_picture(path: str | os.PathLike[str]) -> Bytes:
    """Read a picture file as (H, W, 3) uint8 RGB, upright.

    Raises:
        InputError: The file is missing, empty, cut off, no picture, or too large. The text names
            the file.
    """
    data = _read_bytes(path)
    header = read_header(data)
    if not header.complete:
        raise InputError(
            "the picture is cut off", file=path, remedy="copy or download the file again"
        )
    if header.width is not None and header.height is not None:
        _check_size(header.width, header.height, path)
    picture = _decode(np.frombuffer(data, np.uint8), header)
    if picture is None:
        raise InputError(
            "the file is no picture that can be decoded",
            file=path,
            remedy="convert it to JPEG or PNG",
        )
    return picture


def find_pictures(paths: list[str]) -> list[Path]:
    """Replace each folder by the pictures in it, sorted by name; keep the files as they are.

    Raises:
        InputError: A folder holds no picture.
    """
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        inside = [p for p in inside if p.is_file() and not p.name.startswith(".")]
        if not inside:
            raise InputError(
                "the folder holds no pictures", file=path, remedy="give a folder of pictures"
            )
        found.extend(inside)
    return found


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError("there is no such file", file=path, remedy="check the path") from error
    except IsADirectoryError as error:
        raise InputError(
            "this is a folder, not a picture", file=path, remedy="give the pictures in it"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the file cannot be read ({reason})", file=path, remedy="check its permissions"
        ) from error
    if not data:
        raise InputError("the file is empty", file=path, remedy="copy or download the file again")
    return data


def _check_size(width: int, height: int, path: str | os.PathLike[str]) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(
            f"the picture has {width} x {height} pixels, more than the {MAX_PIXELS >> 20} "
            "million that are accepted",
            file=path,
            remedy="make it smaller",
        )


def _decode(data: Bytes, header: Header) -> Bytes | None:
    """Decode a file's content; None if OpenCV cannot."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(_SILENT)  # we say ourselves what is wrong, in one line
    try:
        if not header.may_have_alpha:
            return _decode_colour(data)
        stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if stored is None:
            return None
        if stored.ndim == 3 and stored.shape[2] == 4:
            blended = _blend(stored, premultiplied=header.premultiplied)
            return _upright(blended, header.orientation)
        return _decode_colour(data)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


def _decode_colour(data: Bytes) -> Bytes | None:
    """Decode without alpha: OpenCV turns the picture upright, and makes it BGR of 8 bits."""
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if picture is None:
        return None
    return cast("Bytes", cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture))


def _blend(stored: Array, *, premultiplied: bool) -> Bytes:
    """Blend (H, W, 4) BGR and alpha with white; 16 bits become 8."""
    if stored.dtype == np.uint16:
        premultiplied = False  # OpenCV leaves these as they are
        stored = (stored >> 8).astype(np.uint8)
    alpha = stored[..., 3:].astype(np.uint16)
    colour = cv2.cvtColor(stored, cv2.COLOR_BGRA2RGB)
    if premultiplied:
        return np.asarray(np.minimum(colour + (255 - alpha), 255), np.uint8)
    blended = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return blended.astype(np.uint8)


def _upright(picture: Bytes, orientation: int) -> Bytes:
    """Undo an EXIF orientation: mirror for even numbers below 5 and odd ones above, then turn."""
    if orientation >= 5:
        picture = picture.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)
