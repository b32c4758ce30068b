# SPDX-License-Identifier: Apache-2.0
"""The mask of one window in the image, as runs of foreground down its columns.

NOTE: A window of a large photograph can measure thousands of pixels while its mask has 160 samples
a side, so the mask is not made pixel by pixel. The logits are resampled to the window's columns
(160 x width). Down a column the logit then is a straight line between two samples: where one is
foreground and the next is not, it meets the threshold at one place, which a division finds; nowhere
else does the mask change. Box, area and run-length code follow from these places, and the pixels
themselves are painted only when somebody wants them.
"""

from __future__ import annotations

import itertools
from math import ceil, floor

import numpy as np

from foveate.arrays import BoolArray, Float32Array, Int64Array, UInt8Array
from foveate.images.resampling import resample
from foveate.results.window import Window


class WindowMask:
    """The mask of one window, as far as it lies in the image.

    ``columns``, ``starts`` and ``ends``, (R,) each, are the runs of foreground in pixels of the
    image: column, first row and end row; in the order of columns, then rows. Runs do not overlap,
    and may touch.

    Args:
        logits: (S, S).
        window: Place of the window in the image.
        threshold: A pixel is foreground if its resampled logit is larger.
        image_height: Rows of the image.
        image_width: Columns of the image.
    """

    def __init__(
        self,
        logits: Float32Array,
        window: Window,
        *,
        threshold: float,
        image_height: int,
        image_width: int,
    ) -> None:
        top, bottom, left, right = window.clip(image_height, image_width)
        hot = _extent(logits > np.float32(threshold))
        if hot is None or bottom <= top or right <= left:
            self.columns, self.starts, self.ends = np.zeros((3, 0), np.int64)
            return
        left, right = _near(hot[2:], logits.shape[1], window.width, (left, right))
        lines, first = _lines(logits, hot[:2], window, slice(left, right))
        column, row = _changes(lines, first, len(logits), window.height, threshold)
        starts, ends = np.maximum(row[::2], top), np.minimum(row[1::2], bottom)
        seen = ends > starts
        self.columns = column[::2][seen] + (left + window.left)
        self.starts, self.ends = starts[seen] + window.top, ends[seen] + window.top

    def box(self) -> tuple[int, int, int, int]:
        """Return the tight xyxy box in the image frame; zeros if nothing is foreground."""
        if not len(self.columns):
            return (0, 0, 0, 0)
        top, bottom = int(self.starts.min()), int(self.ends.max())
        return (int(self.columns[0]), top, int(self.columns[-1]) + 1, bottom)

    def area(self) -> int:
        """Return the number of foreground pixels."""
        return int(np.sum(self.ends - self.starts))

    def mask(self) -> tuple[BoolArray, int, int]:
        """Return the mask inside its box, and the row and column of that in the image."""
        left, top, right, bottom = self.box()
        mask = np.zeros((bottom - top, right - left), bool)
        self._paint(mask, top, left)
        return mask, top, left

    def paint(self, image: BoolArray) -> None:
        """Write the mask to ``image``, (H, W), which is all False."""
        left, top, right, bottom = self.box()
        self._paint(image[top:bottom, left:right], top, left)

    def _paint(self, target: BoolArray, top: int, left: int) -> None:
        """Paint the box of the mask, whose first pixel is at (top, left).

        Marks where runs begin and end; then each row continues the one above.
        """
        pixels: UInt8Array = target.view(np.uint8)
        pixels[self.starts - top, self.columns - left] = 1
        goes_on = self.ends - top < len(target)
        pixels[self.ends[goes_on] - top, self.columns[goes_on] - left] ^= 1
        for above, row in itertools.pairwise(pixels):
            np.bitwise_xor(above, row, out=row)


def _lines(
    logits: Float32Array, hot: tuple[int, int], window: Window, columns: slice
) -> tuple[Float32Array, int]:
    """Return the columns of the window as lines of samples, and the number of the first sample.

    The window's pixels themselves are the samples where it is lower than the logits. Else they are
    the rows of logits with foreground and one more on each side.
    """
    size = len(logits)
    if window.height < size:
        lines = resample(np.ascontiguousarray(logits.T), window.width, size)
        return resample(lines, window.width, window.height)[columns], 0
    low, high = max(hot[0] - 1, 0), min(hot[1] + 1, size)
    lines = np.ascontiguousarray(logits[low:high].T)
    return resample(lines, window.width, high - low)[columns], low


def _changes(
    lines: Float32Array, first: int, size: int, height: int, threshold: float
) -> tuple[Int64Array, Int64Array]:
    """Return the column and the row of each change from ground to foreground or back.

    Changes alternate, in the order of columns, then rows; the rows are pixels of the window from 0
    to ``height``. What lies beyond the samples is ground.
    """
    count = lines.shape[1]
    above = np.zeros((len(lines), count + 2), bool)
    np.greater(lines, np.float32(threshold), out=above[:, 1:-1])
    # Lines begin and end with ground, so no change lies between two of them.
    flat = above.reshape(-1)
    column, gap = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), count + 2)
    earliest, latest = _gap_rows(size, height)
    row = np.full(len(gap), np.nan)
    if height >= size:
        before = lines[column, np.maximum(gap - 1, 0)].astype(np.float64)
        after = lines[column, np.minimum(gap, count - 1)].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (np.float64(np.float32(threshold)) - before) / (after - before)
        row = (first + gap - 0.5 + share) * (height / size) - 0.5
        # Foreground is what is larger: a pixel at the very place where it begins is not.
        row = np.where(after > before, np.floor(row) + 1, np.ceil(row))
    # fmin takes the limit where there is no number: beyond the samples, or beside infinite ones.
    row = np.fmax(np.fmin(row, latest[first + gap]), earliest[first + gap])
    return column, row.astype(np.int64)


def _gap_rows(size: int, height: int) -> tuple[Int64Array, Int64Array]:
    """Return the first and last row at which the mask may change between two samples.

    Gap ``i`` lies between the samples ``i - 1`` and ``i``. Sample ``i`` lies at the row
    ``((2 i + 1) height - size) / (2 size)``, or is the row ``i`` itself where the window is lower
    than the logits.
    """
    if height < size:
        return (np.arange(height + 1),) * 2
    place = (2 * np.arange(size) + 1) * height - size
    earliest, latest = np.zeros((2, size + 1), np.int64)
    earliest[1:] = place // (2 * size) + 1
    latest[:-1] = -(-place // (2 * size))
    latest[0], earliest[-1], latest[-1] = 0, height, height
    return earliest, latest


def _extent(mask: BoolArray) -> tuple[int, int, int, int] | None:
    """Return top, bottom, left and right of what is set; None if nothing is."""
    rows, columns = np.flatnonzero(np.any(mask, 1)), np.flatnonzero(np.any(mask, 0))
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _near(hot: tuple[int, int], old: int, new: int, visible: tuple[int, int]) -> tuple[int, int]:
    """Return the part of an axis that may be foreground: within one sample of a hot one.

    Args:
        hot: Start and end of the samples above the threshold.
        old: Number of samples.
        new: Number of pixels of the window.
        visible: Start and end of the pixels that lie in the image.
    """
    low, high = floor((hot[0] - 1) * new / old), ceil((hot[1] + 1) * new / old)
    start = max(visible[0], low)
    return start, max(min(visible[1], high), start)
