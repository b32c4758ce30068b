# SPDX-License-Identifier: Apache-2.0
"""The function bodies of ``foveate::BilinearUpsample2d``, for maps and for windows."""

from collections.abc import Iterator

import onnx
from onnx import parser

from foveate.models.paste_windows import FARTHEST_EDGE


def bilinear_upsample_body() -> onnx.FunctionProto:
    """Return the function for maps: ``x`` (N, C, H, W) to ``y`` (N, C, scale H, scale W)."""
    return parser.parse_function(
        """
        <opset_import: ["" : 18], domain: "foveate">
        BilinearUpsample2d <scale, mode, plugin_namespace, plugin_version> (x) => (y)
        {
            ones = Constant <value_floats = [1.0, 1.0]> ()
            scale_int = Constant <value_int: int = @scale> ()
            scale_float = Cast <to = 1> (scale_int)
            spatial = Mul (ones, scale_float)
            scales = Concat <axis = 0> (ones, spatial)
            y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, , scales)
        }
        """
    )


def paste_windows_body() -> onnx.FunctionProto:
    """Return the function for windows; inputs and outputs as in ``PasteWindows``.

    The last input is the size again, for the plugin; the body ignores it.
    """
    # Resampling is linear and separable, so the mask of a window is ``A_y M A_x^T``, two batched matrix
    # products. The weights are computed from integers: in float32 a position would be off by up to
    # 1e-5 samples, and the edge of a window could fall on the other side of a pixel. The products make
    # a float32 mask of every window before it becomes bits, 123 MB for 100 windows of an image of
    # 640x480; a plugin does not.
    lines = [
        *_constants(),
        *_edges(),
        *_windows(),
        *_weights("y", samples="axis_2", pixels="axis_0"),
        *_weights("x", samples="axis_1", pixels="axis_1"),
        *_foreground(),
        *_packed(),
        *_box("x", "rows_of_pixels"),
        *_box("y", "columns_of_words"),
        "boxes = Concat <axis = 1> (x_low, y_low, x_high, y_high)",
    ]
    body = "\n".join(lines)
    return parser.parse_function(
        '<opset_import: ["" : 18], domain: "foveate">\n'
        "BilinearUpsample2d <mode, threshold, plugin_namespace, plugin_version, "
        "tensorrt_plugin_shape_input_indices>"
        f"(logits, geometry, size, size_as_shape) => (bits, areas, boxes)\n{{\n{body}\n}}"
    )


def _ints(*values: int) -> str:
    return f"Constant <value_ints = [{', '.join(map(str, values))}]> ()"


def _floats(*values: float) -> str:
    return f"Constant <value_floats = [{', '.join(map(str, values))}]> ()"


def _constants() -> Iterator[str]:
    for axis in (0, 1, 2, 3, 4):
        yield f"axis_{axis} = {_ints(axis)}"
    yield "zero_scalar = Constant <value_int = 0> ()"
    yield "one_scalar = Constant <value_int = 1> ()"
    for name, value in (("zero", 0), ("one", 1), ("two", 2), ("half_word", 1 << 16)):
        yield f"{name}_long = {_ints(value)}"
        yield f"{name} = Cast <to = 6> ({name}_long)"
    yield f"nothing = {_floats(0.0)}"
    yield f"whole = {_floats(1.0)}"
    yield "least = Constant <value_float = 0.0> ()"
    yield "most = Constant <value_float = 1.0> ()"
    yield "threshold_value = Constant <value_float: float = @threshold> ()"
    yield "values = Cast <to = 1> (logits)"
    yield "count = Shape <start = 0, end = 1> (logits)"
    yield "samples_long = Shape <start = 2, end = 3> (logits)"
    yield "samples = Cast <to = 6> (samples_long)"
    yield "samples_float = Cast <to = 1> (samples_long)"
    yield "last_sample = Sub (samples, one)"
    yield "height = Slice (size, axis_0, axis_1, axis_0)"
    yield "width = Slice (size, axis_1, axis_2, axis_0)"
    yield f"almost_word = {_ints(31)}"
    yield f"word = {_ints(32)}"
    yield "padded_width = Add (width, almost_word)"
    yield "words = Div (padded_width, word)"
    yield "word_pixels = Mul (words, word)"
    yield from _range("y", "height")
    yield from _range("x", "word_pixels")
    yield from _range("sample", "samples_long")
    yield "sample_float = Cast <to = 1> (sample_index)"


