# SPDX-License-Identifier: Apache-2.0
"""The mask of one window in the image, as runs of foreground down its columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from foveate.arrays import BoolArray, Float32Array, Int32Array, Int64Array, UInt8Array
from foveate.images.resampling import resample

# Up to this many pixels per logit, the columns of a window are faster to resample than to solve.
_PIXELS_PER_LOGIT = 2


@dataclass(frozen=True)
class Window:
    """A window in whole pixels of the image. It may extend beyond the image.

    Each edge of the continuous window is rounded to the nearest pixel boundary, so that no edge
    moves by more than half a pixel. A window covers at least one pixel.

    Args:
        left: First column.
        top: First row.
        width: Number of columns.
        height: Number of rows.
    """

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def around(cls, geometry: Sequence[float]) -> Window:
        """Return the window of (x0, y0, width, height), in pixels of the image."""
        x0, y0, width, height = geometry
        left, top = floor(x0 + 0.5), floor(y0 + 0.5)
        right, bottom = floor(x0 + width + 0.5), floor(y0 + height + 0.5)
        return cls(left, top, max(right - left, 1), max(bottom - top, 1))

    def clip(self, region: Sequence[int]) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right of the part in a region, relative to the window."""
        top, left = max(region[1] - self.top, 0), max(region[0] - self.left, 0)
        bottom = min(region[3] - self.top, self.height)
        right = min(region[2] - self.left, self.width)
        return top, max(bottom, top), left, max(right, left)


class ColumnRuns:
    """A mask, as runs of foreground down its columns.

    Args:
        columns: (R,) int64 column of each run, in pixels of the image. Runs are sorted by column,
            then by row; they do not overlap but may touch.
        starts: (R,) int64 first row of each run.
        ends: (R,) int64 row after the last row of each run.
    """

    def __init__(self, columns: Int64Array, starts: Int64Array, ends: Int64Array) -> None:
        self.columns, self.starts, self.ends = columns, starts, ends

    def box(self) -> tuple[int, int, int, int]:
        """Return the tight xyxy box in pixels of the image; zeros if there is no foreground."""
        if not len(self.columns):
            return (0, 0, 0, 0)
        top, bottom = int(self.starts.min()), int(self.ends.max())
        return (int(self.columns[0]), top, int(self.columns[-1]) + 1, bottom)

    def area(self) -> int:
        """Return the number of foreground pixels."""
        return int(np.sum(self.ends - self.starts))

    def rle(self, height: int, width: int) -> dict[str, Any]:
        """Return COCO's compressed run-length code of the mask in an image of this size."""
        return encode_runs(self.columns, self.starts, self.ends, height, width)

    def crop_runs(self) -> tuple[Int32Array, tuple[int, int, int, int]]:
        """Return the lengths of alternating runs of background and foreground inside the box.

        Returns:
            (R,) int32 lengths down the columns of the box, background first; and top, left, height
            and width of the box, of one background pixel if there is no foreground.
        """
        left, top, right, bottom = self.box()
        height, width = max(bottom - top, 1), max(right - left, 1)
        columns = (self.columns - left) * height
        starts, ends = columns + (self.starts - top), columns + (self.ends - top)
        counts = np.array(_run_lengths(starts, ends, height * width), np.int32)
        return counts, (top, left, height, width)

    def mask(self) -> tuple[BoolArray, int, int]:
        """Return the mask inside its box, and the row and column of the box in the image."""
        left, top, right, bottom = self.box()
        mask = np.zeros((bottom - top, right - left), bool)
        self._paint(mask, top, left)
        return mask, top, left

    def paint(self, image: BoolArray) -> None:
        """Set the foreground in ``image``, an (H, W) array that is all False."""
        left, top, right, bottom = self.box()
        self._paint(image[top:bottom, left:right], top, left)

    def _paint(self, target: BoolArray, top: int, left: int) -> None:
        """Set the foreground in the box of the mask, whose first pixel is at (top, left)."""
        # Marks the start and the end of each run; then each row continues the row above it.
        pixels: UInt8Array = target.view(np.uint8)
        pixels[self.starts - top, self.columns - left] = 1
        continues = self.ends - top < len(target)
        pixels[self.ends[continues] - top, self.columns[continues] - left] ^= 1
        for above, row in itertools.pairwise(pixels):
            np.bitwise_xor(above, row, out=row)


