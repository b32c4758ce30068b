# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling with Caffe's rounding rule, in PyTorch and, in an exported graph, `MaxRoiPool`.

Girshick, "Fast R-CNN" (ICCV 2015), section 2.1, as its Caffe layer rounds: both corners rounded
half away from zero, the far one inclusive, bins from floor to ceil, overlapping; an empty bin is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def roi_max_pool(features: Tensor, rois: Tensor, output_side: int, spatial_scale: float) -> Tensor:
    """Pool each region to a square grid of maxima.

    Args:
        features: (1, C, H, W) one picture's map.
        rois: (R, 4) float32 boxes (x1, y1, x2, y2) in pixels of the picture.
        output_side: bins on each axis, P.
        spatial_scale: map pixels a picture pixel.

    Returns:
        (R, C, P, P), in the dtype of `features`.
    """
    if torch.onnx.is_in_onnx_export():
        return _max_roi_pool_node(features, rois, output_side, spatial_scale)
    channels, height, width = features.shape[1:]
    if len(rois) == 0:
        return features.new_zeros((0, channels, output_side, output_side))
    corners = _round_half_away(rois * spatial_scale).long()
    x_bounds = _bin_bounds(corners[:, 0], corners[:, 2], output_side, width)
    y_bounds = _bin_bounds(corners[:, 1], corners[:, 3], output_side, height)
    return _range_maxima(features[0].permute(1, 2, 0), y_bounds, x_bounds).permute(0, 3, 1, 2)


def _max_roi_pool_node(
    features: Tensor, rois: Tensor, output_side: int, spatial_scale: float
) -> Tensor:
    with_batch = torch.nn.functional.pad(rois, (1, 0))
    node: Tensor = torch.onnx.ops.symbolic(
        "MaxRoiPool",
        (features, with_batch),
        {"pooled_shape": [output_side, output_side], "spatial_scale": spatial_scale},
        dtype=features.dtype,
        shape=(rois.shape[0], features.shape[1], output_side, output_side),
    )
    return node


def _round_half_away(x: Tensor) -> Tensor:
    """C's `roundf`; `torch.round` would round halves to even, and bins would move."""
    return torch.sign(x) * torch.floor(torch.abs(x) + 0.5)


def _bin_bounds(start: Tensor, end: Tensor, bins: int, limit: int) -> tuple[Tensor, Tensor]:
    """Give (R, bins) first and past-the-last map indices, clipped to [0, limit]."""
    size = (end - start + 1).clamp(min=1).float()
    bin_size = (size / bins)[:, None]
    index = torch.arange(bins, device=start.device)
    first = torch.floor(index * bin_size).long() + start[:, None]
    last = torch.ceil((index + 1) * bin_size).long() + start[:, None]
    return first.clamp(0, limit), last.clamp(0, limit)


def _range_maxima(
    features: Tensor, y_bounds: tuple[Tensor, Tensor], x_bounds: tuple[Tensor, Tensor]
) -> Tensor:
    """Maxima of rectangles by a sparse table: windows of powers of two, four look-ups a bin.

    Args:
        features: (H, W, C).
        y_bounds: (R, P) first and past-the-last row of each bin.
        x_bounds: (R, P) first and past-the-last column of each bin.

    Returns:
        (R, P, P, C); 0 where a bin is empty.
    """
    height, width, channels = features.shape
    y_size, x_size = y_bounds[1] - y_bounds[0], x_bounds[1] - x_bounds[0]
    y_level, x_level = _floor_log2(y_size), _floor_log2(x_size)
    y_levels, x_levels = int(y_level.amax()) + 1, int(x_level.amax()) + 1
    tables = []
    rows = features
    for i in range(y_levels):
        columns = rows
        for j in range(x_levels):
            tables.append(columns.reshape(-1, channels))
            columns = torch.maximum(columns, columns.roll(-(2**j), 1))
        rows = torch.maximum(rows, rows.roll(-(2**i), 0))
    table = torch.cat(tables)

    level = y_level[:, :, None] * x_levels + x_level[:, None, :]
    y_first, x_first = y_bounds[0][:, :, None], x_bounds[0][:, None, :]
    y_last = (y_bounds[1] - 2**y_level)[:, :, None]
    x_last = (x_bounds[1] - 2**x_level)[:, None, :]
    empty = (y_size <= 0)[:, :, None] | (x_size <= 0)[:, None, :]

    def look_up(y: Tensor, x: Tensor) -> Tensor:
        index = ((level * height + y) * width + x).masked_fill(empty, 0)
        return table[index.flatten()].reshape(*index.shape, channels)

    top = torch.maximum(look_up(y_first, x_first), look_up(y_first, x_last))
    bottom = torch.maximum(look_up(y_last, x_first), look_up(y_last, x_last))
    return torch.maximum(top, bottom).masked_fill(empty[..., None], 0)


def _floor_log2(size: Tensor) -> Tensor:
    # frexp is exact where log2 in float32 may round across a power of two.
    exponent: Tensor = torch.frexp(size.clamp(min=1).float()).exponent - 1
    return exponent.long()
