# SPDX-License-Identifier: Apache-2.0
"""The function body of ``foveate::RoiMaxPool2d``: exact, without a loop, for both rounding rules.

A sparse table contains the maxima of all windows whose sides are powers of two. Any bin is the union
of four overlapping windows, one at each of its corners, so its value is the maximum of four look-ups,
however large it is. The table is separable: windows of all heights are stacked along the rows, then
windows of all widths along the columns, so that the place of a window is the sum of a row number and
a column number. The first row and the first column are zeros, for bins that cover nothing.

Channels are independent, so they can be split into parts, and only one part at a time has its table
and its look-ups in memory.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import prod

import onnx
from onnx import parser

_FARTHEST = 2.0**28
"""Largest map coordinate, as in the reference; larger ones are clipped."""

_BELOW_HALF = 0.5 - 2.0**-25
"""Largest float32 below 0.5: truncating x plus this rounds halves up, while x + 0.5 may round up itself."""

_LARGEST_GROWTH = 16
"""Largest growth of a window by one MaxPool; ONNX Runtime is ten times slower for a kernel of 33 rows."""


def roi_max_pool_body(
    largest_side: int,
    pooled_shape: tuple[int, int],
    rounding: str,
    *,
    radix: int = 2,
    parts: int = 1,
    overload: str = "",
) -> onnx.FunctionProto:
    """Return the function for maps of any size, with bins up to a bound.

    Its inputs are ``features`` (N, C, H, W) of any floating-point type and ``rois`` (R, 5) float32: the
    index of the map in the batch, then xyxy in image pixels. Its output is ``pooled``
    (R, C, rows, columns), as in ``foveate.kernels.plugins.roi_max_pool.reference``.

    Args:
        largest_side: Largest side of the bins, in cells; that of the maps is one.
        pooled_shape: Rows and columns, as in the attribute of this name.
        rounding: ``"caffe"`` or ``"v2"``, as in the attribute of this name.
        radix: Ratio of successive window sides, 2, or 4 for a table of a third of the size and 16
            look-ups in place of four.
        parts: Number of parts that the channels are split into, at most the number of channels.
        overload: Name of this body among those of a model.
    """
    # The cost of creating a session grows with its nodes, and a detector has one body per pooled map
    # and region. So rows and columns, and both edges of bins, share their arithmetic on
    # (R, edge, axis, bin, 1); values of the attributes are constants; and each window size
    # takes one MaxPool, whose kernel covers everything between two smaller windows.
    windows = [1]
    while windows[-1] * radix < largest_side:
        windows.append(windows[-1] * radix)
    lines = [
        *_regions(),
        *_sides(windows[-1]),
        *_bins(pooled_shape, rounding),
        *_places(windows, largest_side, radix),
        *_grid(pooled_shape, windows),
    ]
    if parts == 1:
        lines += _pooled("features", "pooled", windows)
    else:
        sources, results = ([f"{name}_{part}" for part in range(parts)] for name in ("map", "bins"))
        lines.append(f"{', '.join(sources)} = Split <axis = 1, num_outputs = {parts}> (features)")
        for source, result in zip(sources, results, strict=True):
            lines += _pooled(source, result, windows)
        lines.append(f"pooled = Concat <axis = 1> ({', '.join(results)})")
    function = parser.parse_function(
        '<opset_import: ["" : 18], domain: "foveate">\n'
        "RoiMaxPool2d <pooled_shape, spatial_scale, rounding, plugin_namespace, plugin_version>"
        "(features, rois) => (pooled)\n{\n" + "\n".join(lines) + "\n}"
    )
    function.overload = overload
    return function


def _ints(*values: int, shape: tuple[int, ...] | None = None) -> str:
    return _constant("int64", values, shape)


def _floats(*values: float, shape: tuple[int, ...] = ()) -> str:
    return _constant("float", values, shape)


def _constant(kind: str, values: tuple[float, ...], shape: tuple[int, ...] | None) -> str:
    lengths = (len(values),) if shape is None else shape
    assert prod(lengths) == len(values)
    dimensions = f"[{','.join(map(str, lengths))}]" if lengths else ""
    return f"Constant <value = {kind}{dimensions} {{{', '.join(map(str, values))}}}> ()"


def _regions() -> Iterator[str]:
    """Compute ``start`` and ``end`` (R, 1, axis, 1, 1) in whole map pixels, and the map index."""
    yield f"none = {_floats(0.0)}"
    yield f"farthest = {_floats(_FARTHEST)}"
    yield f"nearest = {_floats(-_FARTHEST)}"
    yield f"below_half = {_floats(_BELOW_HALF)}"
    yield "scale = Constant <value_float: float = @spatial_scale> ()"
    yield f"last_axes = {_ints(2, 3)}"
    yield f"batch_column = {_ints(0, shape=(1, 1))}"
    yield f"corner_columns = {_ints(2, 1, 4, 3, shape=(2, 2))}"
    yield f"corner_axes = {_ints(1, 2)}"
    yield "columns = Unsqueeze (rois, last_axes)"
    yield "batch = Gather <axis = 1> (columns, batch_column)"
    yield "corners = Gather <axis = 1> (columns, corner_columns)"
    # A region of a map that does not exist, or with a NaN corner, is moved outside of every map.
    yield "unknown = IsNaN (corners)"
    yield "unknowns = Where (unknown, farthest, none)"
    yield "any_unknown = ReduceMax (unknowns, corner_axes)"
    yield "known_batch = Sub (batch, any_unknown)"
    yield "batch_size = Shape <start = 0, end = 1> (features)"
    yield "batch_limit = Cast <to = 1> (batch_size)"
    yield "from_first = GreaterOrEqual (known_batch, none)"
    yield "to_last = Less (known_batch, batch_limit)"
    yield "is_region = And (from_first, to_last)"
    yield "usable_batch = Where (is_region, batch, none)"
    yield "batch_index = Cast <to = 7> (usable_batch)"
    yield "scaled = Mul (corners, scale)"
    yield "known = Where (is_region, scaled, farthest)"
    yield "within = Clip (known, nearest, farthest)"
    # Halves are rounded away from zero; `Round` would round to even.
    yield "sign = Sign (within)"
    yield "away = Mul (sign, below_half)"
    yield "moved = Add (within, away)"
    yield "whole = Cast <to = 7> (moved)"
    yield "start, end = Split <axis = 1, num_outputs = 2> (whole)"


def _sides(largest_window: int) -> Iterator[str]:
    """Compute ``sides`` and ``padded_sides`` (axis, 1, 1) of the map, and the padding."""
    yield f"side_axes = {_ints(1, 2)}"
    yield f"least = {_ints(largest_window)}"
    yield f"border = {_ints(1)}"
    yield f"before = {_ints(0, 0, 1, 1, 0, 0)}"
    yield "map_sides = Shape <start = 2, end = 4> (features)"
    yield "bordered = Add (map_sides, border)"
    # The largest window has to fit; windows that cover padding are never looked up.
    yield "padded = Max (bordered, least)"
    yield "after = Sub (padded, bordered)"
    yield "padding = Concat <axis = 0> (before, after)"
    yield "sides = Unsqueeze (map_sides, side_axes)"
    yield "padded_sides = Unsqueeze (padded, side_axes)"


def _bins(pooled_shape: tuple[int, int], rounding: str) -> Iterator[str]:
    """Compute the first map index of each bin and the one after its last, (R, 1, axis, P, 1)."""
    bins = max(pooled_shape)
    inclusive = int(rounding == "caffe")
    # floor(-x) is -ceil(x), so both edges are floors.
    sign = -1 if rounding == "caffe" else 1
    edges = [*range(bins), *(sign * (index + 1) for index in range(bins))]
    yield f"inclusive = {_ints(inclusive)}"
    yield f"counts = {_floats(*pooled_shape, shape=(2, 1, 1))}"
    yield f"edges = {_floats(*edges, shape=(2, 1, bins, 1))}"
    yield f"signs = {_floats(1.0, sign, shape=(2, 1, 1, 1))}"
    yield f"first_index = {_ints(0)}"
    yield "length = Sub (end, start)"
    yield "closed = Add (length, inclusive)"
    yield "size = Max (closed, border)"
    yield "size_float = Cast <to = 1> (size)"
    yield "step = Div (size_float, counts)"
    yield "exact = Mul (step, edges)"
    if rounding == "v2":
        yield "raised = Add (exact, below_half)"
    yield f"floor = Floor ({'raised' if rounding == 'v2' else 'exact'})"
    yield "signed = Mul (floor, signs)"
    yield "edge = Cast <to = 7> (signed)"
    yield "place = Add (edge, start)"
    yield "from_side = Max (place, first_index)"
    yield "bounds = Min (from_side, sides)"
    yield "low, high = Split <axis = 1, num_outputs = 2> (bounds)"


def _places(windows: list[int], largest_side: int, radix: int) -> Iterator[str]:
    """Compute the table indices ``y`` and ``x`` (R, radix, 1, P, 1) of each bin's windows."""
    # A padded side of L cells has L + 1 - S windows of size S, so the stack of a level begins at
    # level * (L + 1) - (sum of the sizes before). Index 0, the border, stands for nothing. A bin
    # longer than the largest side is out of bounds of the lists below: an error in ONNX Runtime, never
    # a wrong maximum.
    of_length = [
        max(level for level, size in enumerate(windows) if size <= max(length, 1))
        for length in range(largest_side + 1)
    ]
    yield f"levels = {_ints(*of_length)}"
    yield f"sizes = {_ints(*(windows[level] for level in of_length))}"
    yield f"sizes_before = {_ints(*(sum(windows[:level]) - 1 for level in of_length))}"
    yield f"turns = {_ints(*range(radix), shape=(radix, 1, 1, 1))}"
    yield "stack = Add (padded_sides, border)"
    yield "extent = Sub (high, low)"
    yield "level = Gather (levels, extent)"
    yield "stacks = Mul (level, stack)"
    yield "less = Gather (sizes_before, extent)"
    yield "base = Sub (stacks, less)"
    yield "first = Add (base, low)"
    yield "window = Gather (sizes, extent)"
    yield "rest = Sub (extent, window)"
    # Look-ups are spread evenly from the bin's first window to the one that ends with the bin.
    yield "shares = Mul (rest, turns)"
    if radix > 2:
        yield f"turns_after = {_ints(radix - 1)}"
        yield "offsets = Div (shares, turns_after)"
    yield f"further = Add (first, {'offsets' if radix > 2 else 'shares'})"
    yield "covers = Cast <to = 9> (extent)"
    yield "index = Where (covers, further, first_index)"
    yield "y, x = Split <axis = 2, num_outputs = 2> (index)"


