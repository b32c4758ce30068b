# SPDX-License-Identifier: Apache-2.0
"""Overlays: filled masks, outlines, and labels that do not cover each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import cv2
import numpy as np

from foveate.errors import InputError
from foveate.images.reading import as_image
from foveate.system.native_code import native_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foveate.arrays import Array, BoolArray, Float32Array, UInt8Array
    from foveate.results.masks import Masks

Color: TypeAlias = tuple[int, int, int]  # RGB, 0 to 255

_OPACITY = 0.42
_STRIP = 256  # rows that are tinted at a time
_FONT = cv2.FONT_HERSHEY_DUPLEX
_PIXELS_PER_SCALE = 30  # height of a line of this font at scale 1
# Hues at steps of the golden angle in OKLCH, where equal steps look equal, at three lightnesses.
_PALETTE = (
    *(0xFF735E, 0x00A86E, 0xE1A0FF, 0xE49B00, 0x009CD4, 0xFF89C5, 0x72C437, 0x6277F6),
    *(0xFF993E, 0x00CEC0, 0xBD55C4, 0xDCC700, 0x00B6FF, 0xE1475A, 0x32E78C, 0xB18FFF),
    *(0xCB6A00, 0x00E3FF, 0xFB72C6, 0x739600, 0x78C2FF, 0xFF7749, 0x00A880, 0xEE9CFF),
)

COLORS = len(_PALETTE)  # objects of different colors


@native_code()
def draw(
    image: Array | str | os.PathLike[str], boxes: Float32Array, masks: Masks, texts: Sequence[str]
) -> UInt8Array:
    """Draw masks, outlines and labels on a copy of an image.

    Args:
        image: A file, or an (H, W, 3) uint8 RGB array.
        boxes: (N, 4) xyxy in pixels of the image. Each label is placed near its box.
        masks: N masks of the same image.
        texts: N labels, best object first.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: The image cannot be read, or has another size than the masks.
    """
    canvas = as_image(image).copy()
    height, width = canvas.shape[:2]
    if masks.shape[1:] != (height, width):
        raise InputError(
            f"the image has {width} x {height} pixels, the objects belong to an image of "
            f"{masks.shape[2]} x {masks.shape[1]}",
            remedy="draw on the image that was processed",
        )
    tight = masks.boxes()
    areas = (tight[:, 2] - tight[:, 0]) * (tight[:, 3] - tight[:, 1])
    # The largest object is drawn first, so that a small one in front of it stays visible. Only one
    # mask is rasterized at a time: all masks of a large photograph would exhaust the memory.
    for index in np.argsort(-areas, kind="stable").tolist():
        crop = masks.crop(index)
        _fill(canvas, *crop, color(index))
        _outline(canvas, *crop, color(index))
    painter = LabelPainter(canvas)
    for index, text in enumerate(texts):  # the best objects get the best places
        painter.paint(text, boxes[index].tolist(), color(index))
    return canvas


def _fill(canvas: UInt8Array, mask: BoolArray, top: int, left: int, tint: Color) -> None:
    table = np.empty((1, 256, 3), np.uint8)
    for channel in range(3):
        mixed = np.arange(256) * (1 - _OPACITY) + tint[channel] * _OPACITY
        table[0, :, channel] = np.round(mixed)
    for start in range(0, len(mask), _STRIP):
        part = mask[start : start + _STRIP]
        row = top + start
        region = canvas[row : row + len(part), left : left + mask.shape[1]]
        np.copyto(region, cv2.LUT(np.ascontiguousarray(region), table), where=part[..., None])


def _outline(canvas: UInt8Array, mask: BoolArray, top: int, left: int, tint: Color) -> None:
    # A frame of zeros makes OpenCV close outlines that touch the edge of the crop.
    framed = np.pad(mask.view(np.uint8), 1)
    outlines, _ = cv2.findContours(framed, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    place = (left - 1, top - 1)
    thickness = max(1, round(max(canvas.shape[:2]) / 420))
    bright = tuple(int(value + 0.35 * (255 - value)) for value in tint)
    dark = tuple(int(0.3 * value) for value in tint)
    for tone, width in ((dark, thickness + 2), (bright, thickness)):
        cv2.drawContours(canvas, outlines, -1, tone, width, cv2.LINE_AA, offset=place)


class Rectangle(NamedTuple):
    """A rectangle in whole pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def shared(self, other: Rectangle) -> int:
        """Return the number of pixels that both rectangles cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0) * max(height, 0)


class LabelPainter:
    """A painter of labels inside an image, which do not cover each other where there is room.

    Args:
        canvas: (H, W, 3) uint8 RGB; labels are painted on it in place.
    """

    def __init__(self, canvas: UInt8Array) -> None:
        self._canvas = canvas
        self.placed: list[Rectangle] = []
        self._size = min(max(max(canvas.shape[:2]) / 42, 11.0), 60.0)

    def paint(self, text: str, box: Sequence[float], tint: Color) -> None:
        """Paint a label near a box, on a background of the given color."""
        height, width = self._canvas.shape[:2]
        scale = self._size / _PIXELS_PER_SCALE
        weight = 2 if self._size > 28 else 1
        (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, weight)
        margin = max(2, round(self._size / 5))
        wide, high = text_width + 2 * margin, text_height + 2 * margin
        if wide > width or high > height:
            return  # on such a small image a label would hide the objects
        place = min(self._places(box, wide, high), key=self._cost)
        self.placed.append(place)
        cv2.rectangle(self._canvas, place[:2], (place.right - 1, place.bottom - 1), tint, -1)
        ink = (0, 0, 0) if _is_light(tint) else (255, 255, 255)
        origin = (place.left + margin, place.bottom - margin)
        cv2.putText(self._canvas, text, origin, _FONT, scale, ink, weight, cv2.LINE_AA)

    def _cost(self, place: Rectangle) -> int:
        """Return how many pixels of other labels a place covers."""
        return sum(place.shared(other) for other in self.placed)

    def _places(self, box: Sequence[float], wide: int, high: int) -> Iterator[Rectangle]:
        """Yield places inside the image, the preferred ones first: above the box, inside, below."""
        x0, y0, x1, y1 = (round(value) for value in box)
        tops = [y0 - high, y0, y1, y1 - high]
        tops += [y0 + step * high for step in range(1, 6)]
        for top in tops:
            for left in (x0, x1 - wide, (x0 + x1 - wide) // 2):
                yield self._inside(left, top, wide, high)

    def _inside(self, left: int, top: int, wide: int, high: int) -> Rectangle:
        height, width = self._canvas.shape[:2]
        left = min(max(left, 0), width - wide)
        top = min(max(top, 0), height - high)
        return Rectangle(left, top, left + wide, top + high)


def color(index: int) -> Color:
    """Return the color of the object with this index as RGB, 0 to 255; colors repeat after 24."""
    value = _PALETTE[index % len(_PALETTE)]
    return value >> 16, value >> 8 & 255, value & 255


def _is_light(tone: Color) -> bool:
    """Return whether black text is easier to read on this color than white text."""
    red, green, blue = tone
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140
