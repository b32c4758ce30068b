# SPDX-License-Identifier: Apache-2.0
"""Reading images: a file becomes (H, W, 3) uint8 RGB, upright.

The formats are JPEG (with MPO), PNG, WebP, TIFF, GIF, BMP, PNM, JPEG 2000 and AVIF; the name of the
file does not matter. Gray becomes three equal channels. Of 12 or 16 bits, the 8 high ones are used.
A TIFF whose zero is white (WhiteIsZero) is inverted. CMYK and Lab are converted to RGB without a
color profile. Alpha is blended with white, since transparent pixels often have arbitrary colors. Of
an animation, the first frame is used. The orientation of EXIF and of AVIF is applied.

Damage is an error if the decoder can detect it. In a JPEG, these are scans that end before their
last pixel, invalid codes, and leftover bytes. Damaged bytes that decode to the same number of other
pixels are not detected, nor are missing last scans of a progressive JPEG. PNG has a checksum of its
pixels. In the other formats, data that end too early or violate the compression are errors.

Peak memory is less than 3 times the size of the result, except for progressive JPEG without
subsampling (3.0), WebP with alpha (3.4), AVIF (4.0) and JPEG 2000 (8.2).

Pillow reports unusual metadata through the module ``warnings``, and the command line hides these
warnings. Warnings about EXIF are ignored even where warnings are turned into errors.
"""

import errno
import os
import stat
from collections import Counter
from pathlib import Path

import numpy as np

from foveate.arrays import Array, UInt8Array
from foveate.errors import InputError
from foveate.images.decoding import SUFFIXES, decode

_REASONS = {
    errno.ENOENT: ("there is no such file", "check the path"),
    errno.ENOTDIR: ("there is no such file", "check the path"),
    errno.ELOOP: ("the link points to itself", "make it point to a file"),
    errno.ENAMETOOLONG: ("the name is too long for a file", "check the path"),
}
_PLURALS = {
    "broken link": "broken links",
    "device or pipe": "devices or pipes",
    "directory": "directories",
    "file without suffix": "files without suffix",
}


def as_image(image: Array | str | os.PathLike[str]) -> UInt8Array:
    """Return an image as (H, W, 3) uint8 RGB in C order.

    Args:
        image: A file, or an (H, W, 3) uint8 RGB array, which is copied only if it is not in C order.

    Raises:
        InputError: The file cannot be read, or the array has another shape or dtype.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        what = f"an image must be a path or a numpy array, found {type(image).__name__}"
        raise InputError(what, remedy=_instead_of(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            "an image must be a uint8 array of shape (H, W, 3) in RGB order, "
            f"found {image.dtype} of shape {image.shape}",
            remedy="convert it, or pass the path of a file",
        )
    if 0 in image.shape:
        raise InputError(f"an image needs at least one pixel, found shape {image.shape}")
    return np.ascontiguousarray(image)


def _instead_of(value: object) -> str:
    """Return what to pass in place of a value that is neither a path nor an array."""
    if isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "read"):
        return "pass the path of the file, or the array that a decoder makes of it"
    shape = "uint8 array of shape (H, W, 3) in RGB order"
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return f"convert it with numpy.asarray to a {shape}"
    return f"pass the path of a file, or a {shape}"


def read_image(path: str | os.PathLike[str]) -> UInt8Array:
    """Read an image file as (H, W, 3) uint8 RGB, upright.

    Raises:
        InputError: The file is missing, empty, damaged, truncated, too large, not a regular file,
            or not an image. The text names the file.
    """
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        remedy = "pass the images in it"
        raise InputError("this is a directory, not an image", file=path, remedy=remedy)
    if not stat.S_ISREG(status.st_mode):  # a FIFO or a device might never end
        raise InputError(
            "this is a device or a pipe, not a file", file=path, remedy="save the image to a file"
        )
    if not status.st_size:
        raise InputError("the file is empty", file=path, remedy="copy or download the file again")
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - errors inside of `with` are handled below
    except OSError as error:
        raise _explain(error, path) from error
    with file:
        try:
            return decode(file)
        except InputError as error:
            raise InputError(error.what, file=path, remedy=error.remedy) from error


def find_images(paths: list[str]) -> tuple[list[Path], str]:
    """Replace each directory with the images in it, sorted by name.

    Args:
        paths: Files, which are returned as they are, and directories.

    Returns:
        The files; and a line that counts the other content of the directories by kind, or "".
        Hidden files are ignored.

    Raises:
        InputError: A path does not exist, or a directory has no image or cannot be read.
    """
    found: list[Path] = []
    notes: list[str] = []
    for text in paths:
        if not stat.S_ISDIR(_status(text).st_mode):
            found.append(Path(text))
            continue
        images, left_out = _look_into(text)
        if not images:
            what = f"the directory contains no readable images{left_out and f', but {left_out}'}"
            raise InputError(what, file=text, remedy="pass a directory of JPEG or PNG images")
        found.extend(images)
        if left_out:
            notes.append(f"{left_out} in {text}")
    return found, f"left out: {'; '.join(notes)}" if notes else ""


def _look_into(directory: str) -> tuple[list[Path], str]:
    """Return the images in a directory, and the counts of everything else by kind."""
    images: list[Path] = []
    others: Counter[str] = Counter()
    try:
        for path in sorted(Path(directory).iterdir()):
            if path.name.startswith("."):
                continue
            if (kind := _kind(path)) in SUFFIXES:
                images.append(path)
            else:
                others[kind] += 1
    except OSError as error:
        raise _explain(error, directory) from error
    counts = (
        f"{n} {_PLURALS.get(kind, kind) if n > 1 else kind}" for kind, n in sorted(others.items())
    )
    return images, ", ".join(counts)


def _kind(path: Path) -> str:
    """Return the suffix of a file, or the kind of anything else."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "broken link"
    if stat.S_ISDIR(mode):
        return "directory"
    if not stat.S_ISREG(mode):
        return "device or pipe"
    return path.suffix.lower() or "file without suffix"


def _status(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of a file without opening it."""
    text = os.fspath(path)
    if not text:
        raise InputError('expected the path of an image, found ""', remedy="check the arguments")
    if "://" in text:
        remedy = "download it and pass the path of the file"
        raise InputError("this is a URL, not a file", file=text, remedy=remedy)
    try:
        return Path(path).stat()
    except (OSError, ValueError) as error:
        raise _explain(error, path) from error


def _explain(error: OSError | ValueError, path: str | os.PathLike[str]) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    default = (f"the file cannot be read ({reason})", "check its permissions")
    what, remedy = _REASONS.get(getattr(error, "errno", 0), default)
    return InputError(what, file=path, remedy=remedy)
