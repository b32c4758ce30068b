# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version."""

from __future__ import annotations

import numpy as np

from foveate.arrays import Floats
from foveate.kernels.foveal_boxes import FOVEAL_SCALES

__all__ = ["foveal_boxes"]


def foveal_boxes(boxes: Floats, scales: tuple[float, ...] = FOVEAL_SCALES) -> Floats:
    """Return the regions around each box: the same centre, the sides times each scale, unclipped.

    Args:
        boxes: (R, 4) xyxy.
        scales: Of the regions.

    Returns:
        (R, len(scales), 4) xyxy.
    """
    regions = np.empty((len(boxes), len(scales), 4), np.float32)
    for r, (x0, y0, x1, y1) in enumerate(boxes.astype(np.float64)):
        for s, scale in enumerate(scales):
            grow_x, grow_y = (x1 - x0) * (scale - 1) / 2, (y1 - y0) * (scale - 1) / 2
            regions[r, s] = (x0 - grow_x, y0 - grow_y, x1 + grow_x, y1 + grow_y)
    return regions