def _grid(pooled_shape: tuple[int, int], windows: list[int]) -> Iterator[str]:
    """Compute ``places`` (R, radix, radix, rows, columns) of each bin's windows in the flat table."""
    used = {"y": "y", "x": "x"}
    for axis, count in zip("yx", pooled_shape, strict=True):
        if count < max(pooled_shape):
            used[axis] = f"{axis}_used"
            yield f"{axis}_bins = {_ints(count)}"
            yield f"{axis}_axis = {_ints(3)}"
            yield f"{axis}_used = Slice ({axis}, first_index, {axis}_bins, {axis}_axis)"
    yield f"stack_count = {_ints(len(windows))}"
    yield f"windows_total = {_ints(sum(windows))}"
    yield "all_stacks = Mul (stack, stack_count)"
    yield "table_sides = Sub (all_stacks, windows_total)"
    yield "table_rows, table_columns = Split <axis = 0, num_outputs = 2> (table_sides)"
    yield "batch_rows = Mul (batch_index, table_rows)"
    yield f"rows = Add ({used['y']}, batch_rows)"
    yield "row_places = Mul (rows, table_columns)"
    yield f"column_places = Transpose <perm = [0, 2, 1, 4, 3]> ({used['x']})"
    yield "places = Add (row_places, column_places)"


