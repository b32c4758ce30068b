# SPDX-License-Identifier: Apache-2.0
"""Labels inside the image that do not cover each other where there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2

from foveate.results.palette import is_light

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foveate.arrays import UInt8Array

_FONT = cv2.FONT_HERSHEY_DUPLEX
_PIXELS_PER_SCALE = 30  # height of a line of this font at scale 1


class Rectangle(NamedTuple):
    """Whole pixels, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def shared(self, other: Rectangle) -> int:
        """Return the number of pixels that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0) * max(height, 0)


class LabelPainter:
    """Paints labels on an image and remembers where.

    Args:
        canvas: (H, W, 3) uint8 RGB, painted on.
    """

    def __init__(self, canvas: UInt8Array) -> None:
        self._canvas = canvas
        self.placed: list[Rectangle] = []
        self._size = min(max(max(canvas.shape[:2]) / 42, 11.0), 60.0)

    def paint(
        self, text: str, box: tuple[float, float, float, float], tint: tuple[int, int, int]
    ) -> None:
        """Paint a label near a box, on a ground of the box's colour."""
        height, width = self._canvas.shape[:2]
        scale = self._size / _PIXELS_PER_SCALE
        weight = 2 if self._size > 28 else 1
        (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, weight)
        margin = max(2, round(self._size / 5))
        wide, high = text_width + 2 * margin, text_height + 2 * margin
        if wide > width or high > height:
            return  # on an image of this size a label would only hide things
        place = min(self._places(box, wide, high), key=self._cost)
        self.placed.append(place)
        cv2.rectangle(self._canvas, place[:2], (place.right - 1, place.bottom - 1), tint, -1)
        ink = (0, 0, 0) if is_light(tint) else (255, 255, 255)
        origin = (place.left + margin, place.bottom - margin)
        cv2.putText(self._canvas, text, origin, _FONT, scale, ink, weight, cv2.LINE_AA)

    def _cost(self, place: Rectangle) -> int:
        """Return how much of other labels a place covers; places are given in order of liking."""
        return sum(place.shared(other) for other in self.placed)

    def _places(
        self, box: tuple[float, float, float, float], wide: int, high: int
    ) -> Iterator[Rectangle]:
        """Yield places inside the image: above the box, below, inside, then further down."""
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
