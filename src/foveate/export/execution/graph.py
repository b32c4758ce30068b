# SPDX-License-Identifier: Apache-2.0
"""The graph of a stage for given input shapes: shapes, element types and work of its layers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper, reference, shape_inference

_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
_INTEGER = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")
_PRODUCTS = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
_EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)
_SMALL = 16
"""Largest number of elements of a constant that may be a size or a scale."""

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A node that multiplies and adds.

    Args:
        name: Name of the node.
        precision: ``"fp32"``, ``"fp16"``, ``"int8"`` or the name of another element type, as in the
            file. Weights count by the type they are computed in, not the type they are stored in.
        parameters: Number of elements of the constant inputs.
        macs: Number of multiplications; None if the shapes depend on values.
    """

    name: str
    precision: str
    parameters: int
    macs: int | None


def layers(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> Iterator[Layer]:
    """List the nodes that multiply and add, in the order of the model, for inputs of some shapes."""
    model = _sized(model, shapes)
    types, known = _values(model)
    fixed = constants(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in (*_CONVOLUTIONS, "ConvTranspose", *_PRODUCTS):
            weights = [name for name in node.input[1:] if name and name in fixed]
            yield Layer(
                name=node.name or node.output[0],
                precision=_precision(node, types, producers),
                parameters=sum(prod(known.get(name) or (0,)) for name in weights),
                macs=_macs(node, known),
            )


def constants(model: onnx.ModelProto) -> set[str]:
    """Return the names of the values that do not depend on the inputs."""
    found = {one.name for one in model.graph.initializer} | {""}
    for node in model.graph.node:
        if all(name in found for name in node.input):
            found.update(node.output)
    return found


def _sized(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> onnx.ModelProto:
    """Return a copy of a model with functions inlined and shapes inferred from those of the inputs."""
    copy = inliner.inline_local_functions(model)
    for value in copy.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        for dimension, length in zip(dimensions, shapes.get(value.name, ()), strict=False):
            dimension.dim_value = length
    for value in copy.graph.output:
        # Inferred anew, since the stored shapes have names in place of lengths.
        value.type.tensor_type.ClearField("shape")
    _fold_scalars(copy)
    return shape_inference.infer_shapes(copy, data_prop=True)


def _fold_scalars(model: onnx.ModelProto) -> None:
    # Shape inference does not compute constants such as the scales of an upsampling.
    known = {
        one.name: numpy_helper.to_array(one)
        for one in model.graph.initializer
        if prod(one.dims) <= _SMALL
    }
    kept = []
    for node in model.graph.node:
        if all(name in known for name in node.input) and len(node.output) == 1:
            opset = {"": model.opset_import[0].version}
            feeds = {name: known[name] for name in node.input}
            (result,) = reference.ReferenceEvaluator(node, opsets=opset).run(None, feeds)
            value = np.asarray(result)
            if value.size <= _SMALL:
                known[node.output[0]] = value
                model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
                continue
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _values(model: onnx.ModelProto) -> tuple[dict[str, int], dict[str, Shape | None]]:
    types, shapes = {}, {}
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        tensor = value.type.tensor_type
        sides = tensor.shape.dim
        known = tensor.HasField("shape") and all(one.HasField("dim_value") for one in sides)
        types[value.name] = tensor.elem_type
        shapes[value.name] = tuple(one.dim_value for one in sides) if known else None
    for one in model.graph.initializer:
        types[one.name], shapes[one.name] = one.data_type, tuple(one.dims)
    return types, shapes


def _precision(
    node: onnx.NodeProto, types: Mapping[str, int], producers: Mapping[str, onnx.NodeProto]
) -> str:
    if node.op_type in _INTEGER:
        return "int8"
    # If only the weights are quantized, the sums are still in float.
    sources = [producers.get(name) for name in node.input[:2]]
    if all(
        one is not None
        and one.op_type == "DequantizeLinear"
        and types.get(one.input[0]) in _EIGHT_BITS
        for one in sources
    ):
        return "int8"
    kind = types.get(node.input[0], types.get(node.output[0], 0))
    names: dict[int, str] = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
    return names.get(kind) or str(TensorProto.DataType.Name(kind)).lower()


def _macs(node: onnx.NodeProto, shapes: Mapping[str, Shape | None]) -> int | None:
    at = {"QLinearConv": 3, "QLinearMatMul": 3}.get(node.op_type, 1)
    data, weight = shapes.get(node.input[0]), shapes.get(node.input[at])
    result = shapes.get(node.output[0])
    if data is None or weight is None or result is None:
        return None
    if node.op_type in _CONVOLUTIONS:
        return prod(result) * prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return prod(data) * prod(weight[1:])
    values = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return prod(result) * data[-2 if values.get("transA") else -1]
