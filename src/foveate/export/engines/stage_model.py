# SPDX-License-Identifier: Apache-2.0
"""The ONNX file of a stage, checked before TensorRT sees it, and what TensorRT needs changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from foveate.bundle.manifest import StageSpec
from foveate.errors import BundleError

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
        raise BundleError("the file is not an ONNX model", file=path, remedy=_AGAIN) from error
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", opsets.get("ai.onnx")) != OPSET:
        found = opsets.get("", opsets.get("ai.onnx", "none"))
        what = f"the stage {stage!r} has opset {found}, expected {OPSET}"
        raise BundleError(what, file=path, remedy=_AGAIN)
    foreign = sorted({node.domain for node in _nodes(model)} - {"", "ai.onnx", DOMAIN})
    if foreign:
        what = f"the stage {stage!r} uses unsupported operator domains: {', '.join(foreign)}"
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


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node
