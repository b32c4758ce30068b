# SPDX-License-Identifier: Apache-2.0
"""Conversion of a stage to float16, with islands of float32.

Engines take the types of the file as they are. Inputs and outputs stay float32, since the runtime's
operations between the stages are. Inside, everything is float16 except

- the values that regions are computed from, since float16 is exact for integers up to 2048 only;
- sums of squares, quotients and exponentials up to the next layer: normalizations and softmaxes;
- the last layers of scores, probabilities and box deltas, and the nodes after them;
- values that are too large on the calibration images.
"""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir

from foveate.export.execution.stage_model import DOMAIN, HALF
from foveate.export.precision.layers import (
    LAYERS,
    add_initializer,
    constant,
    find_layers,
    insert_after,
    remove_unused,
    take_output,
)

LARGEST = float(np.finfo(np.float16).max) / 4
"""Largest magnitude of a float16 value on the calibration images; other images may exceed it."""

_EXACT_OUTPUTS = ("scores", "probabilities", "deltas")
_FLOAT = ir.DataType.FLOAT
_HALF = ir.DataType.FLOAT16
_WIDE = frozenset(
    [
        "Div",
        "Exp",
        "Log",
        "LogSoftmax",
        "MaxRoiPool",
        "Pow",
        "Reciprocal",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "Sigmoid",
        "Softmax",
        "Sqrt",
    ]
)
"""Operators whose results exceed the range of float16 or lose digits in it. ``MaxRoiPool`` needs
regions and maps of the same type."""
_OTHER_TYPES = frozenset(
    ["ArgMax", "Equal", "Greater", "IsNaN", "Less", "NonZero", "Shape", "Size"]
)
"""Operators whose results are never float32."""
_ROIS = "RoiMaxPool2d"


def float_values(model: onnx.ModelProto) -> list[str]:
    """Return the names of the float32 values that a stage computes, without its parameters."""
    graph = ir.serde.deserialize_model(model).graph
    found = _floating(graph)
    return [value.name or "" for node in graph for value in node.outputs if value in found]


def to_float16(model: onnx.ModelProto, too_large: Collection[str] = ()) -> onnx.ModelProto:
    """Return a copy of a float32 stage in float16 inside, except for values that are too large."""
    copy = ir.serde.deserialize_model(model)
    graph = copy.graph
    floating = _floating(graph)
    wide = set(_islands(graph, floating, too_large))
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node in list(graph):
        stored = node.op_type == "Cast" and constant(node.outputs[0]) is not None
        if stored or node.op_type == "Constant":
            continue
        target = _FLOAT if node in wide else _HALF
        for index, value in enumerate(node.inputs):
            if value is not None and value in floating and not _fixed(node, index):
                node.replace_input_with(index, _as(graph, value, target, casts))
        for value in node.outputs:
            if value in floating:
                value.type = ir.TensorType(target)
    for value in list(graph.outputs):
        if value.dtype == _HALF:
            cast = _cast(graph, value, _FLOAT)
            take_output(graph, value, cast, "half")
            cast.type = ir.TensorType(_FLOAT)
    remove_unused(copy)
    return ir.serde.serialize_model(copy)


def _islands(
    graph: ir.Graph, floating: Collection[ir.Value], too_large: Collection[str]
) -> Iterator[ir.Node]:
    """Yield the nodes that stay float32."""
    yield from _upstream(node.inputs[1] for node in graph if node.op_type == _ROIS)
    layers = {layer.node for layer in find_layers(graph)}
    exact = [value for value in graph.outputs if value.name in _EXACT_OUTPUTS]
    last = layers & _upstream(exact, layers)
    reached: set[ir.Value] = set()
    for node in graph:
        ends = node.op_type in (*LAYERS, _ROIS)
        behind = not ends and any(value in reached for value in node.inputs)
        large = any(value.name in too_large for value in node.outputs)
        if node in last or behind or large or (node.op_type in _WIDE and not node.domain):
            yield node
            # An island that is only due to a large value does not extend to the nodes behind it.
            if not large or behind:
                reached.update(value for value in node.outputs if value in floating)


def _upstream(values: Iterable[ir.Value | None], stops: Collection[ir.Node] = ()) -> set[ir.Node]:
    """Return the nodes that compute values, back to those in ``stops``, which are included."""
    found: set[ir.Node] = set()
    left = list(values)
    while left:
        value = left.pop()
        node = value.producer() if value is not None else None
        if node is not None and node not in found:
            found.add(node)
            if node not in stops:
                left.extend(node.inputs)
    return found


def _floating(graph: ir.Graph) -> set[ir.Value]:
    """Return the float32 values; types follow from those of inputs and initializers."""
    found = {value for value in graph.inputs if value.dtype == _FLOAT}
    found |= {value for value in graph.initializers.values() if value.dtype == _FLOAT}
    for node in graph:
        if node.op_type == "Cast":
            floats = node.attributes["to"].as_int() == _FLOAT
        elif node.op_type == "Constant":
            floats = any(name in node.attributes for name in ("value_float", "value_floats"))
            tensor = node.attributes.get("value")
            floats = floats or (tensor is not None and tensor.as_tensor().dtype == _FLOAT)
        elif node.op_type in _OTHER_TYPES:
            floats = False
        else:
            floats = any(
                value in found for index, value in enumerate(node.inputs) if not _fixed(node, index)
            )
        if floats:
            found.update(node.outputs)
    return found


def _fixed(node: ir.Node, index: int) -> bool:
    """Return whether an input always has its own type: regions, and the scales of a Resize."""
    return (node.op_type == _ROIS and node.domain == DOMAIN and index == 1) or (
        node.op_type == "Resize" and index in (1, 2)
    )


def _as(
    graph: ir.Graph,
    value: ir.Value,
    target: ir.DataType,
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value],
) -> ir.Value:
    """Return a value in another type, cast once for all readers; parameters are stored in it."""
    stored = constant(value)
    own = _FLOAT if stored is not None or value.producer() is None else value.dtype
    if own == target:
        return value
    key = (value, target)
    if key not in casts:
        node = value.producer()
        if stored is None:
            casts[key] = _cast(graph, value, target)
        elif node is not None and node.inputs[0] is not None and node.inputs[0].dtype == _HALF:
            casts[key] = node.inputs[0]
        else:
            half = stored.astype(np.float16)
            casts[key] = add_initializer(graph, f"{value.name}{HALF}", half)
    return casts[key]


def _cast(graph: ir.Graph, value: ir.Value, target: ir.DataType) -> ir.Value:
    name = f"{value.name}_{'half' if target == _HALF else 'float'}"
    node = ir.node("Cast", [value], {"to": target}, name=f"{name}_cast")
    cast = node.outputs[0]
    cast.name, cast.type, cast.shape = name, ir.TensorType(target), value.shape
    insert_after(graph, value, [node])
    return cast
