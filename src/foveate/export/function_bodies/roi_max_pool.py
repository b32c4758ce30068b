# SPDX-License-Identifier: Apache-2.0
"""The body of `foveate::RoiMaxPool2d`: exact, without a loop, and with both rounding rules.

A sparse table holds the maxima of all windows whose sides are powers of two. Any bin is the union
of four of them, which overlap, one at each of its corners; so a bin is the maximum of four look-ups
however large it is. The table is separable: windows of all heights are stacked along the rows, then
windows of all widths along the columns, so that the place of a window is the sum of one number a
row and one number a column.

Channels do not meet, so they may be cut into parts, of which one at a time has its table and its
look-ups in memory.

NOTE: Heights (or widths) that the map does not have are stacks of no rows, so one body serves maps
of any size up to 2^levels. A bin larger than that would need a window that the table does not have:
its look-up is out of bounds, an error in ONNX Runtime, never a wrong maximum.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import parser

__all__ = ["roi_max_pool_body"]

_FARTHEST = 2.0**28
"""Largest map coordinate, as in the reference: what lies farther counts as this."""


def roi_max_pool_body(
    largest_side: int, radix: int = 2, parts: int = 1, overload: str = ""
) -> onnx.FunctionProto:
    """Write the function for maps of any size up to a largest one.

    Its inputs are `features` (N, C, H, W) of any float type and `rois` (R, 5) float32: the index of
    the map in the batch, then xyxy in picture pixels. Its output is `pooled` (R, C, rows, columns),
    as `foveate.kernels.roi_max_pool.reference` says.

    Args:
        largest_side: of the maps, in cells.
        radix: of the windows' sides, 1, radix, radix^2 and so on: 2, or 4 for a table of a third of
            the size and 16 look-ups in place of four.
        parts: that the channels are cut into; tables and look-ups are of one part at a time. At
            most the number of channels.
        overload: name of this body among those of one model.
    """
    levels = 1
    while radix**levels < largest_side:
        levels += 1
    cut = f"Split <axis = 1, num_outputs = {parts}>" if parts > 1 else "Identity"
    join = "Concat <axis = 1>" if parts > 1 else "Identity"
    lines = [
        *_constants(levels, radix),
        *_sizes(),
        *_corners(),
        *_bins("y", "rows", "height", radix),
        *_bins("x", "columns", "width", radix),
        *_places(radix),
        f"{_of_parts('features', parts)} = {cut} (features)",
    ]
    for part in range(parts):
        lines += [*_table(part, levels, radix), *_look_ups(part, radix)]
    lines.append(f"pooled = {join} ({_of_parts('pooled', parts)})")
    body = "\n".join(lines)
    function = parser.parse_function(
        '<opset_import: ["" : 18], domain: "foveate">\n'
        "RoiMaxPool2d <pooled_shape, spatial_scale, rounding, plugin_namespace, plugin_version>"
        f"(features, rois) => (pooled)\n{{\n{body}\n}}"
    )
    function.overload = overload
    return function


def _of_parts(name: str, parts: int) -> str:
    return ", ".join(f"{name}_{part}" for part in range(parts))


def _ints(values: list[int]) -> str:
    return f"Constant <value_ints = [{', '.join(map(str, values))}]> ()"


def _constants(levels: int, radix: int) -> Iterator[str]:
    powers = [radix**k for k in range(levels)]
    yield f"zero = {_ints([0])}"
    yield f"one = {_ints([1])}"
    yield f"all = {_ints([2**62])}"
    for axis in (1, 2, 3, 4, 5):
        yield f"axis_{axis} = {_ints([axis])}"
    yield f"last_axis = {_ints([-1])}"
    yield "zero_scalar = Constant <value_int = 0> ()"
    yield "one_scalar = Constant <value_int = 1> ()"
    yield "pooled_shape_values = Constant <value_ints: ints = @pooled_shape> ()"
    yield "none = Constant <value_float = 0.0> ()"
    yield "half = Constant <value_float = 0.5> ()"
    yield f"windows = {_ints(powers)}"
    # The last of them is met by no bin that the table serves.
    yield f"next_windows = {_ints([*powers[1:], radix**levels + 1])}"
    below = [int(column < row) for row in range(levels) for column in range(levels)]
    yield f"below_flat = {_ints(below)}"
    yield f"square = {_ints([levels, levels])}"
    yield "below = Reshape (below_flat, square)"


def _sizes() -> Iterator[str]:
    """Rows (and columns) of the table, and in which of them the windows of each size begin."""
    yield "batch_size = Shape <start = 0, end = 1> (features)"
    yield "height = Shape <start = 2, end = 3> (features)"
    yield "width = Shape <start = 3, end = 4> (features)"
    for axis, side in (("y", "height"), ("x", "width")):
        yield f"less_{axis} = Sub ({side}, windows)"
        yield f"counted_{axis} = Add (less_{axis}, one)"
        yield f"counts_{axis} = Max (counted_{axis}, zero)"
        yield f"counts_below_{axis} = Mul (counts_{axis}, below)"
        yield f"starts_{axis} = ReduceSum <keepdims = 0> (counts_below_{axis}, axis_1)"
        yield f"sum_{axis} = ReduceSum (counts_{axis}, zero)"
    yield "table_columns = Identity (sum_x)"
    yield "table_rows = Add (sum_y, one)"
    yield "zero_place = Mul (sum_y, table_columns)"


def _table(part: int, levels: int, radix: int) -> Iterator[str]:
    """Stack windows of all heights, then of all widths: `table_*` (N * rows * columns, C)."""
    tall, wide = f"tall_{part}", f"wide_{part}"
    yield f"channels_{part} = Shape <start = 1, end = 2> (features_{part})"
    yield f"{tall}_0 = Transpose <perm = [0, 2, 3, 1]> (features_{part})"
    yield from _grown(tall, levels, radix, axis=1)
    # A row of zeros, for bins that cover nothing.
    yield f"zero_value_{part} = CastLike (none, features)"
    yield f"zero_shape_{part} = Concat <axis = 0> (batch_size, one, width, channels_{part})"
    yield f"zero_row_{part} = Expand (zero_value_{part}, zero_shape_{part})"
    stack = ", ".join(f"{tall}_{k}" for k in range(levels))
    yield f"{wide}_0 = Concat <axis = 1> ({stack}, zero_row_{part})"
    yield from _grown(wide, levels, radix, axis=2)
    stack = ", ".join(f"{wide}_{k}" for k in range(levels))
    yield f"stacked_{part} = Concat <axis = 2> ({stack})"
    yield f"flat_shape_{part} = Concat <axis = 0> (last_axis, channels_{part})"
    yield f"table_{part} = Reshape (stacked_{part}, flat_shape_{part})"


def _grown(name: str, levels: int, radix: int, *, axis: int) -> Iterator[str]:
    """Windows of each size from those of the size before, doubled once or more."""
    for k in range(1, levels):
        before, size = f"{name}_{k - 1}", radix ** (k - 1)
        while size < radix**k:
            double = f"{name}_{k}" if 2 * size == radix**k else f"{name}_of_{2 * size}"
            yield f"{double}_step = {_ints([size])}"
            yield f"{double}_end = {_ints([-size])}"
            yield f"{double}_a = Slice ({before}, zero, {double}_end, axis_{axis})"
            yield f"{double}_b = Slice ({before}, {double}_step, all, axis_{axis})"
            yield f"{double} = Max ({double}_a, {double}_b)"
            before, size = double, 2 * size


def _corners() -> Iterator[str]:
    """Corners in whole map pixels, rounded half away from zero; `Round` would round to even."""
    yield "v2 = Constant <value_int: int = @rounding> ()"
    yield "is_v2 = Cast <to = 9> (v2)"
    yield "inclusive = Sub (one, v2)"
    yield "scale = Constant <value_float: float = @spatial_scale> ()"
    yield f"farthest = Constant <value_float = {_FARTHEST}> ()"
    yield f"nearest = Constant <value_float = {-_FARTHEST}> ()"
    yield "batch = Slice (rois, zero, one, axis_1)"
    yield "boxes = Slice (rois, one, axis_5, axis_1)"
    yield "unknown = IsNaN (boxes)"
    yield "known_boxes = Where (unknown, none, boxes)"
    yield "scaled = Mul (known_boxes, scale)"
    yield "within = Clip (scaled, nearest, farthest)"
    yield "magnitude = Abs (within)"
    yield from _rounded("magnitude", "whole")
    yield "sign = Sign (within)"
    yield "rounded = Mul (sign, whole)"
    yield "corners = Cast <to = 7> (rounded)"
    yield "x_start = Slice (corners, zero, one, axis_1)"
    yield "y_start = Slice (corners, one, axis_2, axis_1)"
    yield "x_end = Slice (corners, axis_2, axis_3, axis_1)"
    yield "y_end = Slice (corners, axis_3, axis_4, axis_1)"
    # A region of a map that does not exist, or with a corner that is no number, covers nothing.
    yield "unknown_count = Cast <to = 7> (unknown)"
    yield "unknown_corners = ReduceMax (unknown_count, axis_1)"
    yield "batch_limit = CastLike (batch_size, batch)"
    yield "from_first = GreaterOrEqual (batch, none)"
    yield "to_last = Less (batch, batch_limit)"
    yield "in_batch = And (from_first, to_last)"
    yield "has_unknown = Cast <to = 9> (unknown_corners)"
    yield "is_known = Not (has_unknown)"
    yield "is_region = And (in_batch, is_known)"
    yield "usable_batch = Where (in_batch, batch, none)"
    yield "batch_index = Cast <to = 7> (usable_batch)"
    yield "batch_start = Mul (batch_index, table_rows)"
    yield "regions = Shape <start = 0, end = 1> (rois)"
    yield "rows = Slice (pooled_shape_values, zero, one)"
    yield "columns = Slice (pooled_shape_values, one, axis_2)"


def _rounded(value: str, result: str) -> Iterator[str]:
    """Round what is not negative, halves up; adding 0.5 first would round the float below it up."""
    yield f"{value}_floor = Floor ({value})"
    yield f"{value}_rest = Sub ({value}, {value}_floor)"
    yield f"{value}_is_up = GreaterOrEqual ({value}_rest, half)"
    yield f"{value}_up = Cast <to = 1> ({value}_is_up)"
    yield f"{result} = Add ({value}_floor, {value}_up)"


def _bins(axis: str, count: str, limit: str, radix: int) -> Iterator[str]:
    """Table rows (or columns) of each bin's windows, `*_place_0` and so on (R, bins)."""
    yield f"{axis}_length = Sub ({axis}_end, {axis}_start)"
    yield f"{axis}_closed = Add ({axis}_length, inclusive)"
    yield f"{axis}_size = Max ({axis}_closed, one)"
    yield f"{axis}_size_float = Cast <to = 1> ({axis}_size)"
    yield f"{axis}_count = Cast <to = 1> ({count})"
    yield f"{axis}_step = Div ({axis}_size_float, {axis}_count)"
    yield f"{axis}_count_scalar = Squeeze ({count})"
    yield f"{axis}_index = Range (zero_scalar, {axis}_count_scalar, one_scalar)"
    yield f"{axis}_next = Add ({axis}_index, one)"
    for edge, index in (("low", f"{axis}_index"), ("high", f"{axis}_next")):
        name = f"{axis}_{edge}"
        yield f"{name}_factor = Cast <to = 1> ({index})"
        yield f"{name} = Mul ({name}_factor, {axis}_step)"
        yield from _rounded(name, f"{name}_v2")
    yield f"{axis}_high_ceil = Ceil ({axis}_high)"
    for edge, caffe in (("low", f"{axis}_low_floor"), ("high", f"{axis}_high_ceil")):
        name = f"{axis}_{edge}"
        yield f"{name}_edge = Where (is_v2, {name}_v2, {caffe})"
        yield f"{name}_whole = Cast <to = 7> ({name}_edge)"
        yield f"{name}_place = Add ({name}_whole, {axis}_start)"
        yield f"{name}_inside = Max ({name}_place, zero)"
        yield f"{name}_bound = Min ({name}_inside, {limit})"
    yield f"{axis}_extent = Sub ({axis}_high_bound, {axis}_low_bound)"
    yield f"{axis}_empty = LessOrEqual ({axis}_extent, zero)"
    yield f"{axis}_extent_last = Unsqueeze ({axis}_extent, last_axis)"
    yield f"{axis}_reached = GreaterOrEqual ({axis}_extent_last, next_windows)"
    # Axis 2 and not -1, which ONNX Runtime mistakes where there are no regions.
    yield f"{axis}_reached_count = Cast <to = 7> ({axis}_reached)"
    yield f"{axis}_level = ReduceSum <keepdims = 0> ({axis}_reached_count, axis_2)"
    yield f"{axis}_window = Gather (windows, {axis}_level)"
    yield f"{axis}_base = Gather (starts_{axis}, {axis}_level)"
    yield f"{axis}_place_0 = Add ({axis}_base, {axis}_low_bound)"
    yield f"{axis}_farthest = Sub ({axis}_extent, {axis}_window)"
    for k in range(1, radix):
        yield f"{axis}_factor_{k} = {_ints([k])}"
        yield f"{axis}_further_{k} = Mul ({axis}_factor_{k}, {axis}_window)"
        yield f"{axis}_offset_{k} = Min ({axis}_further_{k}, {axis}_farthest)"
        yield f"{axis}_place_{k} = Add ({axis}_place_0, {axis}_offset_{k})"


