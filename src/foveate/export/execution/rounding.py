# SPDX-License-Identifier: Apache-2.0
"""What a float16 file computes where float16 is real, on a processor that computes in float32.

ONNX Runtime's CPU kernels take most float16 nodes in float32 and round nothing between them, so a
run of the file itself shows neither its rounding nor its overflow. Here every value that is float16
in the file is rounded to float16 and taken on in float32, as tensor cores do: products and sums
wide, results narrow.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def with_fp16_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a float16 model, its types inferred, to float32 with the rounding written out."""
    copy = ir.serde.deserialize_model(model)
    graph = copy.graph
    for value in list(graph.initializers.values()):
        if value.dtype == _HALF:
            _widen(graph, value)
    for node in list(graph):
        for value in node.outputs:
            if value.dtype == _HALF:
                _round(graph, node, value)
        if node.op_type == "Cast" and node.attributes["to"].as_int() == _HALF:
            node.attributes["to"] = ir.AttrInt64("to", int(_FLOAT))
    return ir.serde.serialize_model(copy)


def _widen(graph: ir.Graph, stored: ir.Value) -> None:
    """Read a float16 parameter as float32. It stays float16, since a file holds less than 2 GB."""
    readers = [use for use in stored.uses() if use.node.op_type != "Cast"]
    if not readers:
        return
    wide = ir.node("Cast", [stored], {"to": _FLOAT}, name=f"{stored.name}_widened")
    wide.outputs[0].name = f"{stored.name}_wide"
    wide.outputs[0].type = ir.TensorType(_FLOAT)
    graph.insert_before(graph[0], [wide])
    for use in readers:
        use.node.replace_input_with(use.idx, wide.outputs[0])


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    value.type = ir.TensorType(_FLOAT)
    readers = list(value.uses())
    narrow = ir.node("Cast", [value], {"to": _HALF}, name=f"{value.name}_narrowed")
    narrow.outputs[0].name = f"{value.name}_narrow"
    wide = ir.node("Cast", narrow.outputs, {"to": _FLOAT}, name=f"{value.name}_widened")
    wide.outputs[0].name = f"{value.name}_rounded"
    graph.insert_after(node, [narrow, wide])
    for use in readers:
        use.node.replace_input_with(use.idx, wide.outputs[0])
