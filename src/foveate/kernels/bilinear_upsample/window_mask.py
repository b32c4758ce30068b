# SPDX-License-Identifier: Apache-2.0
"""The mask of one window in the picture, and its box, without rasterising more than is needed.

NOTE: A window of a large photograph can measure thousands of pixels while its mask has 160, so the
box of a mask is found without rasterising it. First all columns are resampled, for the rows of the
mask only (160 x width). A row of the picture then is a blend of two neighbouring rows of that, and
can hold foreground only if one of the two does, so that only rows and columns near the rim have to
be blended. The same blend makes the mask itself, hence a box bounds its mask to the pixel.
"""

from __future__ import annotations

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
        top, bottom, left, right = window.clip(picture_height, picture_width)
        self._top, self._left = window.top + top, window.left + left
        self._visible = bottom > top and right > left
        rows: Floats = resample(logits, logits.shape[0], window.width)
        if window.height < rows.shape[0]:
            rows = resample(rows, window.height, window.width)
        self._rows = rows[:, left:right]
        self._first, self._blend = _row_blend(len(rows), window.height, top, bottom)
        self._grows = window.height > len(rows)

    def box(self) -> tuple[int, int, int, int]:
        """Return the tight xyxy box in the picture frame; zeros if nothing is foreground."""
        rim = self._rim()
        if rim is None:
            return (0, 0, 0, 0)
        top, bottom, left, right = rim
        return (self._left + left, self._top + top, self._left + right, self._top + bottom)

    def mask(self) -> tuple[Bools, int, int]:
        """Return the mask inside its box, and the row and column of that in the picture."""
        rim = self._rim()
        if rim is None:
            return np.zeros((0, 0), bool), 0, 0
        return self._crop(*rim), self._top + rim[0], self._left + rim[2]

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
        if not self._visible:
            return None
        above = np.asarray(self._rows > self._threshold)
        hot_rows, hot_columns = np.asarray(above.any(axis=1)), np.asarray(above.any(axis=0))
        lines, columns = hot_rows[self._first], np.flatnonzero(hot_columns)
        if self._grows:
            lines = lines | hot_rows[np.minimum(self._first + 1, len(hot_rows) - 1)]
        candidates = np.flatnonzero(lines)
        if not len(candidates) or not len(columns):
            return None
        left, right = int(columns[0]), int(columns[-1]) + 1
        if not self._grows:
            return int(candidates[0]), int(candidates[-1]) + 1, left, right
        return self._blended_rim(candidates, left, right)

    def _blended_rim(
        self, candidates: Longs, left: int, right: int
    ) -> tuple[int, int, int, int] | None:
        """Narrow the rows that may hold foreground, and the columns, to those that do."""
        top = self._search(candidates, left, right)
        if top is None:
            return None
        bottom = self._search(candidates[::-1], left, right)
        assert bottom is not None
        rim = (top, bottom + 1)
        first = self._search_columns(np.arange(left, right), rim)
        last = self._search_columns(np.arange(left, right)[::-1], rim)
        return (*rim, first, last + 1)

    def _search(self, lines: Longs, left: int, right: int) -> int | None:
        """Return the first of the rows that holds foreground; they are tried in growing lots."""
        done, lot = 0, 8
        while done < len(lines):
            some = lines[done : done + lot]
            low, high = sorted((int(some[0]), int(some[-1])))
            hits = np.any(self._crop(low, high + 1, left, right), axis=1)[some - low]
            if hits.any():
                return int(some[int(np.argmax(hits))])
            done, lot = done + lot, 2 * lot
        return None

    def _search_columns(self, columns: Longs, rim: tuple[int, int]) -> int:
        """Return the first of the columns that holds foreground, which one of them does."""
        done, lot = 0, 4
        while True:
            some = columns[done : done + lot]
            low, high = sorted((int(some[0]), int(some[-1])))
            hits = np.any(self._crop(*rim, low, high + 1), axis=0)[some - low]
            if hits.any():
                return int(some[int(np.argmax(hits))])
            done, lot = done + lot, 2 * lot


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
