# SPDX-License-Identifier: Apache-2.0
"""Decoding opened files: the content of a file becomes (H, W, 3) uint8 RGB, upright.

Pillow reads all headers and decodes all formats except two. Where JPEG data are damaged, libjpeg
continues with gray and counts a warning that Pillow does not report; simplejpeg does, so it decodes
JPEG. For WebP, Pillow allocates several canvases (16 bytes per pixel in total), so OpenCV decodes
still images after Pillow has checked their headers.
"""

import io
import itertools
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from foveate.arrays import Array, UInt8Array
from foveate.errors import InputError
from foveate.system.native_code import native_code

MAX_PIXELS = 1 << 28  # 0.8 GB as RGB; the header of a small file can claim far more

# Formats of photographs. Pillow has more, such as EPS, for which it starts Ghostscript.
_READERS: tuple[type[ImageFile.ImageFile], ...] = (
    *(JpegImageFile, PngImageFile, WebPImageFile, TiffImageFile, GifImageFile),
    *(BmpImageFile, PpmImageFile, Jpeg2KImageFile, AvifImageFile),
)
SUFFIXES = frozenset(
    [suffix for suffix, name in Image.EXTENSION.items() if name in {r.format for r in _READERS}]
    + [".dib", ".mpo", ".pjpeg"]
)
_SIGNS = np.array([0, 128, 128], np.uint8)
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # OpenCV's codes; from 5 on, after a transposition
_HARMLESS = ("Invalid SOS parameters", "Warning: unknown JFIF", "Unknown Adobe color transform")
_UNSUPPORTED = ("unknown pixel mode", "unknown data organization", "Unsupported BMP")
_TILE = 1 << 17  # pixels: a conversion then needs less than 4 MB besides the image


class TooManyPixelsError(InputError):
    """An image has more pixels than are accepted."""


