# SPDX-License-Identifier: Apache-2.0
"""Fast version for numpy memory: compiled, or a few maxima a bin.

The runtime's own pooling is part of the classify engine; this one is for programs that have maps
and regions in numpy.
"""

from __future__ import annotations

from ctypes import CDLL, c_float, c_int, c_void_p

import numpy as np
from numpy.typing import NDArray

from foveate.arrays import Floats, Longs
from foveate.kernels.host_library import host_library
from foveate.kernels.host_threads import host_threads
from foveate.kernels.roi_max_pool import FARTHEST, ROUNDINGS
from foveate.kernels.roi_max_pool.arguments import check_arguments

__all__ = ["roi_max_pool"]


def roi_max_pool(
    features: Floats,
    rois: Floats,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    rounding: str = "caffe",
    *,
    threads: int | None = None,
) -> Floats:
    """Take the maximum of each bin of each region; see ``reference.py``.

    Args:
        features: (N, C, H, W) float32.
        rois: (R, 5).
        output_size: Rows and columns of bins.
        spatial_scale: Map pixels a picture pixel.
        rounding: ``"caffe"`` or ``"v2"``.
        threads: Of the compiled version; those of ``host_threads`` by default.

    Returns:
        (R, C, rows, columns).

    Raises:
        OptionError: There is no such rounding, or the arrays do not have these shapes.
    """
    size = check_arguments(features, rois, output_size, rounding)
    maps = np.ascontiguousarray(features, np.float32)
    boxes = np.ascontiguousarray(rois, np.float32)
    library = host_library()
    if library is None:
        return _pool_in_numpy(maps, boxes, size, spatial_scale, rounding)
    count = threads or host_threads()
    return _pool_compiled(library, maps, boxes, size, spatial_scale, rounding, count)


def _pool_compiled(
    library: CDLL,
    features: Floats,
    rois: Floats,
    size: tuple[int, int],
    scale: float,
    rounding: str,
    threads: int,
) -> Floats:
    pooled: Floats = np.empty((len(rois), features.shape[1], *size), np.float32)
    turned = np.empty(features.size, np.float32)
    arrays = (features, turned, rois, pooled)
    library.foveate_host_roi_max_pool(
        *(c_void_p(array.ctypes.data) for array in arrays),
        *(c_int(length) for length in (*features.shape, len(rois), *size)),
        c_float(scale),
        c_int(ROUNDINGS.index(rounding)),
        c_int(threads),
    )
    return pooled


def _pool_in_numpy(
    features: Floats, rois: Floats, size: tuple[int, int], scale: float, rounding: str
) -> Floats:
    """Pool in channel-last layout, where the maxima of all channels are one operation."""
    count, channels, height, width = features.shape
    last = np.ascontiguousarray(features.transpose(0, 2, 3, 1))
    pooled = np.zeros((len(rois), *size, channels), np.float32)
    tops, bottoms = _bins(rois[:, 2], rois[:, 4], size[0], height, scale, rounding)
    lefts, rights = _bins(rois[:, 1], rois[:, 3], size[1], width, scale, rounding)
    known = (rois[:, 0] >= 0) & (rois[:, 0] < count) & ~np.isnan(rois[:, 1:]).any(axis=1)
    for r in np.flatnonzero(known):
        image = last[int(rois[r, 0])]
        for i, (top, bottom) in enumerate(zip(tops[r], bottoms[r], strict=True)):
            if bottom <= top:
                continue
            line = image[top:bottom].max(axis=0) if bottom - top > 1 else image[top]
            for j, (left, right) in enumerate(zip(lefts[r], rights[r], strict=True)):
                if right > left:
                    line[left:right].max(axis=0, out=pooled[r, i, j])
    return np.ascontiguousarray(pooled.transpose(0, 3, 1, 2))


def _bins(
    low: Floats, high: Floats, count: int, limit: int, scale: float, rounding: str
) -> tuple[Longs, Longs]:
    """Return first and end pixel of each bin along one axis, clipped to the map: (R, count)."""
    start, end = _corner(low, scale)[:, None], _corner(high, scale)[:, None]
    lengths = np.maximum(end - start + (rounding == "caffe"), 1)
    step = lengths.astype(np.float32) / np.float32(count)
    index = np.arange(count, dtype=np.float32)
    edges = index * step, (index + 1) * step
    if rounding == "caffe":
        first, last = np.floor(edges[0]), np.ceil(edges[1])
    else:
        first, last = _round(edges[0]), _round(edges[1])
    return tuple(np.clip(e.astype(np.int64) + start, 0, limit) for e in (first, last))


def _corner(values: Floats, scale: float) -> Longs:
    """Return corners in whole pixels of the map; 0 for what is no number."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.clip(values * np.float32(scale), np.float32(-FARTHEST), np.float32(FARTHEST))
    return _round(np.nan_to_num(scaled)).astype(np.int64)


def _round(values: Floats) -> NDArray[np.float32]:
    """Round half away from zero, as C does."""
    magnitude = np.abs(values)
    whole = np.floor(magnitude)
    rounded: NDArray[np.float32] = np.copysign(whole + (magnitude - whole >= 0.5), values)
    return rounded