def _range(name: str, length: str) -> Iterator[str]:
    yield f"{name}_length_scalar = Squeeze ({length})"
    yield f"{name}_longs = Range (zero_scalar, {name}_length_scalar, one_scalar)"
    yield f"{name}_index = Cast <to = 6> ({name}_longs)"


def _edges() -> Iterator[str]:
    """Compute the rounded edges of the windows: ``low`` (K, 2), left and top, and ``high``."""
    yield f"farthest = {_floats(FARTHEST_EDGE + 0.5)}"
    yield f"unusable = {_floats(4.0 * FARTHEST_EDGE)}"
    # Less is false for NaN; such values are replaced, so that nothing below can be infinite.
    yield "distance = Abs (geometry)"
    yield "usable = Less (distance, unusable)"
    yield "numbers = Where (usable, geometry, nothing)"
    yield "start = Slice (numbers, axis_0, axis_2, axis_1)"
    yield "extent = Slice (numbers, axis_2, axis_4, axis_1)"
    yield from _split("start")
    yield from _split("extent")
    yield f"steps = {_floats(-1.5, -0.5, 0.5, 1.5)}"
    yield f"two_steps = {_floats(2.0)}"
    # If x is a sum of two fractional parts, floor(x + 0.5) is the number of steps that x reaches,
    # minus 2. The difference of a step and the larger part is exact wherever it matters.
    yield "start_size = Abs (start_rest)"
    yield "extent_size = Abs (extent_rest)"
    yield "start_is_larger = GreaterOrEqual (start_size, extent_size)"
    yield "larger = Where (start_is_larger, start_rest, extent_rest)"
    yield "smaller = Where (start_is_larger, extent_rest, start_rest)"
    yield "no_rest = Mul (start_rest, nothing)"
    yield from _rounded("low", "start_rest", "no_rest", "start_whole")
    yield "both_whole = Add (start_whole, extent_whole)"
    yield from _rounded("high", "larger", "smaller", "both_whole")


def _windows() -> Iterator[str]:
    """Compute which windows exist, and their starts and lengths, (K, 1) per axis."""
    yield "edges = Concat <axis = 1> (low, high)"
    yield "edge_distance = Abs (edges)"
    yield "near = Less (edge_distance, farthest)"
    yield "window_width = Slice (numbers, axis_2, axis_3, axis_1)"
    yield "padding = Equal (window_width, nothing)"
    yield "no_padding = Not (padding)"
    yield "conditions = Concat <axis = 1> (usable, near, no_padding)"
    yield "condition_counts = Cast <to = 6> (conditions)"
    yield "all_conditions = ReduceMin (condition_counts, axis_1)"
    yield "known = Cast <to = 9> (all_conditions)"
    yield "usable_low = Where (known, low, nothing)"
    yield "usable_high = Where (known, high, whole)"
    yield "starts = Cast <to = 6> (usable_low)"
    yield "ends = Cast <to = 6> (usable_high)"
    yield "differences = Sub (ends, starts)"
    yield "lengths = Max (differences, one)"
    for axis, first, last in (("x", 0, 1), ("y", 1, 2)):
        yield f"{axis}_start = Slice (starts, axis_{first}, axis_{last}, axis_1)"
        yield f"{axis}_size = Slice (lengths, axis_{first}, axis_{last}, axis_1)"


def _split(name: str) -> Iterator[str]:
    """Split into an integer, rounded toward zero, and a fractional part; both are exact."""
    yield f"{name}_magnitude = Abs ({name})"
    yield f"{name}_floor = Floor ({name}_magnitude)"
    yield f"{name}_sign = Sign ({name})"
    yield f"{name}_whole = Mul ({name}_sign, {name}_floor)"
    yield f"{name}_rest = Sub ({name}, {name}_whole)"


