# SPDX-License-Identifier: Apache-2.0
"""Products of float32 matrices on sm_75 (Turing), which TensorRT for RTX does not support."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper, shape_inference

from foveate.errors import BackendError

TURING = "sm_75"
_PRODUCTS = ("Gemm", "MatMul")


def check_products(model: onnx.ModelProto, stage: str, file: Path) -> None:
    """Check that TensorRT for RTX can build a stage for sm_75.

    Raises:
        BackendError: The stage multiplies float32 matrices other than in a linear layer.
    """
    # Checked before anything is built, since the build of this stage would fail after all others.
    found = float32_products(model)
    if not found:
        return
    many = f" and {len(found) - 1} more" if len(found) > 1 else ""
    instead = "export with --precision fp16, or without --optimize batch-towers"
    if stage == "paste":  # always float32, since coordinates are
        instead = "name the other stages with --stage"
    raise BackendError(
        f"the stage {stage!r} cannot be built for {TURING}: tensorrt-rtx has no product of float32 "
        f"matrices there, expected linear layers or float16, found {found[0]!r}{many}",
        file=file,
        remedy=f"omit {TURING}, or {instead}",
    )


def float32_products(model: onnx.ModelProto) -> list[str]:
    """Return the float32 products, in bodies too, that ``gemms_as_convolutions`` leaves."""
    bodies = (model.graph, *model.functions)
    if not any(_is_product(node) for body in bodies for node in body.node):
        return []  # type inference takes long for a file of a gigabyte
    inlined = inliner.inline_local_functions(model) if model.functions else model
    graph = shape_inference.infer_shapes(inlined).graph
    types = {one.name: one.type.tensor_type.elem_type for one in (*graph.value_info, *graph.output)}
    # A value without a type might be float32; the library decides.
    return [
        node.name or node.output[0]
        for node in graph.node
        if _is_product(node) and types.get(node.output[0]) == TensorProto.FLOAT
    ]


def gemms_as_convolutions(model: onnx.ModelProto) -> None:
    """Turn every ``x @ w.T + b`` into a 1x1 convolution, **in place**."""
    # The sums are the same, and TensorRT for RTX has float32 convolutions on sm_75.
    axes = "spatial_axes_of_gemms"
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if not _is_linear(node):
            kept.append(node)
            continue
        x, weight, *bias = node.input
        wide, kernel, product = (f"{node.output[0]}_{part}" for part in ("x", "kernel", "product"))
        kept += [
            helper.make_node("Unsqueeze", [x, axes], [wide], name=wide),
            helper.make_node("Unsqueeze", [weight, axes], [kernel], name=kernel),
            helper.make_node("Conv", [wide, kernel, *bias], [product], name=product),
            helper.make_node("Squeeze", [product, axes], list(node.output), name=node.name),
        ]
    if len(kept) > len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(kept)
        model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), axes))


def float32_inputs(model: onnx.ModelProto) -> bool:
    """Return whether a stage computes in float32, judging by its inputs."""
    types = (value.type.tensor_type.elem_type for value in model.graph.input)
    return any(kind == TensorProto.FLOAT for kind in types)


def _is_product(node: onnx.NodeProto) -> bool:
    return node.op_type in _PRODUCTS and not node.domain and not _is_linear(node)


def _is_linear(node: onnx.NodeProto) -> bool:
    if node.op_type != "Gemm" or node.domain:
        return False
    values = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    plain = values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0
    return plain and values.get("transB", 0) == 1 and not values.get("transA", 0)
