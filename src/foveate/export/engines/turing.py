# SPDX-License-Identifier: Apache-2.0
"""What TensorRT for RTX lacks on sm_75, Turing: products of float32 matrices.

A linear layer is written as a convolution, which there is. Any other product ends the build of its
stage, after those of all stages before it; so it is looked for before anything is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper, shape_inference

from foveate.errors import BackendError

TURING = "sm_75"
_PRODUCTS = ("Gemm", "MatMul")


def check_products(model: onnx.ModelProto, stage: str, file: Path) -> None:
    """Refuse a stage that TensorRT for RTX cannot build for sm_75.

    Raises:
        BackendError: It multiplies float32 matrices other than in a linear layer.
    """
    found = float32_products(model)
    if not found:
        return
    many = f" and {len(found) - 1} more" if len(found) > 1 else ""
    instead = "export with --precision fp16, or without --optimize batch-towers"
    if stage == "paste":  # float32 whatever the precision: coordinates are
        instead = "name the other stages with --stage"
    raise BackendError(
        f"the stage {stage!r} cannot be built for {TURING}: tensorrt-rtx has no product of float32 "
        f"matrices there, expected linear layers or float16, found {found[0]!r}{many}",
        file=file,
        remedy=f"omit {TURING}, or {instead}",
    )


def float32_products(model: onnx.ModelProto) -> list[str]:
    """Name the products of float32 matrices that `gemms_as_convolutions` leaves.

    Args:
        model: of a stage; functions that it holds are looked into.
    """
    bodies = (model.graph, *model.functions)
    if not any(_is_product(node) for body in bodies for node in body.node):
        return []  # types take a while in a file of a gigabyte
    inlined = inliner.inline_local_functions(model) if model.functions else model
    graph = shape_inference.infer_shapes(inlined).graph
    types = {one.name: one.type.tensor_type.elem_type for one in (*graph.value_info, *graph.output)}
    # What has no type might be float32; the library decides on that.
    return [
        node.name or node.output[0]
        for node in graph.node
        if _is_product(node) and types.get(node.output[0]) == TensorProto.FLOAT
    ]


def gemms_as_convolutions(model: onnx.ModelProto) -> int:
    """Write every ``x @ w.T + b`` as a convolution of 1x1, in place; return how many there were.

    The same sums, for TensorRT for RTX on sm_75: it has no float32 matrix product there, while it
    has convolutions.
    """
    axes = "spatial_axes_of_gemms"
    kept: list[onnx.NodeProto] = []
    count = 0
    for node in model.graph.node:
        if not _is_linear(node):
            kept.append(node)
            continue
        count += 1
        x, weight, *bias = node.input
        wide, kernel, product = (f"{node.output[0]}_{part}" for part in ("x", "kernel", "product"))
        kept += [
            helper.make_node("Unsqueeze", [x, axes], [wide], name=wide),
            helper.make_node("Unsqueeze", [weight, axes], [kernel], name=kernel),
            helper.make_node("Conv", [wide, kernel, *bias], [product], name=product),
            helper.make_node("Squeeze", [product, axes], list(node.output), name=node.name),
        ]
    if count:
        del model.graph.node[:]
        model.graph.node.extend(kept)
        model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), axes))
    return count


def float32_inputs(model: onnx.ModelProto) -> bool:
    """Tell whether a stage computes in float32, which its inputs show."""
    types = (value.type.tensor_type.elem_type for value in model.graph.input)
    return any(kind == TensorProto.FLOAT for kind in types)


def _is_product(node: onnx.NodeProto) -> bool:
    return node.op_type in _PRODUCTS and not node.domain and not _is_linear(node)


def _is_linear(node: onnx.NodeProto) -> bool:
    if node.op_type != "Gemm" or node.domain:
        return False
    values: Mapping[str, object] = {
        one.name: helper.get_attribute_value(one) for one in node.attribute
    }
    plain = values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0
    return plain and values.get("transB", 0) == 1 and not values.get("transA", 0)
