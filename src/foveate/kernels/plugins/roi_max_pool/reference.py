# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version, bit-equal to ONNX ``MaxRoiPool`` with ``rounding="caffe"``.

NOTE: All arithmetic on coordinates is float32 on purpose. A bin's edge is the floor or ceiling of a
product, and one unit in the last place decides which row of the map belongs to a bin.
"""

from __future__ import annotations

from math import ceil, floor, isnan

import numpy as np

from foveate.arrays import Float32Array
from foveate.errors import OptionError

ROUNDINGS = ("caffe", "v2")

FARTHEST = 2.0**28
"""Largest map coordinate; what lies farther, infinity too, counts as this."""


def roi_max_pool(
    features: Float32Array,
    rois: Float32Array,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    rounding: str = "caffe",
) -> Float32Array:
    """Take the maximum of each bin of each region.

    Args:
        features: (N, C, H, W).
        rois: (R, 5): index of the map in the batch, then xyxy in pixels of the image, from 0. A
            region of a map that does not exist, or with a corner that is not a number, gives 0.
        output_size: Rows and columns of bins.
        spatial_scale: Map pixels an image pixel.
        rounding: ``"caffe"``: corners are rounded half away from zero and both belong to the
            region; bins reach from the floor of their start to the ceiling of their end and may
            overlap. ``"v2"`` (Torch's ``inn.ROIPooling`` with ``v2``): the end is exclusive, the
            edges of bins are rounded half away from zero and do not overlap.

    Returns:
        (R, C, rows, columns); 0 for a bin that covers nothing of the map, NaN for one that covers
        a NaN.

    Raises:
        OptionError: There is no such rounding, or the arrays do not have these shapes.
    """
    if rounding not in ROUNDINGS:
        raise OptionError(f"rounding must be one of {', '.join(ROUNDINGS)}, found {rounding!r}")
    if features.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 5:
        raise OptionError(
            f"expected features (N, C, H, W) and rois (R, 5), found {features.shape} and {rois.shape}"
        )
    rows, columns = (output_size,) * 2 if isinstance(output_size, int) else output_size
    count, channels, height, width = features.shape
    pooled = np.zeros((len(rois), channels, rows, columns), features.dtype)
    for r, (batch, x0, y0, x1, y1) in enumerate(np.asarray(rois, np.float32)):
        if not 0 <= batch < count or any(map(isnan, (x0, y0, x1, y1))):
            continue
        vertical = _bins(y0, y1, rows, height, np.float32(spatial_scale), rounding)
        horizontal = _bins(x0, x1, columns, width, np.float32(spatial_scale), rounding)
        for i, (top, bottom) in enumerate(vertical):
            for j, (left, right) in enumerate(horizontal):
                if bottom > top and right > left:
                    region = features[int(batch), :, top:bottom, left:right]
                    pooled[r, :, i, j] = region.max(axis=(1, 2))
    return pooled


def _bins(
    low: np.float32, high: np.float32, count: int, limit: int, scale: np.float32, rounding: str
) -> list[tuple[int, int]]:
    """Return start and end, clipped to the map, of each bin along one axis."""
    start, end = _corner(low, scale), _corner(high, scale)
    size = max(end - start + 1, 1) if rounding == "caffe" else max(end - start, 1)
    step = np.float32(size) / np.float32(count)
    bins = []
    for k in range(count):
        first, last = np.float32(k) * step, np.float32(k + 1) * step
        if rounding == "caffe":
            edges = floor(first) + start, ceil(last) + start
        else:
            edges = _round(first) + start, _round(last) + start
        bins.append((min(max(edges[0], 0), limit), min(max(edges[1], 0), limit)))
    return bins


def _corner(value: np.float32, scale: np.float32) -> int:
    """Return a corner in whole pixels of the map."""
    with np.errstate(over="ignore"):
        scaled = value * scale
    return _round(np.clip(scaled, np.float32(-FARTHEST), np.float32(FARTHEST)))


def _round(value: np.float32) -> int:
    """Round half away from zero, as C does."""
    magnitude = floor(abs(float(value)) + 0.5)
    return magnitude if value >= 0 else -magnitude
