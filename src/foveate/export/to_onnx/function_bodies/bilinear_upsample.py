# SPDX-License-Identifier: Apache-2.0
"""The body of `foveate::BilinearUpsample2d` in its mode for maps: one Resize."""

from __future__ import annotations

import onnx
from onnx import parser


def bilinear_upsample_body() -> onnx.FunctionProto:
    """Write the function: `x` (N, C, H, W) to `y` (N, C, scale H, scale W), centres at halves."""
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
