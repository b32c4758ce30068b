# SPDX-License-Identifier: Apache-2.0
"""The mask of one window in the picture, and its box, without rasterising more than is needed.

NOTE: A window of a large photograph can measure thousands of pixels while its mask has 160, so the
box of a mask is found without rasterising it. First all columns are resampled, for the rows of the
mask only (160 x width). A row of the picture then is a blend of two neighbouring rows of that, and
can hold foreground only if one of the two does. The search for the first row and column therefore
starts within one sample of the rim and blends little more. The same blend makes the mask itself,
hence a box bounds its mask to the pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor

import numpy as np

from foveate.arrays import Bools, Floats, Longs
from foveate.kernels.bilinear_upsample.window import Window
from foveate.kernels.resampling import resample

__all__ = ["WindowMask"]


class WindowMask:
    """The mask of one window, as far as it lies in the picture.

    Args:
        logits: (S, S).
        window: Place of the window in the picture.
        threshold: A pixel is foreground if its resampled logit is larger.
        picture_height: Rows of the picture.
        picture_width: Columns of the picture.
    """

    def __init__(
        self,
        logits: Floats,
        window: Window,
        *,
        threshold: float,
        picture_height: int,
        picture_width: int,
    ) -> None:
        self._threshold = np.float32(threshold)
        self._window = window
        self._grows = window.height > len(logits)
        visible = window.clip(picture_height, picture_width)
        hot = _extent(logits > self._threshold)
        if hot is None or visible[1] <= visible[0] or visible[3] <= visible[2]:
            hot, visible = (0, 1, 0, 1), (0, 0, 0, 0)
        # Only what lies within one sample of a hot one can become foreground.
        height, width = logits.shape
        self._top, self._bottom = _near(hot[:2], height, window.height, visible[:2])
        self._left, self._right = _near(hot[2:], width, window.width, visible[2:])
        self._rows, self._first, self._blend = self._resample(logits, hot)

    def _resample(
        self, logits: Floats, hot: tuple[int, int, int, int]
    ) -> tuple[Floats, Longs, Floats]:
        """Resample the columns; return them, and how each visible row blends two rows of them."""
        size, columns = len(logits), slice(self._left, self._right)
        if not self._grows:
            rows = logits
            if self._window.width > logits.shape[1]:
                rows = resample(rows, size, self._window.width)
            rows = resample(rows, self._window.height, self._window.width)
            rows = rows[self._top : self._bottom, columns]
            return rows, np.arange(len(rows)), np.zeros(len(rows), np.float32)
        low, high = max(hot[0] - 1, 0), min(hot[1] + 1, size)
        rows = resample(logits[low:high], high - low, self._window.width)
        first, blend = _row_blend(size, self._window.height, self._top, self._bottom)
        # Rows that blend with rows left out are nothing but ground.
        start = int(np.searchsorted(first, low))
        stop = len(first) if high == size else int(np.searchsorted(first, high - 1))
        self._top, self._bottom = self._top + start, self._top + max(stop, start)
        return rows[:, columns], first[start:stop] - low, blend[start:stop]

    def box(self) -> tuple[int, int, int, int]:
        """Return the tight xyxy box in the picture frame; zeros if nothing is foreground."""
        rim = self._rim()
        if rim is None:
            return (0, 0, 0, 0)
        top, bottom, left, right = rim
        x, y = self._window.left + self._left, self._window.top + self._top
        return (x + left, y + top, x + right, y + bottom)

    def mask(self) -> tuple[Bools, int, int]:
        """Return the mask inside its box, and the row and column of that in the picture."""
        rim = self._rim()
        if rim is None:
            return np.zeros((0, 0), bool), 0, 0
        x, y = self._window.left + self._left, self._window.top + self._top
        return self._crop(*rim), y + rim[0], x + rim[2]

    def _crop(self, top: int, bottom: int, left: int, right: int) -> Bools:
        """Rasterise a rectangle of the visible part, given in its own pixels."""
        rows = self._rows[:, left:right]
        first = self._first[top:bottom]
        values = rows[first]
        if self._grows:
            second = np.minimum(first + 1, len(rows) - 1)
            values += (rows[second] - values) * self._blend[top:bottom, None]
        return np.asarray(values > self._threshold)

    def _rim(self) -> tuple[int, int, int, int] | None:
        """Return top, bottom, left and right of the foreground inside the visible part."""
        if not self._grows:
            return _extent(np.asarray(self._rows > self._threshold))
        height, width = len(self._first), self._rows.shape[1]

        def rows(start: int, stop: int) -> Bools:
            hit: Bools = np.any(self._crop(start, stop, 0, width), axis=1)
            return hit

        top = _first_hit(height, rows)
        if top is None:
            return None
        bottom = height - _last_hit(height, rows)

        def columns(start: int, stop: int) -> Bools:
            hit: Bools = np.any(self._crop(top, bottom, start, stop), axis=0)
            return hit

        return top, bottom, _first_hit(width, columns) or 0, width - _last_hit(width, columns)


def _first_hit(count: int, hits: Callable[[int, int], Bools]) -> int | None:
    """Return the first of ``count`` lines that is hit; ``hits(start, stop)`` asks for some."""
    start, lot = 0, 6
    while start < count:
        stop = min(start + lot, count)
        found = hits(start, stop)
        if found.any():
            return start + int(np.argmax(found))
        start, lot = stop, 2 * lot
    return None


def _last_hit(count: int, hits: Callable[[int, int], Bools]) -> int:
    """Return how many lines follow the last one that is hit, which one of them is."""
    found = _first_hit(count, lambda start, stop: hits(count - stop, count - start)[::-1])
    assert found is not None
    return found


def _extent(mask: Bools) -> tuple[int, int, int, int] | None:
    """Return top, bottom, left and right of what is set; None if nothing is."""
    rows, columns = np.flatnonzero(np.any(mask, 1)), np.flatnonzero(np.any(mask, 0))
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _near(hot: tuple[int, int], old: int, new: int, visible: tuple[int, int]) -> tuple[int, int]:
    """Return the part of an axis that may be foreground.

    Args:
        hot: Start and end of the samples above the threshold.
        old: Number of samples.
        new: Number of pixels of the window.
        visible: Start and end of the pixels that lie in the picture.
    """
    low, high = floor((hot[0] - 1) * new / old), ceil((hot[1] + 1) * new / old)
    start = max(visible[0], low)
    return start, max(min(visible[1], high), start)


def _row_blend(rows: int, height: int, top: int, bottom: int) -> tuple[Longs, Floats]:
    """Return, for the visible rows of the window, the upper source row and the lower one's share.

    Args:
        rows: Number of source rows; not more than ``height``.
        height: Rows of the window.
        top: First visible row.
        bottom: End of the visible rows.
    """
    lines = np.arange(top, bottom)
    centre = np.clip((lines + 0.5) * (rows / height) - 0.5, 0, rows - 1)
    first = np.floor(centre).astype(np.int64)
    return first, (centre - first).astype(np.float32)
