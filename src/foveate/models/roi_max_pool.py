# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling in PyTorch; in compiled and exported graphs it is one node.

Girshick, "Fast R-CNN" (ICCV 2015), section 2.1. There are two rules for rounding regions and bins
to whole pixels of the map, and a network needs the one that it was trained with:

- "caffe", the layer of that paper: both corners are rounded half away from zero, the far one
  inclusive; bins go from the floor of their start to the ceiling of their end, and may overlap.
- "v2", ``inn.ROIPooling`` of Torch7 with the field ``v2``: the far corner is exclusive; the edges
  of bins are rounded half away from zero, so that no two share a pixel and a bin may be empty.

NOTE: No shape depends on the values of the boxes, so that one compiled graph serves all of them.
"""

from itertools import accumulate
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from foveate.errors import OptionError

Rounding: TypeAlias = Literal["caffe", "v2"]
Bounds: TypeAlias = tuple[Tensor, Tensor]
"""First and past-the-last map index of each bin on one axis, (R, P) int64 each."""

# Whole numbers and halves up to it are exact in float32; one unit in the last place can decide
# which pixels belong to a bin.
FARTHEST = 2.0**28
"""Largest map coordinate, to which larger ones are clamped."""


def roi_max_pool(
    features: Tensor,
    rois: Tensor,
    output_side: int,
    spatial_scale: float,
    rounding: Rounding = "caffe",
) -> Tensor:
    """Pool each region to a square grid of maxima.

    Args:
        features: Map of one image, (1, C, H, W).
        rois: Boxes (R, 4) float32 xyxy in pixels of the image, which count from 0.
        output_side: Number of bins on each axis, P.
        spatial_scale: Pixels of the map per pixel of the image.
        rounding: Rounding rule, see the head of this module.

    Returns:
        Maxima (R, C, P, P) in the dtype of ``features``; 0 for a bin without pixels of the map.

    Raises:
        OptionError: There is no such rounding rule.
    """
    if rounding not in ("caffe", "v2"):
        raise OptionError(f"rounding must be caffe or v2, found {rounding!r}")
    with_batch = torch.nn.functional.pad(rois, (1, 0))
    # Inductor needs 15 s for the five towers of MultiPathNet with this node, and had not compiled
    # their tables of maxima after 80 s without it.
    if torch.compiler.is_compiling():
        node: Tensor = _roi_max_pool(features, with_batch, output_side, spatial_scale, rounding)
        return node
    return _pool(features, with_batch, output_side, spatial_scale, rounding)


def _pool(
    features: Tensor, rois: Tensor, output_side: int, spatial_scale: float, rounding: str
) -> Tensor:
    """Pool maps (N, C, H, W) by boxes (R, 5), whose first column is the index of the map."""
    count, _, height, width = features.shape
    batch, boxes = rois[:, 0], rois[:, 1:]
    known = (batch >= 0) & (batch < count) & ~boxes.isnan().any(dim=1)
    scaled = boxes.nan_to_num(0.0, torch.inf, -torch.inf) * spatial_scale
    corners = _round_half_away(scaled.clamp(-FARTHEST, FARTHEST)).long()
    x_bounds = _bin_bounds(corners[:, 0], corners[:, 2], output_side, width, rounding)
    y_bounds = _bin_bounds(corners[:, 1], corners[:, 3], output_side, height, rounding)
    # A box of NaN, or of a map that does not exist, covers no row and pools to 0.
    y_bounds = (y_bounds[0], torch.where(known[:, None], y_bounds[1], y_bounds[0]))
    maps = batch.masked_fill(~known, 0).long()
    maxima = _range_maxima(features.permute(0, 2, 3, 1), maps, y_bounds, x_bounds)
    return maxima.permute(0, 3, 1, 2)


@torch.library.custom_op("foveate::roi_max_pool", mutates_args=())
def _roi_max_pool(
    features: Tensor, rois: Tensor, output_side: int, spatial_scale: float, rounding: str
) -> Tensor:
    return _pool(features, rois, output_side, spatial_scale, rounding).contiguous()


@_roi_max_pool.register_fake
def _fake(
    features: Tensor, rois: Tensor, output_side: int, spatial_scale: float, rounding: str
) -> Tensor:
    del spatial_scale, rounding
    return features.new_empty((rois.shape[0], features.shape[1], output_side, output_side))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    features, rois, *ctx.numbers = inputs
    ctx.save_for_backward(features, rois)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    features, rois = ctx.saved_tensors
    # Pool again, since the positions of the maxima were not saved.
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        pooled = _pool(features, rois, *ctx.numbers)
    (features_gradient,) = torch.autograd.grad(pooled, features, gradient)
    return features_gradient, None, None, None, None


_roi_max_pool.register_autograd(_backward, setup_context=_setup_context)

ROI_MAX_POOL = torch.ops.foveate.roi_max_pool.default
"""The node of exported graphs that pools boxes (R, 5); the first column is the index of the map."""


def _round_half_away(x: Tensor) -> Tensor:
    """Round like ``roundf`` of C; ``torch.round`` rounds halves to even."""
    # floor(x + 0.5) would be wrong for the float below 0.5, where the sum rounds up to 1.
    magnitude = torch.abs(x)
    whole = torch.floor(magnitude)
    return torch.sign(x) * (whole + (magnitude - whole >= 0.5))


def _bin_bounds(start: Tensor, end: Tensor, bins: int, limit: int, rounding: str) -> Bounds:
    """Split regions from ``start`` to ``end``, (R,) each, into bins clipped to [0, limit]."""
    inclusive = int(rounding == "caffe")
    size = (end - start + inclusive).clamp(min=1)
    bin_size = (size.float() / bins)[:, None]
    index = torch.arange(bins, device=start.device)
    first, last = index * bin_size, (index + 1) * bin_size
    if rounding == "caffe":
        first, last = torch.floor(first), torch.ceil(last)
    else:
        first, last = _round_half_away(first), _round_half_away(last)
    low = (first.long() + start[:, None]).clamp(0, limit)
    return low, (last.long() + start[:, None]).clamp(0, limit)


def _range_maxima(features: Tensor, maps: Tensor, y_bounds: Bounds, x_bounds: Bounds) -> Tensor:
    """Return the maxima of rectangles by a sparse table, with four look-ups per bin.

    From maps (N, H, W, C), the index of the map of each region, (R,) int64, and the bounds of its
    bins to (R, P, P, C), with 0 where a bin is empty.
    """
    table, offsets, lengths, widths = _sparse_table(features)
    y_size, x_size = y_bounds[1] - y_bounds[0], x_bounds[1] - x_bounds[0]
    y_level, x_level = _floor_log2(y_size), _floor_log2(x_size)
    y_first, x_first = y_bounds[0][:, :, None], x_bounds[0][:, None, :]
    y_last = (y_bounds[1] - 2**y_level)[:, :, None]
    x_last = (x_bounds[1] - 2**x_level)[:, None, :]
    # A side is covered by two windows whose side is the largest power of two that fits.
    empty = (y_size <= 0)[:, :, None] | (x_size <= 0)[:, None, :]

    row = offsets.new_tensor(widths)[x_level][:, None, :]
    level = y_level[:, :, None] * len(widths) + x_level[:, None, :]
    start = offsets[level] + maps[:, None, None] * lengths[level]

    def look_up(y: Tensor, x: Tensor) -> Tensor:
        index = (start + y * row + x).masked_fill(empty, 0)
        return table.index_select(0, index.flatten()).reshape(*index.shape, table.shape[1])

    top = torch.maximum(look_up(y_first, x_first), look_up(y_first, x_last))
    bottom = torch.maximum(look_up(y_last, x_first), look_up(y_last, x_last))
    return torch.maximum(top, bottom).masked_fill(empty[..., None], 0)


def _sparse_table(features: Tensor) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Compute the maxima of all windows of maps (N, H, W, C) whose sides are powers of two.

    Returns:
        Maxima (T, C), by level of height, level of width, map, row and column; index of the first
        of each pair of levels, (levels of height * levels of width,) int64; number of windows per
        map of each pair, the same shape; number of windows per row of each level of width.
    """
    count, height, width, channels = features.shape
    widths = [width - 2**j + 1 for j in range(width.bit_length())]
    heights = [height - 2**i + 1 for i in range(height.bit_length())]
    tables = []
    rows = features
    for i in range(len(heights)):
        columns = rows = _pairwise_maxima(rows, 2**i // 2, 1)
        for j in range(len(widths)):
            columns = _pairwise_maxima(columns, 2**j // 2, 2)
            tables.append(columns.reshape(-1, channels))
    lengths = [h * w for h in heights for w in widths]
    offsets = [count * length for length in [0, *accumulate(lengths[:-1])]]
    numbers = torch.tensor([offsets, lengths], device=features.device)
    return torch.cat(tables), numbers[0], numbers[1], widths


def _pairwise_maxima(windows: Tensor, step: int, axis: int) -> Tensor:
    """Return the maxima of windows and those ``step`` after them; for 0 the windows themselves."""
    if not step:
        return windows
    count = windows.shape[axis] - step
    return torch.maximum(windows.narrow(axis, 0, count), windows.narrow(axis, step, count))


def _floor_log2(size: Tensor) -> Tensor:
    # frexp is exact where log2 in float32 may round across a power of two.
    exponent: Tensor = torch.frexp(size.clamp(min=1).float()).exponent - 1
    return exponent.long()
