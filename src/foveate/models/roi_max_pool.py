# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling in PyTorch and, in compiled and exported graphs, one node.

Girshick, "Fast R-CNN" (ICCV 2015), section 2.1. There are two ways to round regions and bins to
whole pixels of the map, and networks know the one that they were trained with:

- "caffe", the layer of that paper: both corners rounded half away from zero, the far one inclusive;
  bins from the floor of their start to the ceiling of their end, so that neighbours may overlap.
- "v2", Torch's `inn.ROIPooling` with the field `v2`: the far corner exclusive; the edges of bins
  rounded half away from zero, so that neighbours share no pixel, and a bin may be empty.

NOTE: All arithmetic on coordinates is exact in float32, since one unit in the last place decides
which pixels belong to a bin. No shape depends on the values of the boxes, so that a compiler's graph
holds for all of them. A compiler sees the operation as one node: Inductor was not done with the tables of
MultiPathNet's five towers after 80 s of processor time, and with the node needs 15 s for all of it.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from foveate.errors import OptionError

Rounding: TypeAlias = Literal["caffe", "v2"]
Bounds: TypeAlias = tuple[Tensor, Tensor]
"""(R, P) int64 first, and past-the-last, map index of each bin on one axis."""

FARTHEST = 2.0**28
"""Largest map coordinate; what lies farther, infinity too, counts as this."""


def roi_max_pool(
    features: Tensor,
    rois: Tensor,
    output_side: int,
    spatial_scale: float,
    rounding: Rounding = "caffe",
) -> Tensor:
    """Pool each region to a square grid of maxima.

    Args:
        features: (1, C, H, W) one image's map.
        rois: (R, 4) float32 boxes (x1, y1, x2, y2) in pixels of the image, from 0.
        output_side: bins on each axis, P.
        spatial_scale: map pixels an image pixel.
        rounding: see the head of this module.

    Returns:
        (R, C, P, P), in the dtype of `features`; 0 for a bin that covers nothing of the map.

    Raises:
        OptionError: there is no such rounding.
    """
    if rounding not in ("caffe", "v2"):
        raise OptionError(f"rounding must be caffe or v2, found {rounding!r}")
    with_batch = torch.nn.functional.pad(rois, (1, 0))
    if torch.compiler.is_compiling():
        node: Tensor = _operator(features, with_batch, output_side, spatial_scale, rounding)
        return node
    return _pool(features, with_batch, output_side, spatial_scale, rounding)


def _pool(
    features: Tensor, rois: Tensor, output_side: int, spatial_scale: float, rounding: str
) -> Tensor:
    """Pool (N, C, H, W) maps by (R, 5) rois, whose first column is the index of the map."""
    count, _, height, width = features.shape
    batch, boxes = rois[:, 0], rois[:, 1:]
    known = (batch >= 0) & (batch < count) & ~boxes.isnan().any(dim=1)
    scaled = (boxes.nan_to_num(0.0, torch.inf, -torch.inf) * spatial_scale).clamp(
        -FARTHEST, FARTHEST
    )
    corners = _round_half_away(scaled).long()
    x_bounds = _bin_bounds(corners[:, 0], corners[:, 2], output_side, width, rounding)
    y_bounds = _bin_bounds(corners[:, 1], corners[:, 3], output_side, height, rounding)
    # What is unknown covers no row, hence nothing.
    y_bounds = (y_bounds[0], torch.where(known[:, None], y_bounds[1], y_bounds[0]))
    maps = batch.masked_fill(~known, 0).long()
    maxima = _range_maxima(features.permute(0, 2, 3, 1), maps, y_bounds, x_bounds)
    return maxima.permute(0, 3, 1, 2)


@torch.library.custom_op("foveate::roi_max_pool", mutates_args=())
def _operator(
    features: Tensor, rois: Tensor, output_side: int, spatial_scale: float, rounding: str
) -> Tensor:
    return _pool(features, rois, output_side, spatial_scale, rounding).contiguous()


@_operator.register_fake
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
    """Pool again: what the maxima were is not kept."""
    features, rois = ctx.saved_tensors
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        pooled = _pool(features, rois, *ctx.numbers)
    (features_gradient,) = torch.autograd.grad(pooled, features, gradient)
    return features_gradient, None, None, None, None


_operator.register_autograd(_backward, setup_context=_setup_context)

OPERATOR = torch.ops.foveate.roi_max_pool.default
"""The node of exported graphs; its rois are (R, 5), the index of the map first."""


def _round_half_away(x: Tensor) -> Tensor:
    """C's `roundf`; `torch.round` would round halves to even, and bins would move."""
    # floor(x + 0.5) would not do: the sum rounds, for the float below 0.5 up to 1.
    magnitude = torch.abs(x)
    whole = torch.floor(magnitude)
    return torch.sign(x) * (whole + (magnitude - whole >= 0.5))


def _bin_bounds(start: Tensor, end: Tensor, bins: int, limit: int, rounding: str) -> Bounds:
    """Split (R,) regions from `start` to `end` into bins, and clip them to [0, limit]."""
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
    """Maxima of rectangles by a sparse table: windows of powers of two, four look-ups a bin.

    Args:
        features: (N, H, W, C).
        maps: (R,) int64, which of the N maps each region is of.
        y_bounds: rows of each bin.
        x_bounds: columns of each bin.

    Returns:
        (R, P, P, C); 0 where a bin is empty.
    """
    table, offsets, lengths, widths = _sparse_table(features)
    y_size, x_size = y_bounds[1] - y_bounds[0], x_bounds[1] - x_bounds[0]
    y_level, x_level = _floor_log2(y_size), _floor_log2(x_size)
    y_first, x_first = y_bounds[0][:, :, None], x_bounds[0][:, None, :]
    y_last = (y_bounds[1] - 2**y_level)[:, :, None]
    x_last = (x_bounds[1] - 2**x_level)[:, None, :]
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
    """Maxima of all windows whose sides are powers of two.

    Args:
        features: (N, H, W, C).

    Returns:
        (T, C) the windows' maxima, level by level of height and, within, of width, map by map, row
        by row; (levels of height * levels of width,) int64 where each begins, and how many of a map
        each has; windows a row of each level of width.
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
    """Maxima of windows and those `step` behind them; the windows themselves if it is 0."""
    if not step:
        return windows
    count = windows.shape[axis] - step
    return torch.maximum(windows.narrow(axis, 0, count), windows.narrow(axis, step, count))


def _floor_log2(size: Tensor) -> Tensor:
    # frexp is exact where log2 in float32 may round across a power of two.
    exponent: Tensor = torch.frexp(size.clamp(min=1).float()).exponent - 1
    return exponent.long()
