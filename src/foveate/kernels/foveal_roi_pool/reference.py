# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version: regions, pooling and normalisation one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.arrays import Floats
from foveate.kernels.foveal_boxes.reference import foveal_boxes
from foveate.kernels.roi_max_pool.reference import roi_max_pool

__all__ = ["foveal_roi_pool"]


def foveal_roi_pool(
    maps: Sequence[Floats],
    map_scales: Sequence[float],
    boxes: Floats,
    scales: tuple[float, ...],
    pairs: Sequence[tuple[int, int]],
    output_size: tuple[int, int],
    *,
    rounding: str,
    normalisation: str,
    gain: float,
) -> list[NDArray[np.float64]]:
    """Pool every pair of region and map.

    Args:
        maps: One (1, C, H, W) a map.
        map_scales: Map pixels a picture pixel.
        boxes: (R, 4) xyxy in pixels of the picture.
        scales: Sides of the regions in sides of the box.
        pairs: Region and map of each result.
        output_size: Rows and columns of bins.
        rounding: See ``roi_max_pool``.
        normalisation: ``"none"``; ``"l2"``: each result of each box is divided by its norm;
            ``"rms"``: by the square root of its mean square plus 1e-6.
        gain: What everything is multiplied by.

    Returns:
        (R, C, rows, columns) a pair.
    """
    regions = foveal_boxes(boxes, scales)
    results = []
    for region, index in pairs:
        rois = np.concatenate([np.zeros((len(boxes), 1), np.float32), regions[:, region]], axis=1)
        pooled = roi_max_pool(maps[index], rois, output_size, map_scales[index], rounding)
        values = pooled.astype(np.float64)
        squares = np.sum(values**2, axis=(1, 2, 3), keepdims=True)
        if normalisation == "l2":
            values = values / np.maximum(np.sqrt(squares), 1e-12)
        elif normalisation == "rms":
            values = values / np.sqrt(squares / max(values[0].size, 1) + 1e-6)
        results.append(gain * values)
    return results
