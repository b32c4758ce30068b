# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version, in float64 and without OpenCV."""

import numpy as np
from numpy.typing import NDArray

from foveate.arrays import UInt8Array


def axis_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix that resamples an axis by box overlap or, if it grows, by triangles.

    Args:
        old: Length of the axis.
        new: Length of the result.

    Returns:
        Weights (new, old), where each row sums to 1. Pixel centers lie at half-integers.
    """
    weights = np.zeros((new, old))
    scale = old / new
    pixels = np.arange(old)
    for i in range(new):
        if new < old:
            overlap = np.minimum((i + 1) * scale, pixels + 1) - np.maximum(i * scale, pixels)
            weights[i] = np.maximum(overlap, 0.0) / scale
        else:
            center = min(max((i + 0.5) * scale - 0.5, 0.0), old - 1.0)
            first = min(int(np.floor(center)), max(old - 2, 0))
            weights[i, first] += 1 - (center - first)
            weights[i, min(first + 1, old - 1)] += center - first
    return weights


def resize(image: UInt8Array, height: int, width: int) -> NDArray[np.float64]:
    """Resize an (H, W, 3) image without rounding: (height, width, 3), 0 to 255."""
    rows = axis_weights(image.shape[0], height)
    columns = axis_weights(image.shape[1], width)
    resized: NDArray[np.float64] = np.einsum(
        "ih,hwc,jw->ijc", rows, image.astype(np.float64), columns
    )
    return resized


def letterbox(
    image: UInt8Array,
    canvas_height: int,
    canvas_width: int,
    *,
    height: int,
    width: int,
    border: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    fill: int,
) -> NDArray[np.float64]:
    """Return the canvas (1, 3, canvas_height, canvas_width) of the CPU version, without rounding."""
    canvas = np.full((canvas_height, canvas_width, 3), float(fill))
    canvas[border : border + height, border : border + width] = resize(image, height, width)
    normalized = (canvas - np.array(mean)) / np.array(std)
    channel_first: NDArray[np.float64] = normalized.transpose(2, 0, 1)[None]
    return channel_first
