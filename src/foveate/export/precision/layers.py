# SPDX-License-Identifier: Apache-2.0
"""The layers of a stage, each with its activation, and which of them may be INT8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from foveate.arrays import Array, Float32Array

LAYERS = ("Conv", "Gemm", "MatMul")
"""Operators that multiply by weights."""

EXACT_OUTPUTS = ("scores", "logits", "probabilities", "deltas")
"""Outputs whose last layer is never INT8: ties reorder the best K, and errors move masks and boxes."""

FEW_CHANNELS = 8
"""Channels up to which a layer is never INT8: the stem, SharpMask's fine levels, masks, scores."""

CHEAP = 32
"""Multiplications a value, read or written, below which a layer is not worth the way into INT8."""

_ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A node that multiplies by constant weights.

    Attributes:
        node: the node; its name names the layer.
        weight: float32, of the shape that the node takes.
        axis: of `weight`, that counts the outputs.
        source: what it reads.
        result: what it gives, behind its activation if nothing else reads what lies between.
        refused: why it is never INT8, or None.
    """

    node: ir.Node
    weight: Float32Array
    axis: int
    source: ir.Value
    result: ir.Value
    refused: str | None

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.node.name or ""

    @property
    def depthwise(self) -> bool:
        """Tell whether each output reads one channel."""
        return self.node.op_type == "Conv" and self.weight.shape[1] == 1 and _groups(self.node) > 1


def find_layers(graph: ir.Graph) -> Iterator[Layer]:
    """List the layers of a graph in its order. A product of two computed values is none."""
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
            refused = f"takes fewer than {CHEAP} multiplications a value of a map in float32"
        if refused is not None:
            exact.add(result)
        yield Layer(
            node=node,
            weight=weight.astype(np.float32),
            axis=axis,
            source=source,
            result=result,
            refused=refused,
        )


def constant(value: ir.Value | None) -> Array | None:
    """Return the content of an initialiser, or of one behind a Cast; None of anything else."""
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
    """Tell whether eight bits are entered more cheaply behind a layer, on its smaller result."""
    if node.op_type != "Conv":
        return False
    strides = node.attributes.get("strides")
    area = 1 if strides is None else int(np.prod(strides.as_ints()))
    read, written = weight.shape[1] * _groups(node) * area, weight.shape[0]
    return bool(written <= read and weight.size < CHEAP * (read + written))


def _reached(value: ir.Value) -> set[str]:
    """Names of the graph's outputs to which a value leads without another layer."""
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
