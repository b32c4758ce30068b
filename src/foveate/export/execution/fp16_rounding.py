# SPDX-License-Identifier: Apache-2.0
"""Float16 models as float32 models that round as a GPU does."""

import onnx
import onnx_ir as ir

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def with_fp16_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 copy of a float16 model, with inferred types, that rounds float16 values."""
    # ONNX Runtime's CPU kernels compute most float16 nodes in float32 and round nothing between them,
    # so a run of the file itself shows neither its rounding nor its overflow. Here every value that is
    # float16 in the file is rounded to float16 and then widened to float32, as tensor cores do: they
    # accumulate in float32 and store float16.
    copy = ir.serde.deserialize_model(model)
    graph = copy.graph
    for value in list(graph.initializers.values()):
        if value.dtype == _HALF:
            _widen(graph, value)
    for node in list(graph):
        for value in node.outputs:
            if value.dtype == _HALF:
                _round_value(graph, node, value)
        if node.op_type == "Cast" and node.attributes["to"].as_int() == _HALF:
            node.attributes["to"] = ir.AttrInt64("to", int(_FLOAT))
    return ir.serde.serialize_model(copy)


def _widen(graph: ir.Graph, stored: ir.Value) -> None:
    # The parameter itself stays float16, since an ONNX file cannot exceed 2 GB.
    readers = [use for use in stored.uses() if use.node.op_type != "Cast"]
    if readers:
        wide = ir.node("Cast", [stored], {"to": _FLOAT}, name=f"{stored.name}_widened")
        wide.outputs[0].name = f"{stored.name}_wide"
        wide.outputs[0].type = ir.TensorType(_FLOAT)
        graph.insert_before(graph[0], [wide])
        for use in readers:
            use.node.replace_input_with(use.idx, wide.outputs[0])


def _round_value(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    value.type = ir.TensorType(_FLOAT)
    readers = list(value.uses())
    narrow = ir.node("Cast", [value], {"to": _HALF}, name=f"{value.name}_narrowed")
    narrow.outputs[0].name = f"{value.name}_narrow"
    wide = ir.node("Cast", narrow.outputs, {"to": _FLOAT}, name=f"{value.name}_widened")
    wide.outputs[0].name = f"{value.name}_rounded"
    graph.insert_after(node, [narrow, wide])
    for use in readers:
        use.node.replace_input_with(use.idx, wide.outputs[0])
