# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory."""

from __future__ import annotations

from math import log

import numpy as np

from foveate.arrays import Float32Array

MAX_GROWTH = log(1000 / 16)  # the logarithm of the largest factor by which a box may grow


def decode_boxes(
    boxes: Float32Array,
    deltas: Float32Array,
    *,
    mean: tuple[float, float, float, float],
    std: tuple[float, float, float, float],
    height: int,
    width: int,
) -> Float32Array:
    """Move and scale boxes by their regression, and clip them to the image.

    Args:
        boxes: (R, 4) xyxy.
        deltas: (R, C, 4): t_x, t_y in units of the box's width and height, t_w, t_h logarithms of
            factors; all minus ``mean``, over ``std``.
        mean: Of the four values.
        std: Of the four values.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        (R, C, 4) xyxy.
    """
    shift = deltas * np.array(std, np.float32) + np.array(mean, np.float32)
    sides = boxes[:, None, 2:] - boxes[:, None, :2]
    centres = boxes[:, None, :2] + 0.5 * sides + shift[..., :2] * sides
    half = 0.5 * sides * np.exp(np.minimum(shift[..., 2:], np.float32(MAX_GROWTH)))
    decoded = np.concatenate([centres - half, centres + half], axis=-1)
    limits = np.array([width, height, width, height], np.float32)
    clipped: Float32Array = np.clip(decoded, np.float32(0), limits)
    return clipped


def decode_boxes_op(
    boxes: Float32Array,
    deltas: Float32Array,
    decoded: Float32Array,
    *,
    mean: tuple[float, float, float, float],
    std: tuple[float, float, float, float],
    height: int,
    width: int,
) -> None:
    """Write :func:`decode_boxes` to ``decoded``."""
    decoded[...] = decode_boxes(boxes, deltas, mean=mean, std=std, height=height, width=width)
