# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling, slow and obvious (Girshick, "Fast R-CNN", ICCV 2015, section 2.1).

With ``rounding="caffe"`` the result is bit-equal to that of ONNX ``MaxRoiPool``.
"""

from math import ceil, floor, isnan

import numpy as np

from foveate.arrays import Float32Array
from foveate.errors import OptionError

ROUNDINGS = ("caffe", "v2")

FARTHEST = 2.0**28
"""Largest map coordinate; larger ones, including infinity, are clamped to it."""


def roi_max_pool(
    features: Float32Array,
    rois: Float32Array,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    rounding: str = "caffe",
) -> Float32Array:
    """Return the maximum of each bin of each region.

    Args:
        features: Maps (N, C, H, W), float32.
        rois: Regions (R, 5), float32: index of the map in the batch, then xyxy in image pixels,
            from 0. A region gives 0 if its map does not exist or a corner is NaN.
        output_size: Rows and columns of bins, or one number for both.
        spatial_scale: Map pixels per image pixel.
        rounding: With ``"caffe"``, corners are rounded half away from zero and both belong to the
            region; bins reach from the floor of their start to the ceiling of their end and may
            overlap. With ``"v2"`` (``inn.ROIPooling`` of Torch7 with ``v2``), the end is exclusive;
            the edges of bins are rounded half away from zero, and bins do not overlap.

    Returns:
        Maxima (R, C, rows, columns), float32; 0 for a bin outside of the map, NaN for a bin with a
        NaN.

    Raises:
        OptionError: The rounding is unknown, or an array has the wrong shape.
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
    # Coordinates stay in float32, as on the device: an edge is the floor or the ceiling of a
    # product, and one unit in the last place decides which row of the map belongs to a bin.
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