@native_code()
def decode(file: BinaryIO, *, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Decode an opened file, which must allow seeking.

    Args:
        file: The file.
        max_pixels: Largest number of pixels, which is checked before memory is taken for them.

    Raises:
        TooManyPixelsError: The image has more than ``max_pixels``, or than Pillow accepts.
        InputError: The format is not supported, or the image is damaged or truncated. The text does
            not name the file.
    """
    reader = None
    try:
        reader = _reader(file)
        if reader is None:
            raise InputError(
                "the file is not an image that can be decoded", remedy="convert it to JPEG or PNG"
            )
        if reader is JpegImageFile:
            return _decode_jpeg(file, max_pixels)
        opened = reader(file)
        _check_size(*opened.size, max_pixels)
        if isinstance(opened, WebPImageFile) and opened.n_frames == 1:
            orientation = _orientation(opened.getexif)
            del opened  # with its canvases
            image = _decode_webp(file, max_pixels)
        else:
            image = _decode_other(file, opened, max_pixels)
            orientation = _orientation(opened.getexif)  # a PNG may store it after the pixels
            del opened
        return _upright(image, orientation)
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # of a WebP, or of a frame larger than its GIF
        numbers = str(error).partition(",")[0]
        what = f"the image has more pixels than Pillow accepts ({numbers})"
        remedy = "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS"
        raise TooManyPixelsError(what, remedy=remedy) from error
    except Exception as error:
        what, remedy = "the image is damaged or truncated", "copy or download the file again"
        if reader is not None and str(error).startswith(_UNSUPPORTED):
            what = f"the file is a kind of {reader.format} that cannot be decoded"
            remedy = "convert it to a JPEG, or to a PNG of 8 or 16 bits"
        elif isinstance(error, MemoryError):
            what, remedy = "there is not enough memory for the image", "make it smaller"
        raise InputError(what, remedy=remedy) from error


def _reader(file: BinaryIO) -> type[ImageFile.ImageFile] | None:
    """Find the format by the first bytes; `Image.open` would apply Pillow's own limit of pixels."""
    prefix = file.read(16)
    file.seek(0)
    for reader in _READERS:
        _, accept = Image.OPEN[str(reader.format)]
        if accept is not None and accept(prefix) is True:
            return reader
    return None


def _check_size(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise TooManyPixelsError(
            f"the image has {width} x {height} pixels, more than the {most:,} that are accepted",
            remedy="make it smaller",
        )


def _orientation(read_exif: Callable[[], Image.Exif]) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none that Pillow can read."""
    try:
        value: object = read_exif().get(0x0112)
    except Exception:  # noqa: BLE001 - the pixels may be intact, whatever Pillow raises on the EXIF data
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: UInt8Array, orientation: int) -> UInt8Array:
    if orientation >= 5:
        image = cast("UInt8Array", cv2.transpose(image))
    if orientation in _FLIPS:
        cv2.flip(image, _FLIPS[orientation], dst=image)
    return image


def _decode_jpeg(file: BinaryIO, max_pixels: int) -> UInt8Array:
    file.seek(0)
    data = file.read()
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height, max_pixels)
    try:
        image = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        if not str(error).startswith(_HARMLESS):
            raise
        image = simplejpeg.decode_jpeg(data, "RGB", strict=False)
    return _upright(image, _orientation(lambda: JpegImageFile(io.BytesIO(data)).getexif()))


def _decode_webp(file: BinaryIO, max_pixels: int) -> UInt8Array:
    file.seek(0)
    image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise OSError
    height, width, channels = image.shape
    _check_size(width, height, max_pixels)
    if channels == 4:
        bgra = Image.frombuffer("RGBA", (width, height), image, "raw", "RGBA", 0, 1)
        image = _rgb(bgra)  # all channels are blended alike
        del bgra
    return cast("UInt8Array", cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image))


def _decode_other(file: BinaryIO, opened: ImageFile.ImageFile, max_pixels: int) -> UInt8Array:
    _scale_transparency(opened)
    if isinstance(opened, TiffImageFile):  # whose load() would apply Pillow's own limit of pixels
        sizes = np.array([tile[1] for tile in opened.tile])
        opened.im = Image.new(opened.mode, (*sizes[:, 2:].max(0).tolist(),), None).im
    if isinstance(opened, PngImageFile):
        _load_png(file, opened)
    else:
        opened.load()
    _check_size(*opened.size, max_pixels)
    return _rgb(opened)


def _load_png(file: BinaryIO, opened: PngImageFile) -> None:
    """Load a PNG, and raise OSError if its last rows or its end are missing.

    Pillow leaves missing rows unchanged. The last two rows, one of which is the last to be decoded
    even in an interlaced PNG, are therefore filled with noise beforehand.
    """
    width, height = opened.size
    last = (0, max(0, height - 2), width, height)
    noise = Image.effect_noise((width, last[3] - last[1]), 100).convert(opened.mode)
    canvas = Image.new(opened.mode, opened.size, None)
    canvas.paste(noise, last)
    opened.im = canvas.im
    opened.load()
    same = np.asarray(opened.crop(last)) == np.asarray(noise)
    # A short row could equal the noise by chance.
    if width >= 64 and same.reshape(len(same), -1).all(1).any():
        raise OSError
    file.seek(-4, io.SEEK_CUR)
    if file.read(4) not in (b"IEND", b"fcTL"):
        raise OSError


def _scale_transparency(opened: ImageFile.ImageFile) -> None:
    """Scale the transparent color of a PNG as Pillow scales the pixels."""
    color = opened.info.get("transparency")
    if color is None or not isinstance(opened, PngImageFile):
        return
    stored = opened.tile[0][3]
    if stored == "RGB;16B":
        opened.info["transparency"] = tuple(value >> 8 for value in color)
    elif stored in ("L;2", "L;4"):
        opened.info["transparency"] = color * (85 if stored == "L;2" else 17)


def _rgb(opened: Image.Image) -> UInt8Array:
    """Convert a decoded image tile by tile, so that all temporary arrays are small."""
    width, height = opened.size
    bits = _gray_bits(opened)
    columns = min(width, _TILE)
    rows = _TILE // columns
    image = np.empty((height, width, 3), np.uint8)
    for top, left in itertools.product(range(0, height, rows), range(0, width, columns)):
        right, bottom = min(left + columns, width), min(top + rows, height)
        image[top:bottom, left:right] = _tile(opened.crop((left, top, right, bottom)), bits)
    # Pillow ignores WhiteIsZero where a pixel has 16 bits.
    if bits == 16 and _tiff_tag(opened, PHOTOMETRIC_INTERPRETATION) == 0:
        np.subtract(255, image, out=image)
    return image


def _gray_bits(opened: Image.Image) -> int | None:
    """Return the number of bits of a gray pixel with more than 8, and None for other pixels.

    Raises:
        InputError: The pixels are numbers whose black and white are unknown.
    """
    bits = next(iter(_tiff_tag(opened, BITSPERSAMPLE) or (16,)))
    if opened.mode.startswith("I;16"):
        return int(bits)  # Pillow does not scale the 12 bits that a TIFF may have
    if opened.mode == "I" and opened.format == "PPM":
        return 16
    if opened.mode == "I" and bits == 16:
        what = "the pixels are signed 16-bit numbers of unknown range"
        raise InputError(what, remedy="convert them to unsigned numbers of 8 or 16 bits")
    if opened.mode in ("I", "F"):
        what = "the pixels are 32-bit numbers of unknown range"
        raise InputError(what, remedy="convert it to 8 or 16 bits")
    return None


def _tiff_tag(opened: Image.Image, tag: int) -> Any:
    """Return a tag of a TIFF; None if it is missing, or the image is no TIFF."""
    return opened.tag_v2.get(tag) if isinstance(opened, TiffImageFile) else None


def _tile(tile: Image.Image, bits: int | None) -> Array:
    """Convert a tile of any mode to (H, W, 3), or to (H, W, 1) if it is gray.

    ``bits`` is what ``_gray_bits`` returns for the image.
    """
    if bits is not None:
        gray = np.asarray(tile)[..., None]
        return np.where(gray == tile.info.get("transparency"), 255, gray >> (bits - 8))
    if tile.mode == "LAB":  # Pillow stores a and b as signed bytes, OpenCV adds 128
        return cast("Array", cv2.cvtColor(np.asarray(tile) ^ _SIGNS, cv2.COLOR_LAB2RGB))
    if not tile.has_transparency_data:
        return np.asarray(tile.convert("RGB"))
    if tile.mode == "La":
        tile = tile.convert("LA")
    stored = np.asarray(tile.convert("RGBA"))
    alpha = stored[..., 3:].astype(np.uint16)
    return (stored[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
