# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.arrays import BoolArray, Float32Array
from foveate.kernels.pyramid.reference import axis_weights
from foveate.results.window import Window


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


def corner_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix (new, old) that blends an axis whose first and last samples coincide."""
    weights = np.zeros((new, old))
    for i in range(new):
        position = i * (old - 1) / (new - 1) if new > 1 else 0.0
        first = min(int(position), max(old - 2, 0))
        weights[i, first] += 1 - (position - first)
        weights[i, min(first + 1, old - 1)] += position - first
    return weights


def _half_pixel_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix (new, old) that blends an axis between pixel centres, without averaging."""
    weights = np.zeros((new, old))
    for i in range(new):
        position = min(max((2 * i + 1) * old / (2 * new) - 0.5, 0.0), old - 1.0)
        first = min(int(position), max(old - 2, 0))
        weights[i, first] += 1 - (position - first)
        weights[i, min(first + 1, old - 1)] += position - first
    return weights


def upsample(
    features: Float32Array, height: int, width: int, *, align_corners: bool, relu: bool = False
) -> NDArray[np.float64]:
    """Blend (N, C, H, W) maps to any size, after dropping what is negative where asked."""
    values = features.astype(np.float64)
    if relu:
        values = np.maximum(values, 0.0)
    weights = corner_weights if align_corners else _half_pixel_weights
    blended: NDArray[np.float64] = np.einsum(
        "ih,nchw,jw->ncij",
        weights(features.shape[2], height),
        values,
        weights(features.shape[3], width),
    )
    return blended


def upsample_map(features: Float32Array, factor: int) -> NDArray[np.float64]:
    """Upsample a (N, C, H, W) map by a whole factor."""
    rows = axis_weights(features.shape[2], factor * features.shape[2])
    columns = axis_weights(features.shape[3], factor * features.shape[3])
    grown: NDArray[np.float64] = np.einsum(
        "ih,nchw,jw->ncij", rows, features.astype(np.float64), columns
    )
    return grown
