# SPDX-License-Identifier: Apache-2.0
"""The ONNX file of a stage, checked before TensorRT sees it, and what TensorRT needs changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from foveate.errors import BundleError
from foveate.manifest import StageSpec

__all__ = [
    "CustomOp",
    "custom_ops",
    "float32_inputs",
    "gemms_as_convolutions",
    "load_stage",
    "signed_codes",
]

# The exporter's, repeated here so that compiling needs no PyTorch; a test holds them together.
DOMAIN, OPSET = "foveate", 18
_AGAIN = "export the bundle again: foveate export CHECKPOINT --output BUNDLE"


@dataclass(frozen=True, order=True, kw_only=True)
class CustomOp:
    """An operator of ours in a file: its name, where a plugin is looked for, whether it has a body."""

    name: str
    namespace: str
    version: str
    body: bool


def load_stage(path: Path, stage: str, spec: StageSpec) -> onnx.ModelProto:
    """Read the ONNX file of a stage and check that it is one of ours.

    Raises:
        BundleError: It is no ONNX file, of another opset, uses domains that we do not know, or has
            other inputs than the manifest says.
    """
    try:
        model = onnx.load(path)
    except (DecodeError, OSError) as error:
        raise BundleError("the file is no ONNX model", file=path, remedy=_AGAIN) from error
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", opsets.get("ai.onnx")) != OPSET:
        found = opsets.get("", opsets.get("ai.onnx", "none"))
        what = f"the stage {stage!r} has opset {found}, expected {OPSET}"
        raise BundleError(what, file=path, remedy=_AGAIN)
    foreign = sorted({node.domain for node in _nodes(model)} - {"", "ai.onnx", DOMAIN})
    if foreign:
        what = f"the stage {stage!r} is none of ours: it uses operators of {', '.join(foreign)}"
        raise BundleError(what, file=path, remedy=_AGAIN)
    found_inputs = [value.name for value in model.graph.input]
    expected = [one.name for one in spec.inputs]
    if found_inputs != expected:
        what = (
            f"the stage {stage!r} has the inputs {', '.join(found_inputs) or 'none'}, the manifest "
            f"says {', '.join(expected)}"
        )
        raise BundleError(what, file=path, remedy=_AGAIN)
    return model


def custom_ops(model: onnx.ModelProto) -> tuple[CustomOp, ...]:
    """List the operators of ours that a model uses, sorted."""
    bodies = {(function.domain, function.name) for function in model.functions}
    found = set()
    for node in model.graph.node:
        if node.domain == DOMAIN:
            texts = {one.name: one.s.decode() for one in node.attribute if one.s}
            found.add(
                CustomOp(
                    name=node.op_type,
                    namespace=texts.get("plugin_namespace", ""),
                    version=texts.get("plugin_version", "1"),
                    body=(node.domain, node.op_type) in bodies,
                )
            )
    return tuple(sorted(found))


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


def signed_codes(model: onnx.ModelProto) -> int:
    """Write every unsigned activation as a signed one without a zero point, in place; count them.

    TensorRT takes no other. A zero point of 128 is the same values; one of 0, where nothing is
    negative, becomes half of the resolution, since a sign has to fit in.
    """
    stored = {one.name: one for one in model.graph.initializer}
    unsigned = {
        (node.input[1], node.input[2])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and stored[node.input[2]].data_type == TensorProto.UINT8
    }
    for scale_name, zero_name in unsigned:
        scale, zero = (numpy_helper.to_array(stored[name]) for name in (scale_name, zero_name))
        if not zero:
            scale = (scale * 255 / 127).astype(np.float32)
        stored[scale_name].CopyFrom(numpy_helper.from_array(scale, scale_name))
        stored[zero_name].CopyFrom(numpy_helper.from_array(np.zeros((), np.int8), zero_name))
    return len(unsigned)


def float32_inputs(model: onnx.ModelProto) -> bool:
    """Tell whether a stage computes in float32, which its inputs show."""
    types = (value.type.tensor_type.elem_type for value in model.graph.input)
    return any(kind == TensorProto.FLOAT for kind in types)


def _is_linear(node: onnx.NodeProto) -> bool:
    if node.op_type != "Gemm" or node.domain:
        return False
    values: Mapping[str, object] = {
        one.name: helper.get_attribute_value(one) for one in node.attribute
    }
    plain = values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0
    return plain and values.get("transB", 0) == 1 and not values.get("transA", 0)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node
