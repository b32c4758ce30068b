# SPDX-License-Identifier: Apache-2.0
"""The layers of a stage with their activations, and edits of its graph."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from foveate.arrays import Array, Float32Array

LAYERS = ("Conv", "Gemm", "MatMul")
"""Operators that multiply by weights."""

EXACT_OUTPUTS = ("scores", "logits", "probabilities", "deltas")
"""Outputs whose last layer is never INT8: ties reorder the best K, errors move masks and boxes."""

FEW_CHANNELS = 8
"""Number of channels up to which a layer is never INT8, as in the stem and SharpMask's fine levels."""

CHEAP = 32
"""Multiplications per value read or written below which converting to INT8 costs too much."""

_ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A node that multiplies by constant weights.

    Args:
        node: Node, whose name is the name of the layer.
        weight: Float32 weights, in the shape of the node's input.
        axis: Axis of ``weight`` that counts the outputs.
        source: Value that the node reads.
        result: Output of the activation behind the node, or of the node if there is none.
        refused: Reason why the layer is never INT8, or None.
    """

    node: ir.Node
    weight: Float32Array
    axis: int
    source: ir.Value
    result: ir.Value
    refused: str | None

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.node.name or ""

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one channel."""
        return self.node.op_type == "Conv" and self.weight.shape[1] == 1 and _groups(self.node) > 1


def find_layers(graph: ir.Graph) -> Iterator[Layer]:
    """Yield the layers of a graph in order, without products of two computed values."""
    exact: set[ir.Value] = set()  # results of layers that are never INT8
    for node in graph:
        if node.op_type not in LAYERS or node.domain:
            continue
        weight = constant(node.inputs[1])
        source = node.inputs[0]
        if weight is None or source is None or constant(source) is not None:
            continue
        axis = 0 if node.op_type == "Conv" or _integer(node, "transB") else weight.ndim - 1
        result = _activated(node.outputs[0])
        refused = _refusal(node, weight, result)
        if refused is None and source in exact and _narrows_cheaply(node, weight):
            refused = f"takes fewer than {CHEAP} multiplications per value of a float32 map"
        if refused is not None:
            exact.add(result)
        values = weight.astype(np.float32)
        yield Layer(
            node=node, weight=values, axis=axis, source=source, result=result, refused=refused
        )


def constant(value: ir.Value | None) -> Array | None:
    """Return the content of an initializer, also behind a Cast; None for a computed value."""
    if value is None:
        return None
    node = value.producer()
    if node is None:
        return None if value.const_value is None else value.const_value.numpy()
    if node.op_type != "Cast":
        return None
    stored = constant(node.inputs[0])
    return None if stored is None else stored.astype(ir.DataType(_integer(node, "to")).numpy())


def _activated(value: ir.Value) -> ir.Value:
    readers = value.consumers()
    alone = len(readers) == 1 and not value.is_graph_output()
    return readers[0].outputs[0] if alone and readers[0].op_type in _ACTIVATIONS else value


def _refusal(node: ir.Node, weight: Array, result: ir.Value) -> str | None:
    if weight.ndim == 3:
        return "is a product of batches, whose weights have no common scale"
    outputs, inputs = weight.shape[:2]
    if _groups(node) == 1 and min(outputs, inputs) <= FEW_CHANNELS:
        return f"has {FEW_CHANNELS} channels or fewer"
    exact = sorted(_reached(result) & set(EXACT_OUTPUTS))
    return f"gives {' and '.join(exact)}" if exact else None


def _narrows_cheaply(node: ir.Node, weight: Array) -> bool:
    """Return whether it is cheaper to quantize the result of a layer than its input."""
    if node.op_type != "Conv":
        return False
    strides = node.attributes.get("strides")
    area = 1 if strides is None else int(np.prod(strides.as_ints()))
    read, written = weight.shape[1] * _groups(node) * area, weight.shape[0]
    return bool(written <= read and weight.size < CHEAP * (read + written))


def _reached(value: ir.Value) -> set[str]:
    """Return the names of the graph outputs that depend on a value without another layer."""
    found, left, seen = set(), [value], set()
    while left:
        one = left.pop()
        if one.is_graph_output():
            found.add(one.name or "")
        for node in one.consumers():
            if node not in seen and node.op_type not in LAYERS:
                seen.add(node)
                left.extend(node.outputs)
    return found


def _groups(node: ir.Node) -> int:
    return _integer(node, "group", 1)


def _integer(node: ir.Node, name: str, default: int = 0) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def add_initializer(graph: ir.Graph, name: str, values: Array) -> ir.Value:
    """Add a constant, or return the existing one of this name."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(values, name=name)
    shape, kind = ir.Shape(values.shape), ir.TensorType(tensor.dtype)
    value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def insert_after(graph: ir.Graph, value: ir.Value, nodes: list[ir.Node]) -> None:
    """Insert nodes behind the producer of a value, or at the start for an input."""
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    elif len(graph):
        graph.insert_before(graph[0], nodes)


def take_output(graph: ir.Graph, value: ir.Value, final: ir.Value, suffix: str) -> None:
    """Replace the graph output ``value`` by ``final``, which takes over its name."""
    for index, output in enumerate(graph.outputs):
        if output is value:
            name = value.name
            value.name = f"{name}_{suffix}"
            final.name, final.shape, final.type = name, value.shape, value.type
            graph.outputs[index] = final


def remove_unused(model: ir.Model) -> None:
    """Remove nodes and initializers that nothing reads."""
    common_passes.RemoveUnusedNodesPass()(model)


def fold_affine(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with constant factors and terms folded into the convolutions before them.

    The result of each convolution keeps the name of the last value that it replaces.
    """
    # s (W x + b) + t is W' x + b' with W' = s W and b' = s b + t: exact, and one layer to quantize.
    copy = ir.serde.deserialize_model(model)
    for layer in list(find_layers(copy.graph)):
        if layer.node.op_type == "Conv":
            _fold_layer(copy.graph, layer)
    remove_unused(copy)
    return ir.serde.serialize_model(copy)


def _fold_layer(graph: ir.Graph, layer: Layer) -> None:
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
    # The weights were float16 values; the folded ones stay float32, so nothing is rounded twice.
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
    """Return the only reader of a value and its factor per channel, if it is affine."""
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