class WindowMask(ColumnRuns):
    """The visible part of the mask of one window.

    Args:
        logits: (S, S) mask logits.
        window: Window in the image.
        threshold: Logit above which a resampled pixel is foreground.
        region: Left, top, right and bottom of the part of the image in which the window was seen;
            foreground outside of it is left out.
    """

    def __init__(
        self, logits: Float32Array, window: Window, *, threshold: float, region: Sequence[int]
    ) -> None:
        top, bottom, left, right = window.clip(region)
        if window.height <= _PIXELS_PER_LOGIT * len(logits):
            pixels = _visible_pixels(logits, window, threshold, region)
            column, row = _changes(pixels.T)
            row = row + top
        elif right > left and (hot := _extent(logits > np.float32(threshold))):
            # A window of a large photograph can measure thousands of pixels, while its mask has 160
            # samples per side. The logits are therefore resampled only to the columns of the
            # window. Down a column the logit is linear between two samples, so that it meets the
            # threshold at one place, which a division finds. Box, area and code follow from these
            # places; pixels are painted only on request.
            left, right = _near(hot[2:], logits.shape[1], window.width, (left, right))
            lines, first = _lines(logits, hot[:2], window, slice(left, right))
            column, row = _crossings(lines, first, len(logits), window.height, threshold)
            row = np.clip(row, top, bottom)
        else:
            column = row = np.zeros(0, np.int64)
        starts, ends = row[::2], row[1::2]
        seen = ends > starts
        columns = column[::2][seen] + (left + window.left)
        super().__init__(columns, starts[seen] + window.top, ends[seen] + window.top)


def window_box(
    logits: Float32Array, window: Window, *, threshold: float, region: Sequence[int]
) -> tuple[int, int, int, int]:
    """Return the box of the :class:`WindowMask` of the same arguments, usually without its runs."""
    if window.height > _PIXELS_PER_LOGIT * len(logits):
        return WindowMask(logits, window, threshold=threshold, region=region).box()
    pixels = _visible_pixels(logits, window, threshold, region)
    x, y, width, height = cv2.boundingRect(pixels.view(np.uint8))
    if not width:
        return (0, 0, 0, 0)
    top, _, left, _ = window.clip(region)
    x, y = x + left + window.left, y + top + window.top
    return (x, y, x + width, y + height)


def _visible_pixels(
    logits: Float32Array, window: Window, threshold: float, region: Sequence[int]
) -> BoolArray:
    """Return the (rows, columns) foreground of the part of a window in a region."""
    top, bottom, left, right = window.clip(region)
    if (window.height < len(logits)) != (window.width < len(logits)):
        logits = resample(logits, len(logits), window.width)  # one axis shrinks, the other grows
    pixels = resample(logits, window.height, window.width)[top:bottom, left:right]
    foreground: BoolArray = pixels > np.float32(threshold)
    return foreground


def _lines(
    logits: Float32Array, hot: tuple[int, int], window: Window, columns: slice
) -> tuple[Float32Array, int]:
    """Return (columns, samples) logits down the columns of the window, and the first sample's index.

    The samples are the rows of logits with foreground, and one more on each side.
    """
    low, high = max(hot[0] - 1, 0), min(hot[1] + 1, len(logits))
    lines = np.ascontiguousarray(logits[low:high].T)
    return resample(lines, window.width, high - low)[columns], low


def _changes(lines: BoolArray) -> tuple[Int64Array, Int64Array]:
    """Return the line and the index of each change between background and foreground.

    Changes alternate and are sorted by line, then by index: the first of a line is the index of its
    first foreground. Beyond the ends of (lines, values) everything is background.
    """
    # Every line begins and ends with background, so that no change lies between two lines.
    padded = np.zeros((len(lines), lines.shape[1] + 2), bool)
    padded[:, 1:-1] = lines
    flat = padded.reshape(-1)
    line, index = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), padded.shape[1])
    return line, index


