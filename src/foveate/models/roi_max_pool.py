# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling in PyTorch and, in an exported graph, `MaxRoiPool`.

Girshick, "Fast R-CNN" (ICCV 2015), section 2.1. There are two ways to round regions and bins to
whole pixels of the map, and networks know the one that they were trained with:

- "caffe", the layer of that paper: both corners rounded half away from zero, the far one inclusive;
  bins from the floor of their start to the ceiling of their end, so that neighbours may overlap.
- "v2", Torch's `inn.ROIPooling` with the field `v2`: the far corner exclusive; the edges of bins
  rounded half away from zero, so that neighbours share no pixel, and a bin may be empty.

NOTE: All arithmetic on coordinates is exact in float32, since one unit in the last place decides
which pixels belong to a bin. No shape depends on the values of the boxes, so that a compiler's graph
holds for all of them. It sees the operation as one node: Inductor was not done with the tables of
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


def roi_max_pool(
    features: Tensor,
    rois: Tensor,
    output_side: int,
    spatial_scale: float,
    rounding: Rounding = "caffe",
) -> Tensor:
    """Pool each region to a square grid of maxima.

    Args:
        features: (1, C, H, W) one picture's map.
        rois: (R, 4) float32 boxes (x1, y1, x2, y2) in pixels of the picture, from 0.
        output_side: bins on each axis, P.
        spatial_scale: map pixels a picture pixel.
        rounding: see the head of this module.

    Returns:
        (R, C, P, P), in the dtype of `features`; 0 for a bin that covers nothing of the map.

    Raises:
        OptionError: there is no such rounding, or it cannot be exported: `MaxRoiPool` is "caffe".
    """
    if rounding not in ("caffe", "v2"):
        raise OptionError(f"rounding must be caffe or v2, found {rounding!r}")
    if torch.onnx.is_in_onnx_export():
        return _max_roi_pool_node(features, rois, output_side, spatial_scale, rounding)
    if torch.compiler.is_compiling():
        node: Tensor = _operator(features, rois, output_side, spatial_scale, rounding)
        return node
    return _pool(features, rois, output_side, spatial_scale, rounding)


def _pool(
    features: Tensor, rois: Tensor, output_side: int, spatial_scale: float, rounding: str
) -> Tensor:
    height, width = features.shape[2:]
    corners = _round_half_away(rois * spatial_scale).long()
    x_bounds = _bin_bounds(corners[:, 0], corners[:, 2], output_side, width, rounding)
    y_bounds = _bin_bounds(corners[:, 1], corners[:, 3], output_side, height, rounding)
    return _range_maxima(features[0].permute(1, 2, 0), y_bounds, x_bounds).permute(0, 3, 1, 2)


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


def _max_roi_pool_node(
    features: Tensor, rois: Tensor, output_side: int, spatial_scale: float, rounding: Rounding
) -> Tensor:
    if rounding != "caffe":
        raise OptionError(
            f"ONNX's MaxRoiPool rounds as Caffe does, the network rounds as {rounding!r}",
            remedy="export a network with rounding='caffe'",
        )
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


def _range_maxima(features: Tensor, y_bounds: Bounds, x_bounds: Bounds) -> Tensor:
    """Maxima of rectangles by a sparse table: windows of powers of two, four look-ups a bin.

    Args:
        features: (H, W, C).
        y_bounds: rows of each bin.
        x_bounds: columns of each bin.

    Returns:
        (R, P, P, C); 0 where a bin is empty.
    """
    table, offsets, widths = _sparse_table(features)
    y_size, x_size = y_bounds[1] - y_bounds[0], x_bounds[1] - x_bounds[0]
    y_level, x_level = _floor_log2(y_size), _floor_log2(x_size)
    y_first, x_first = y_bounds[0][:, :, None], x_bounds[0][:, None, :]
    y_last = (y_bounds[1] - 2**y_level)[:, :, None]
    x_last = (x_bounds[1] - 2**x_level)[:, None, :]
    empty = (y_size <= 0)[:, :, None] | (x_size <= 0)[:, None, :]

    row = offsets.new_tensor(widths)[x_level][:, None, :]
    start = offsets[y_level[:, :, None] * len(widths) + x_level[:, None, :]]

    def look_up(y: Tensor, x: Tensor) -> Tensor:
        index = (start + y * row + x).masked_fill(empty, 0)
        return table.index_select(0, index.flatten()).reshape(*index.shape, table.shape[1])

    top = torch.maximum(look_up(y_first, x_first), look_up(y_first, x_last))
    bottom = torch.maximum(look_up(y_last, x_first), look_up(y_last, x_last))
    return torch.maximum(top, bottom).masked_fill(empty[..., None], 0)


def _sparse_table(features: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Maxima of all windows whose sides are powers of two.

    Args:
        features: (H, W, C).

    Returns:
        (T, C) the windows' maxima, level by level of height and, within, of width, row by row;
        (levels of height * levels of width,) int64 where each begins; windows a row of each level
        of width.
    """
    height, width, channels = features.shape
    widths = [width - 2**j + 1 for j in range(width.bit_length())]
    heights = [height - 2**i + 1 for i in range(height.bit_length())]
    tables = []
    rows = features
    for i in range(len(heights)):
        columns = rows = _pairwise_maxima(rows, 2**i // 2, 0)
        for j in range(len(widths)):
            columns = _pairwise_maxima(columns, 2**j // 2, 1)
            tables.append(columns.reshape(-1, channels))
    lengths = [h * w for h in heights for w in widths]
    offsets = torch.tensor([0, *accumulate(lengths[:-1])], device=features.device)
    return torch.cat(tables), offsets, widths


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