def _rounded(name: str, larger: str, smaller: str, whole: str) -> Iterator[str]:
    yield f"{name}_larger = Unsqueeze ({larger}, axis_2)"
    yield f"{name}_smaller = Unsqueeze ({smaller}, axis_2)"
    yield f"{name}_wanted = Sub (steps, {name}_larger)"
    yield f"{name}_reached = GreaterOrEqual ({name}_smaller, {name}_wanted)"
    yield f"{name}_ones = Cast <to = 1> ({name}_reached)"
    yield f"{name}_sum = ReduceSum <keepdims = 0> ({name}_ones, axis_2)"
    yield f"{name}_part = Sub ({name}_sum, two_steps)"
    yield f"{name} = Add ({whole}, {name}_part)"


def _weights(axis: str, *, samples: str, pixels: str) -> Iterator[str]:
    """Compute the weight of each sample for each pixel: (K, H, S) for y, (K, S, W) for x.

    For a pixel at position p of the samples, sample s has the weight min(1, max(0, reach - |p - s|)).
    The reach is 1 if the axis grows, and half of what a pixel and a sample cover together if it
    shrinks. The weights sum to samples / pixels of the window, whose inverse is the share (K, 1).
    """
    # ``samples`` is the axis of the samples in the result, and ``pixels`` the one that a row of
    # samples lacks for broadcasting.
    yield f"{axis}_place = Sub ({axis}_index, {axis}_start)"
    yield f"{axis}_begun = GreaterOrEqual ({axis}_place, zero)"
    yield f"{axis}_not_ended = Less ({axis}_place, {axis}_size)"
    yield f"{axis}_inside = And ({axis}_begun, {axis}_not_ended)"
    yield f"{axis}_after = Max ({axis}_place, zero)"
    yield f"{axis}_last = Sub ({axis}_size, one)"
    yield f"{axis}_at = Min ({axis}_after, {axis}_last)"
    # Position in half pixels, as an integer and a remainder; their sum would round the remainder.
    yield f"{axis}_twice = Mul ({axis}_at, two)"
    yield f"{axis}_center = Add ({axis}_twice, one)"
    yield f"{axis}_from_edge = Mul ({axis}_center, samples)"
    yield f"{axis}_from_first = Sub ({axis}_from_edge, {axis}_size)"
    yield f"{axis}_position = Max ({axis}_from_first, zero)"
    yield f"{axis}_unit = Mul ({axis}_size, two)"
    yield f"{axis}_first = Div ({axis}_position, {axis}_unit)"
    yield f"{axis}_taken = Mul ({axis}_first, {axis}_unit)"
    yield f"{axis}_remainder = Sub ({axis}_position, {axis}_taken)"
    yield f"{axis}_is_last = GreaterOrEqual ({axis}_first, last_sample)"
    yield from _taken(axis, samples, pixels)


def _taken(axis: str, samples: str, pixels: str) -> Iterator[str]:
    yield f"{axis}_whole = Cast <to = 1> ({axis}_first)"
    yield f"{axis}_remainder_float = Cast <to = 1> ({axis}_remainder)"
    yield f"{axis}_unit_float = Cast <to = 1> ({axis}_unit)"
    yield f"{axis}_ratio = Div ({axis}_remainder_float, {axis}_unit_float)"
    yield f"{axis}_rest = Where ({axis}_is_last, nothing, {axis}_ratio)"
    yield f"{axis}_size_float = Cast <to = 1> ({axis}_size)"
    yield f"{axis}_both = Add ({axis}_size_float, samples_float)"
    yield f"{axis}_both_reach = Div ({axis}_both, {axis}_unit_float)"
    yield f"{axis}_reach = Max ({axis}_both_reach, whole)"
    yield f"{axis}_part = Div ({axis}_size_float, samples_float)"
    yield f"{axis}_share = Min ({axis}_part, whole)"
    for name in ("whole", "rest", "reach"):
        yield f"{axis}_{name}_wide = Unsqueeze ({axis}_{name}, {samples})"
    yield f"{axis}_samples = Unsqueeze (sample_float, {pixels})"
    yield f"{axis}_steps = Sub ({axis}_samples, {axis}_whole_wide)"
    yield f"{axis}_offset = Sub ({axis}_steps, {axis}_rest_wide)"
    yield f"{axis}_distance = Abs ({axis}_offset)"
    yield f"{axis}_overlap = Sub ({axis}_reach_wide, {axis}_distance)"
    yield f"{axis}_weights = Clip ({axis}_overlap, least, most)"