def _pooled(features: str, pooled: str, windows: list[int]) -> Iterator[str]:
    """Build the table of some channels, for all heights and then all widths, and look up the bins."""
    yield f"{features}_tall_0 = Pad ({features}, padding)"
    yield from _grown(f"{features}_tall", windows)
    yield f"{features}_heights = Concat <axis = 2> ({_levels(f'{features}_tall', windows)})"
    yield f"{features}_wide_0 = Transpose <perm = [0, 2, 3, 1]> ({features}_heights)"
    # For MaxPool, rows are channels, and channels are columns.
    yield from _grown(f"{features}_wide", windows)
    yield f"{features}_table = Concat <axis = 2> ({_levels(f'{features}_wide', windows)})"
    yield f"{features}_flat = Flatten <axis = 3> ({features}_table)"
    yield f"{features}_found = Gather ({features}_flat, places)"
    yield f"{features}_maxima = ReduceMax <keepdims = 0> ({features}_found, corner_axes)"
    yield f"{pooled} = Transpose <perm = [0, 3, 1, 2]> ({features}_maxima)"


def _grown(name: str, windows: list[int]) -> Iterator[str]:
    """Compute the windows of each size from those of the size before."""
    for level, (smaller, larger) in enumerate(pairwise(windows)):
        source, size = f"{name}_{level}", smaller
        while size < larger:
            growth = min(larger - size, _LARGEST_GROWTH)
            size += growth
            grown = f"{name}_{level + 1}" + (f"_of_{size}" if size < larger else "")
            yield f"{grown} = MaxPool <kernel_shape = [{growth + 1}, 1]> ({source})"
            source = grown


def _levels(name: str, windows: list[int]) -> str:
    return ", ".join(f"{name}_{level}" for level in range(len(windows)))