def _crossings(
    lines: Float32Array, first: int, size: int, height: int, threshold: float
) -> tuple[Int64Array, Int64Array]:
    """Return the column and the row of each change between background and foreground.

    They are as in :func:`_changes`, with rows in pixels of the window, from 0 to ``height``, which
    is at least the number of samples.
    """
    column, gap = _changes(lines > np.float32(threshold))
    earliest, latest = _gap_rows(size, height)
    before = lines[column, np.maximum(gap - 1, 0)].astype(np.float64)
    after = lines[column, np.minimum(gap, lines.shape[1] - 1)].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (np.float64(np.float32(threshold)) - before) / (after - before)
    row = (first + gap - 0.5 + share) * (height / size) - 0.5
    # Foreground is strictly larger: a pixel exactly at the threshold is background.
    row = np.where(after > before, np.floor(row) + 1, np.ceil(row))
    # fmin and fmax replace NaN, which stands beyond the samples and next to infinite ones.
    row = np.fmax(np.fmin(row, latest[first + gap]), earliest[first + gap])
    return column, row.astype(np.int64)


def _gap_rows(size: int, height: int) -> tuple[Int64Array, Int64Array]:
    """Return the first and last row at which the mask may change between two samples.

    Gap ``i`` lies between the samples ``i - 1`` and ``i``. Sample ``i`` lies at the row
    ``((2 i + 1) height - size) / (2 size)``.
    """
    place = (2 * np.arange(size) + 1) * height - size
    earliest, latest = np.zeros((2, size + 1), np.int64)
    earliest[1:] = place // (2 * size) + 1
    latest[:-1] = -(-place // (2 * size))
    latest[0], earliest[-1], latest[-1] = 0, height, height
    return earliest, latest


def _extent(mask: BoolArray) -> tuple[int, int, int, int] | None:
    """Return top, bottom, left and right of the pixels that are set; None if there are none."""
    rows, columns = np.flatnonzero(np.any(mask, 1)), np.flatnonzero(np.any(mask, 0))
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _near(hot: tuple[int, int], old: int, new: int, visible: tuple[int, int]) -> tuple[int, int]:
    """Return the visible pixels of an axis within one sample of the foreground, as start and end.

    The axis has ``old`` samples, those from ``hot[0]`` to ``hot[1]`` above the threshold, and
    ``new`` pixels.
    """
    low, high = floor((hot[0] - 1) * new / old), ceil((hot[1] + 1) * new / old)
    start = max(visible[0], low)
    return start, max(min(visible[1], high), start)


def encode_runs(
    columns: Int64Array, starts: Int64Array, ends: Int64Array, height: int, width: int
) -> dict[str, Any]:
    """Encode runs of foreground as COCO's compressed run-length code.

    Args:
        columns: (R,) column of each run, sorted by column, then by row.
        starts: (R,) first row of each run.
        ends: (R,) row after the last row of each run.
        height: Number of rows of the mask.
        width: Number of columns of the mask.

    Returns:
        ``{"size": [height, width], "counts": str}``, which COCO's tools read.
    """
    counts = _run_lengths(columns * height + starts, columns * height + ends, height * width)
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _run_lengths(starts: Int64Array, ends: Int64Array, total: int) -> list[int]:
    """Return the lengths of alternating runs of zeros and ones, down the columns."""
    if not len(starts):
        return [total]
    apart = starts[1:] != ends[:-1]  # a run may continue in the next column
    starts = starts[np.concatenate([[True], apart])]
    ends = ends[np.concatenate([apart, [True]])]
    edges = np.stack([starts, ends], axis=1).ravel()
    counts: list[int] = np.diff(edges, prepend=0).tolist()
    if edges[-1] < total:
        counts.append(total - int(edges[-1]))
    return counts
