# SPDX-License-Identifier: Apache-2.0
"""Where a window lies in whole image pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor


@dataclass(frozen=True)
class Window:
    """A window in whole pixels of the image; it may stick out of the image.

    The edges of the continuous window are rounded, each to the nearest pixel boundary, so that no
    edge moves by more than half a pixel. A window covers at least one pixel.
    """

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def around(cls, geometry: Sequence[float]) -> Window:
        """Round (x0, y0, width, height) in the image frame."""
        x0, y0, width, height = geometry
        left, top = floor(x0 + 0.5), floor(y0 + 0.5)
        right, bottom = floor(x0 + width + 0.5), floor(y0 + height + 0.5)
        return cls(left, top, max(right - left, 1), max(bottom - top, 1))

    def clip(self, image_height: int, image_width: int) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right of the visible part, counted inside the window."""
        top, left = max(-self.top, 0), max(-self.left, 0)
        bottom = min(image_height - self.top, self.height)
        right = min(image_width - self.left, self.width)
        return top, max(bottom, top), left, max(right, left)
