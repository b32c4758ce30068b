# SPDX-License-Identifier: Apache-2.0
"""Small edits of a graph that the passes share."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from foveate.arrays import Array


def add_initializer(graph: ir.Graph, name: str, values: Array) -> ir.Value:
    """Add a constant, or return the one of this name."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(values, name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape(values.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def insert_after(graph: ir.Graph, value: ir.Value, nodes: list[ir.Node]) -> None:
    """Insert nodes right behind the one that makes a value, at the start for an input."""
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    elif len(graph):
        graph.insert_before(graph[0], nodes)


def take_output(graph: ir.Graph, value: ir.Value, final: ir.Value, suffix: str) -> None:
    """Let `final` be the output of the graph that `value` was, under its name."""
    for index, output in enumerate(graph.outputs):
        if output is value:
            name = value.name
            value.name = f"{name}_{suffix}"
            final.name, final.shape, final.type = name, value.shape, value.type
            graph.outputs[index] = final


def remove_unused(model: ir.Model) -> None:
    """Remove nodes and initialisers that nothing reads."""
    common_passes.RemoveUnusedNodesPass()(model)
