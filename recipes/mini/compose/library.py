# SPDX-License-Identifier: Apache-2.0
"""The images to compose from, decoded once and kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from compose.lists import Entry
from compose.resize import resize
from foveate.errors import DataError

_CUTOUT_SIDE = 900  # as large as an object gets
_BACKGROUND_SIDE = 1280
_MIN_BACKGROUND_SIDE = 64
_MIN_OPAQUE = 64  # pixels


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """A thing without its surroundings.

    Args:
        entry: Entry of its list.
        image: (H, W, 4) uint8 RGBA, not premultiplied, cropped to what alpha shows.
    """

    entry: Entry
    image: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Background:
    """An image without objects.

    Args:
        entry: Entry of its list.
        image: (H, W, 3) uint8 RGB.
    """

    entry: Entry
    image: NDArray[np.uint8]


_Loaded = TypeVar("_Loaded", Cutout, Background)


@dataclass(frozen=True, kw_only=True)
class Library:
    """Cut-outs by class and family, and backgrounds by family.

    The nesting is what images are drawn by: first a class, then a family, then a member, so that
    ten images of one thing weigh no more than one image of another.

    Args:
        class_names: Class names in the order of category ids, which start at 1.
        cutouts: One tuple of families per class, empty if it has no cut-out; a family is a tuple of
            cut-outs.
        backgrounds: The same nesting, with kinds (such as photographs and textures) for classes.
    """

    class_names: tuple[str, ...]
    cutouts: tuple[tuple[tuple[Cutout, ...], ...], ...]
    backgrounds: tuple[tuple[tuple[Background, ...], ...], ...]


def load_cutout(entry: Entry, root: Path) -> Cutout:
    """Decode a cut-out, crop it to its alpha and shrink it to what images can use.

    Raises:
        DataError: The file cannot be decoded, has no alpha, or its alpha cuts nothing out.
    """
    file = entry.locate(root)
    image = _decode(file, cv2.IMREAD_UNCHANGED, "cut-out")
    if image.ndim != 3 or image.shape[2] != 4:
        raise DataError(
            "cut-out without an alpha channel",
            file=file,
            remedy="save it as RGBA with a transparent background, or leave it out",
        )
    visible = image[..., 3] > 127
    if np.count_nonzero(visible) < _MIN_OPAQUE:
        raise DataError(
            f"cut-out with fewer than {_MIN_OPAQUE} opaque pixels", file=file, remedy="leave it out"
        )
    if visible.all():
        raise DataError(
            "cut-out whose alpha is opaque everywhere",
            file=file,
            remedy="make its background transparent, or leave it out",
        )
    x, y, width, height = cv2.boundingRect((image[..., 3] > 8).astype(np.uint8))
    image = image[y : y + height, x : x + width, [2, 1, 0, 3]]
    return Cutout(entry=entry, image=_shrink(image, _CUTOUT_SIDE))


def load_background(entry: Entry, root: Path) -> Background:
    """Decode a background and shrink it to what images can use.

    Raises:
        DataError: The file cannot be decoded or is too small.
    """
    file = entry.locate(root)
    image = _decode(file, cv2.IMREAD_COLOR, "background")
    if min(image.shape[:2]) < _MIN_BACKGROUND_SIDE:
        raise DataError(
            f"background of {image.shape[1]} x {image.shape[0]} pixels, expected at least "
            f"{_MIN_BACKGROUND_SIDE} on each side",
            file=file,
            remedy="leave it out",
        )
    return Background(entry=entry, image=_shrink(image[..., ::-1], _BACKGROUND_SIDE))


def _decode(file: Path, flags: int, what: str) -> NDArray[np.uint8]:
    """Decode to (H, W), (H, W, 3) or (H, W, 4) uint8, in OpenCV's order of channels."""
    try:
        content = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise DataError(f"cannot read the {what} ({error.strerror or error})", file=file) from error
    decoded = cv2.imdecode(content, flags) if content.size else None
    if decoded is None:
        raise DataError(
            f"cannot decode the {what}", file=file, remedy="repair the file or leave it out"
        )
    image = np.asarray(decoded)
    if image.dtype == np.uint16:
        image = image // 257
    return image.astype(np.uint8)


def _shrink(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the image with its longer side at most `side`; colors are weighted by alpha."""
    image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    if image.shape[2] == 3:
        return resize(image, size)
    alpha = image[..., 3:].astype(np.float32)
    small = resize(image[..., :3] * alpha, size)
    small_alpha = resize(alpha, size)[..., None]
    color = small / np.maximum(small_alpha, 1e-3)
    return np.concatenate([color, small_alpha], axis=2).clip(0, 255).round().astype(np.uint8)


def by_family(class_name: str, members: Sequence[_Loaded]) -> tuple[tuple[_Loaded, ...], ...]:
    """Return the members of a class by family, sorted, whatever the order of files on disk."""
    families: dict[str, list[_Loaded]] = {}
    for member in sorted(members, key=lambda member: member.entry.path):
        if member.entry.class_name == class_name:
            families.setdefault(member.entry.family or member.entry.path, []).append(member)
    return tuple(tuple(families[name]) for name in sorted(families))
