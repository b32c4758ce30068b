# SPDX-License-Identifier: Apache-2.0
"""A channel's affine map behind a convolution becomes part of it: exact, and one layer to quantise.

W' = s W and b' = s b + t, for s (W x + b) + t.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from foveate.arrays import Float32Array
from foveate.export.precision.editing import add_initializer, remove_unused
from foveate.export.precision.layers import Layer, constant, find_layers


def fold_affine(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model with the constants that multiply or are added to a convolution's channels folded.

    The result keeps the name of the last value that it stands for.
    """
    copy = ir.serde.deserialize_model(model)
    for layer in list(find_layers(copy.graph)):
        if layer.node.op_type == "Conv":
            _fold(copy.graph, layer)
    remove_unused(copy)
    return ir.serde.serialize_model(copy)


def _fold(graph: ir.Graph, layer: Layer) -> None:
    node, channels = layer.node, layer.weight.shape[0]
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    scale, shift = np.ones(channels), np.zeros(channels) if bias is None else bias.astype(float)
    last = node.outputs[0]
    while (step := _step(last, channels)) is not None:
        reader, factors = step
        if reader.op_type == "Mul":
            scale, shift = scale * factors, shift * factors
        else:
            shift = shift + factors
        last = reader.outputs[0]
    if last is node.outputs[0]:
        return
    # The weights were halves; folded ones are not, so that nothing is rounded twice.
    base = node.inputs[1].name if node.inputs[1] is not None else layer.name
    weight = layer.weight * scale.reshape(-1, 1, 1, 1)
    node.resize_inputs(3)
    node.replace_input_with(1, add_initializer(graph, f"{base}_folded", weight.astype(np.float32)))
    node.replace_input_with(2, add_initializer(graph, f"{base}_shift", shift.astype(np.float32)))
    name = last.name
    last.name = f"{name}_unfolded"
    node.outputs[0].name = name
    ir.convenience.replace_all_uses_with(last, node.outputs[0], replace_graph_outputs=True)


def _step(value: ir.Value, channels: int) -> tuple[ir.Node, Float32Array] | None:
    """Return the node that maps each channel of a value, if it alone reads it, and its constants."""
    readers = value.consumers()
    if len(readers) != 1 or value.is_graph_output() or readers[0].op_type not in ("Mul", "Add"):
        return None
    others = [one for one in readers[0].inputs if one is not value]
    factors = constant(others[0]) if len(others) == 1 else None
    if factors is None or factors.size not in (1, channels):
        return None
    if factors.size == channels != 1 and (factors.ndim < 3 or factors.shape[-3] != channels):
        return None
    return readers[0], np.broadcast_to(factors.reshape(-1), (channels,))
