# SPDX-License-Identifier: Apache-2.0
"""The Foveate operators in ONNX: their schemas, their nodes, and their function bodies.

A node has the attributes ``plugin_namespace`` and ``plugin_version``, by which TensorRT prefers a
plugin of this name to the body; without a plugin it takes the body. The names must be unknown to
TensorRT, which matches by name and ignores the domain.
"""

from collections.abc import Callable
from itertools import starmap
from math import ceil
from typing import Any

import onnx
from onnx import defs, helper
from onnxscript.values import Op, Opset

from foveate.export.execution.stage_model import DOMAIN
from foveate.export.to_onnx.bilinear_upsample_body import bilinear_upsample_body, paste_windows_body
from foveate.export.to_onnx.roi_max_pool_body import roi_max_pool_body
from foveate.models.layers import BILINEAR_UPSAMPLE
from foveate.models.paste_windows import PASTE_WINDOWS
from foveate.models.roi_max_pool import ROI_MAX_POOL

VERSION = 1
ROUNDINGS = ("caffe", "v2")
"""Rounding rules; the attribute ``rounding`` of a node is an index of this tuple."""

LARGEST_FULL_TABLE = 128
"""Largest side of a map, in cells, with a table for every power of two, not every power of four."""

MANY_CHANNELS, PARTS = 256, 8
"""Number of channels from which ROI pooling splits them into ``PARTS`` parts to save memory."""

_FLOATS = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the functions by which ``torch.onnx.export`` translates the PyTorch operators."""
    return {
        ROI_MAX_POOL: _roi_max_pool_node,
        BILINEAR_UPSAMPLE: _bilinear_upsample_node,
        PASTE_WINDOWS: _paste_windows_node,
    }


def attach_bodies(model: onnx.ModelProto, long_side: int) -> None:
    """Add the function bodies of the Foveate operators that a model uses.

    ROI pooling has one body, an overload of the function, per kind of map and attributes.

    Args:
        model: Model to change. **Modified in place.**
        long_side: Upper bound of the sides, in pixels, of the bins of regions.
    """
    custom = [node for node in model.graph.node if node.domain == DOMAIN]
    channels = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in model.graph.input
        if len(value.type.tensor_type.shape.dim) > 1
    }
    bodies = {}
    for node in custom:
        if node.op_type == "RoiMaxPool2d":
            body = _roi_max_pool_body(node, long_side, channels.get(node.input[0], 1))
            node.overload = body.overload
            bodies[body.overload] = body
    model.functions.extend(bodies.values())
    modes = {len(node.input) > 1 for node in custom if node.op_type == "BilinearUpsample2d"}
    if modes:
        # Some runtimes identify a function by its name alone, so a file has nodes of one mode only.
        (windows,) = modes
        model.functions.append(paste_windows_body() if windows else bilinear_upsample_body())


def _roi_max_pool_body(node: onnx.NodeProto, long_side: int, channels: int) -> onnx.FunctionProto:
    """Return the body of a node for bins of up to this size and this number of channels."""
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    side = ceil(long_side * attributes["spatial_scale"])
    rows, columns = attributes["pooled_shape"]
    rounding = ROUNDINGS[attributes["rounding"]]
    radix = 4 if side > LARGEST_FULL_TABLE else 2
    parts = PARTS if channels >= MANY_CHANNELS else 1
    return roi_max_pool_body(
        side,
        (rows, columns),
        rounding,
        radix=radix,
        parts=parts,
        # A body is written for these values, so a model has one overload for each combination.
        overload=f"{rounding}_{rows}x{columns}_side_{side}_radix_{radix}_parts_{parts}",
    )


_Attr = defs.OpSchema.AttrType


def _schema(
    name: str, inputs: dict[str, str], outputs: dict[str, str], attributes: dict[str, _Attr]
) -> defs.OpSchema:
    # Not registered with ONNX, since a registered operator could not have two modes.
    types = {**attributes, "plugin_namespace": _Attr.STRING, "plugin_version": _Attr.STRING}
    return defs.OpSchema(
        name,
        DOMAIN,
        VERSION,
        inputs=list(starmap(defs.OpSchema.FormalParameter, inputs.items())),
        outputs=list(starmap(defs.OpSchema.FormalParameter, outputs.items())),
        type_constraints=[("T", _FLOATS, "Any float.")],
        attributes=list(starmap(defs.OpSchema.Attribute, types.items())),
    )


_INT64, _INT32, _FLOAT = "tensor(int64)", "tensor(int32)", "tensor(float)"

_POOL = _schema(
    "RoiMaxPool2d",
    {"features": "T", "rois": _FLOAT},
    {"pooled": "T"},
    {"pooled_shape": _Attr.INTS, "spatial_scale": _Attr.FLOAT, "rounding": _Attr.INT},
)
_SHAPE_INPUTS = "tensorrt_plugin_shape_input_indices"
_NAME = "BilinearUpsample2d"
_MAP = _schema(_NAME, {"x": "T"}, {"y": "T"}, {"scale": _Attr.INT, "mode": _Attr.STRING})
_WINDOWS = _schema(
    _NAME,
    {"logits": "T", "geometry": _FLOAT, "size": _INT64, "size_as_shape": _INT64},
    {"bits": _INT32, "areas": _INT32, "boxes": _FLOAT},
    {"threshold": _Attr.FLOAT, "mode": _Attr.STRING, _SHAPE_INPUTS: _Attr.INTS},
)


def _roi_max_pool_node(
    features: Any, rois: Any, output_side: int, spatial_scale: float, rounding: str
) -> Any:
    shape, index = [output_side, output_side], ROUNDINGS.index(rounding)
    return _node(
        _POOL, features, rois, pooled_shape=shape, spatial_scale=spatial_scale, rounding=index
    )


def _bilinear_upsample_node(x: Any, scale: int) -> Any:
    return _node(_MAP, x, scale=scale, mode="half_pixel")


def _paste_windows_node(logits: Any, geometry: Any, size: Any, threshold: float) -> Any:
    # A plugin gets the values of an input either on the host, where shapes follow from them, or on
    # the device, where the kernel clips at the width; so the size is passed twice.
    attributes = {"threshold": threshold, "mode": "windows", _SHAPE_INPUTS: [3]}
    return _node(_WINDOWS, logits, geometry, size, size, **attributes)


def _node(schema: defs.OpSchema, *inputs: Any, **attributes: Any) -> Any:
    write = Op(Opset(DOMAIN, VERSION), schema.name, schema)
    return write(*inputs, **attributes, plugin_namespace=DOMAIN, plugin_version=str(VERSION))
