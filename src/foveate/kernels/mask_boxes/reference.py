# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version, in float64."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.arrays import BoolArray, Float32Array
from foveate.kernels.letterbox.reference import axis_weights
from foveate.results.window_mask import Window


def resample(logits: Float32Array, height: int, width: int) -> NDArray[np.float64]:
    """Resample (S, S) logits: bilinear along an axis that grows, area average if it shrinks."""
    rows, columns = axis_weights(logits.shape[0], height), axis_weights(logits.shape[1], width)
    resampled: NDArray[np.float64] = rows @ logits.astype(np.float64) @ columns.T
    return resampled


def paste(
    logits: Float32Array, geometry: Sequence[float], threshold: float, height: int, width: int
) -> tuple[BoolArray, NDArray[np.float64]]:
    """Paste one window into an image; one of width 0 is padding.

    Returns:
        The mask (height, width), and the resampled logits there; -inf outside the window.
    """
    canvas = np.full((height, width), -np.inf)
    if geometry[2] == 0:
        return canvas > threshold, canvas
    window = Window.around(geometry)
    resampled = resample(logits, window.height, window.width)
    for i in range(window.height):
        y = window.top + i
        if 0 <= y < height:
            columns = window.left + np.arange(window.width)
            inside = (columns >= 0) & (columns < width)
            canvas[y, columns[inside]] = resampled[i, inside]
    return canvas > threshold, canvas


def tight_box(mask: BoolArray) -> tuple[int, int, int, int]:
    """Return the xyxy box of a mask; zeros if it is empty."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return (0, 0, 0, 0)
    left, top = int(columns.min()), int(rows.min())
    return left, top, int(columns.max()) + 1, int(rows.max()) + 1