def _places(radix: int) -> Iterator[str]:
    """Rows of the flat table in which each bin's windows are, `place_0` and so on (R, bins)."""
    yield "is_nothing = Not (is_region)"
    yield "y_nothing = Or (y_empty, is_nothing)"
    yield "y_nothing_column = Unsqueeze (y_nothing, axis_2)"
    yield "x_empty_row = Unsqueeze (x_empty, axis_1)"
    yield "empty = Or (y_nothing_column, x_empty_row)"
    for k in range(radix):
        yield f"y_table_{k} = Add (y_place_{k}, batch_start)"
        yield f"y_flat_{k} = Mul (y_table_{k}, table_columns)"
        yield f"y_column_{k} = Unsqueeze (y_flat_{k}, axis_2)"
        yield f"x_row_{k} = Unsqueeze (x_place_{k}, axis_1)"
    for number in range(radix**2):
        y, x = divmod(number, radix)
        yield f"sum_{number} = Add (y_column_{y}, x_row_{x})"
        yield f"grid_{number} = Where (empty, zero_place, sum_{number})"
        yield f"place_{number} = Flatten <axis = 1> (grid_{number})"


def _look_ups(part: int, radix: int) -> Iterator[str]:
    """Gather each bin's windows one after the other, so that few are in memory at a time."""
    maximum = f"maximum_{part}_0"
    yield f"{maximum} = Gather (table_{part}, place_0)"
    for number in range(1, radix**2):
        of = f"{part}_{number}"
        # Nothing is expanded. It makes the look-up wait for the maximum before it.
        yield f"shape_{of} = Shape <start = 0, end = 2> ({maximum})"
        yield f"turn_{of} = Expand (place_{number}, shape_{of})"
        yield f"window_{of} = Gather (table_{part}, turn_{of})"
        yield f"maximum_{of} = Max ({maximum}, window_{of})"
        maximum = f"maximum_{of}"
    yield f"by_channel_{part} = Transpose <perm = [0, 2, 1]> ({maximum})"
    yield f"pooled_shape_{part} = Concat <axis = 0> (regions, channels_{part}, pooled_shape_values)"
    # Zero regions are zero, not "as before".
    yield f"pooled_{part} = Reshape <allowzero = 1> (by_channel_{part}, pooled_shape_{part})"
