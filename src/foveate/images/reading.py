# SPDX-License-Identifier: Apache-2.0
"""Reading images: a file becomes (H, W, 3) uint8 RGB, upright.

JPEG (with MPO), PNG, WebP, TIFF, GIF, BMP, PNM, JPEG 2000 and AVIF are read, whatever the file's
name. Grey becomes three equal channels; of 16 bits the high byte is taken; CMYK and Lab become RGB
without a colour profile; alpha is blended with white, since what is transparent is often black or
garbage underneath; of an animation the first frame is taken. The EXIF orientation is applied, and
so is AVIF's own.

Damage is an error as far as the decoder can see it. In a JPEG that is each scan that ends before its
last pixel, each invalid code, and each byte that is left over, wherever the end marker stands. It
cannot see damaged bytes that decode to as many other pixels, or that the last scans of a progressive
JPEG are missing as a whole. PNG has a checksum of its pixels. In the other formats, an end of the
data that comes too early is an error, and so is whatever the compression does not allow.

The peak of the memory is less than 3 times the result, except where the libraries need more:
progressive JPEG without subsampling (3.0), WebP with alpha (3.4), AVIF (4.0), JPEG 2000 (8.2).

Pillow reports odd metadata through the module `warnings`. The command line leaves these out. Where
warnings are made errors, those on EXIF are still ignored.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foveate.errors import InputError
from foveate.images.decoding import SUFFIXES, decode

if TYPE_CHECKING:
    from foveate.arrays import Array, UInt8Array

_REASONS = {
    errno.ENOENT: ("there is no such file", "check the path"),
    errno.ENOTDIR: ("there is no such file", "check the path"),
    errno.ELOOP: ("the link leads to itself", "make it lead to a file"),
    errno.ENAMETOOLONG: ("the name is too long for a file", "check the path"),
}


def as_image(image: Array | str | os.PathLike[str]) -> UInt8Array:
    """Return an image as (H, W, 3) uint8 RGB in C order.

    Args:
        image: A file, or such an array, which is not copied unless it has to be.

    Raises:
        InputError: It is neither.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"an image must be a path or a numpy array, found {type(image).__name__}",
            remedy="convert it with numpy.asarray",
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            "an image must be a uint8 array of shape (H, W, 3) in RGB order, "
            f"found {image.dtype} of shape {image.shape}",
            remedy="convert it, or give the file",
        )
    if 0 in image.shape:
        raise InputError(f"an image needs at least one pixel, found shape {image.shape}")
    return np.ascontiguousarray(image)


def read_image(path: str | os.PathLike[str]) -> UInt8Array:
    """Read an image file as (H, W, 3) uint8 RGB, upright.

    Raises:
        InputError: The file is missing, empty, damaged, cut off, too large, no regular file, or no
            image. The text names the file.
    """
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        raise InputError(
            "this is a folder, not an image", file=path, remedy="give the images in it"
        )
    if not stat.S_ISREG(status.st_mode):  # a FIFO or a device might never end
        raise InputError(
            "this is a device or a pipe, not a file", file=path, remedy="save the image to a file"
        )
    if not status.st_size:
        raise InputError("the file is empty", file=path, remedy="copy or download the file again")
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - what fails inside of `with` is another matter
    except OSError as error:
        raise _explain(error, path) from error
    with file:
        try:
            return decode(file)
        except InputError as error:
            raise InputError(error.what, file=path, remedy=error.remedy) from error


def find_images(paths: list[str]) -> tuple[list[Path], str]:
    """Replace each folder by the images in it, sorted by name; keep the files as they are.

    Returns:
        The files; and a line that counts by kind what was left out of the folders, or "". Hidden
        files are passed over.

    Raises:
        InputError: There is no such file, a folder holds no image, or it cannot be read.
    """
    found: list[Path] = []
    notes: list[str] = []
    for text in paths:
        if not stat.S_ISDIR(_status(text).st_mode):
            found.append(Path(text))
            continue
        images, left_out = _look_into(text)
        if not images:
            raise InputError(
                f"the folder contains no images{left_out and f' that are read, but {left_out}'}",
                file=text,
                remedy="give a folder of images, as JPEG or PNG",
            )
        found.extend(images)
        if left_out:
            notes.append(f"{left_out} in {text}")
    return found, f"left out: {'; '.join(notes)}" if notes else ""


def _look_into(folder: str) -> tuple[list[Path], str]:
    """Return the images in a folder, and how many there are of each other kind."""
    images: list[Path] = []
    others: Counter[str] = Counter()
    try:
        for path in sorted(Path(folder).iterdir()):
            if path.name.startswith("."):
                continue
            if (kind := _kind(path)) in SUFFIXES:
                images.append(path)
            else:
                others[kind] += 1
    except OSError as error:
        raise _explain(error, folder) from error
    counts = (f"{n} {kind}{'s' * (n > 1 and kind[0] != '.')}" for kind, n in sorted(others.items()))
    return images, ", ".join(counts)


def _kind(path: Path) -> str:
    """Return the suffix of a file, or what else it is."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "broken link"
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        return "device or pipe"
    return path.suffix.lower() or "file without suffix"


def _status(path: str | os.PathLike[str]) -> os.stat_result:
    """Look at a file without opening it."""
    text = os.fspath(path)
    if not text:
        raise InputError('an image is named "", which is no path', remedy="check the arguments")
    if "://" in text:
        raise InputError(
            "this is an address, not a file", file=text, remedy="download it, and give the file"
        )
    try:
        return Path(path).stat()
    except (OSError, ValueError) as error:
        raise _explain(error, path) from error


def _explain(error: OSError | ValueError, path: str | os.PathLike[str]) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    default = (f"the file cannot be read ({reason})", "check its permissions")
    what, remedy = _REASONS.get(getattr(error, "errno", 0), default)
    return InputError(what, file=path, remedy=remedy)