def _foreground() -> Iterator[str]:
    yield "share = Mul (y_share, x_share)"
    yield "window_share = Unsqueeze (share, axis_2)"
    yield "shared_values = Mul (values, window_share)"
    yield "resampled_rows = MatMul (y_weights, shared_values)"
    yield "resampled = MatMul (resampled_rows, x_weights)"
    yield "above = Greater (resampled, threshold_value)"
    yield "width_int = Cast <to = 6> (width)"
    yield "in_image = Less (x_index, width_int)"
    yield "x_visible = And (x_inside, in_image)"
    yield "y_visible = And (y_inside, known)"
    yield "x_visible_row = Unsqueeze (x_visible, axis_1)"
    yield "y_visible_column = Unsqueeze (y_visible, axis_2)"
    yield "above_and_inside = And (above, x_visible_row)"
    yield "foreground = And (above_and_inside, y_visible_column)"
    yield "pixels = Cast <to = 1> (foreground)"


def _packed() -> Iterator[str]:
    """Pack bits by one product: lower and upper half of 32 bits, exact in float32, and their number."""
    rows = []
    for bit in range(32):
        low, high = (1 << bit, 0) if bit < 16 else (0, 1 << (bit - 16))
        rows += [low, -high if bit == 31 else high, 1]
    yield f"halves_flat = {_floats(*map(float, rows))}"
    yield f"halves_shape = {_ints(32, 3)}"
    yield "halves = Reshape (halves_flat, halves_shape)"
    yield "word_shape = Concat <axis = 0> (count, height, words, word)"
    yield "pixels_by_word = Reshape (pixels, word_shape)"
    yield "sums = MatMul (pixels_by_word, halves)"
    yield "whole_sums = Cast <to = 6> (sums)"
    for number, name in enumerate(("lower", "upper", "counts")):
        yield f"{name}_last = Slice (whole_sums, axis_{number}, axis_{number + 1}, axis_3)"
        yield f"{name} = Squeeze ({name}_last, axis_3)"
    yield "upper_place = Mul (upper, half_word)"
    yield "bits = Add (lower, upper_place)"
    yield f"rows_and_words = {_ints(1, 2)}"
    yield "areas = ReduceSum <keepdims = 0> (counts, rows_and_words)"
    yield "rows_of_pixels = ReduceMax <keepdims = 0> (pixels, axis_1)"
    yield "counts_float = Cast <to = 1> (counts)"
    yield "columns_of_words = ReduceMax <keepdims = 0> (counts_float, axis_2)"


def _box(axis: str, lines: str) -> Iterator[str]:
    """Compute the first line with a pixel and the one after the last; zeros if there is none."""
    yield f"{axis}_hit = Greater ({lines}, nothing)"
    yield f"{axis}_line = Cast <to = 1> ({axis}_index)"
    yield f"{axis}_next_line = Add ({axis}_line, whole)"
    yield f"{axis}_firsts = Where ({axis}_hit, {axis}_line, unusable)"
    yield f"{axis}_lasts = Where ({axis}_hit, {axis}_next_line, nothing)"
    yield f"{axis}_first_line = ReduceMin ({axis}_firsts, axis_1)"
    yield f"{axis}_high = ReduceMax ({axis}_lasts, axis_1)"
    yield f"{axis}_any = Greater ({axis}_high, nothing)"
    yield f"{axis}_low = Where ({axis}_any, {axis}_first_line, nothing)"
