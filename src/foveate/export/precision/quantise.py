# SPDX-License-Identifier: Apache-2.0
"""INT8 as explicit QuantizeLinear and DequantizeLinear nodes, where runtimes fuse them.

Of a chosen layer the weights are stored as int8, and its source and its result (behind ReLU or
ReLU6) are rounded to eight bits. Every reader of such a value reads the rounded one, so that
runtimes keep eight bits of it alone: ONNX Runtime makes QLinearConv of DQ, Conv, Clip and Q, and
QLinearAdd of a sum between rounded values. Values that a node only copies (padding, pooling by
maxima) have the codes of what they are copied from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from foveate.arrays import Float32Array
from foveate.export.precision.editing import (
    add_initializer,
    insert_after,
    remove_unused,
    take_output,
)
from foveate.export.precision.layers import Layer, constant, find_layers
from foveate.export.precision.observation import Observed
from foveate.export.precision.ranges import Encoding, encode
from foveate.export.precision.weights import quantise_weights

CODES, SCALES, CORRECTED = "_codes", "_scales", "_corrected"
"""Ends of the names of a layer's weights, of their scales, and of its bias."""

_MOST = 2.0**30
"""Runtimes hold a bias as int32 in units of the source's scale times the weights'. Of weights near 0,
as an output that training has let die has them, it would overflow without a word."""

_COPIES = (
    "Flatten",
    "Identity",
    "MaxPool",
    "Pad",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


def rounded_values(model: onnx.ModelProto) -> list[str]:
    """Return the names of all values that quantising any of a model's layers may need observed."""
    graph = ir.serde.deserialize_model(model).graph
    names: dict[str, None] = {}
    for layer in find_layers(graph):
        for value in (layer.source, layer.result):
            names |= {one.name or "": None for one in _copied(value)}
    return list(names)


@dataclass(frozen=True, kw_only=True)
class Quantiser:
    """Writes a stage with any of its layers in INT8.

    Attributes:
        model: of the stage, in float32, affine maps folded.
        observed: by value, as `rounded_values` names them.
        method: of `ranges.METHODS`.
    """

    model: onnx.ModelProto
    observed: Mapping[str, Observed]
    method: str

    def quantised(self, names: Collection[str]) -> onnx.ModelProto:
        """Copy the model with the layers of these names in INT8."""
        copy = ir.serde.deserialize_model(self.model)
        graph = copy.graph
        layers = list(find_layers(graph))
        chosen = [layer for layer in layers if layer.name in names]
        exact = [layer for layer in layers if layer.name not in names]
        values: dict[ir.Value, ir.Value] = {}
        for layer in chosen:
            self._quantise_weights(graph, layer)
            for value in (layer.source, layer.result):
                chain = _copied(value)
                values |= dict.fromkeys(chain, chain[-1])
        for value, origin in values.items():
            spared = exact if any(layer.result is value for layer in exact) else []
            _round(graph, value, self._encoding(origin), [layer.node for layer in spared])
        remove_unused(copy)
        return ir.serde.serialize_model(copy)

    def _encoding(self, value: ir.Value) -> Encoding:
        return encode(self.observed[value.name or ""].histogram, self.method)

    def _quantise_weights(self, graph: ir.Graph, layer: Layer) -> None:
        node, weights = layer.node, layer.weight
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        source = self._encoding(_copied(layer.source)[-1])
        sizes = np.zeros(1) if bias is None else np.abs(bias)
        least = (sizes / (_MOST * source.scale)).astype(np.float32)
        found = quantise_weights(weights, layer.axis, depthwise=layer.depthwise, least=least)
        base = _base_name(node)
        codes = add_initializer(graph, base + CODES, found.codes)
        scales = add_initializer(graph, base + SCALES, found.scales)
        zeros = add_initializer(graph, f"{base}_zeros", np.zeros_like(found.scales, np.int8))
        dequantise = ir.node(
            "DequantizeLinear", [codes, scales, zeros], {"axis": layer.axis}, name=f"{base}_restore"
        )
        dequantise.outputs[0].name = f"{base}_restored"
        graph.insert_before(node, dequantise)
        node.replace_input_with(1, dequantise.outputs[0])
        if node.op_type == "MatMul":
            return
        shape = [1] * weights.ndim
        shape[layer.axis] = -1
        lost = found.codes * found.scales.reshape(shape) - weights
        shift = _mean_shift(layer, lost, self.observed[layer.source.name or ""].means)
        corrected = (0.0 if bias is None else bias.astype(np.float32)) - shift
        node.resize_inputs(3)
        name = f"{base}_bias" if node.inputs[2] is None else node.inputs[2].name or base
        value = add_initializer(graph, name + CORRECTED, corrected.astype(np.float32))
        node.replace_input_with(2, value)


def _mean_shift(layer: Layer, lost: Float32Array, means: Float32Array) -> Float32Array:
    """How far rounding the weights moves each output in the mean.

    Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV
    2019), section 4.2: the mean of the lost weights' products is known, and is not noise.
    """
    rows = np.moveaxis(lost, layer.axis, 0)
    per_input = rows.reshape(*rows.shape[:2], -1).sum(axis=2)
    groups = len(means) // per_input.shape[1]
    own = means.reshape(groups, per_input.shape[1]).repeat(len(per_input) // groups, axis=0)
    shift: Float32Array = (per_input * own).sum(axis=1)
    return shift


def _round(
    graph: ir.Graph, value: ir.Value, encoding: Encoding, spared: Collection[ir.Node]
) -> None:
    name = value.name
    scale = add_initializer(graph, f"{name}_scale", np.array(encoding.scale, np.float32))
    zero = add_initializer(graph, f"{name}_zero", np.array(encoding.zero_point, np.uint8))
    readers = [use for use in value.uses() if use.node not in spared]
    quantise = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}_quantise")
    quantise.outputs[0].name = f"{name}_quantised"
    restore = ir.node(
        "DequantizeLinear", [quantise.outputs[0], scale, zero], name=f"{name}_restore"
    )
    restored = restore.outputs[0]
    restored.name = f"{name}_restored"
    insert_after(graph, value, [quantise, restore])
    for use in readers:
        use.node.replace_input_with(use.idx, restored)
    take_output(graph, value, restored, "exact")


def _copied(value: ir.Value) -> list[ir.Value]:
    """Return a value and, if it is a copy, what it is copied from, to the origin."""
    chain = [value]
    while (node := chain[-1].producer()) is not None and node.op_type in _COPIES:
        source = node.inputs[0]
        if source is None:
            break
        chain.append(source)
    return chain


def _base_name(node: ir.Node) -> str:
    weight = node.inputs[1]
    return (weight.name if weight is not None else None) or node.name or ""
