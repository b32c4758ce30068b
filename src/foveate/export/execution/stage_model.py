# SPDX-License-Identifier: Apache-2.0
"""The ONNX file of a stage: its format, reading it, and small changes to it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, inliner, numpy_helper

from foveate.bundle import Bundle
from foveate.errors import BundleError, ModelError

DOMAIN = "foveate"
OPSET = 18
"""The last opset whose Resize is implemented by all supported runtimes."""

# Prefix and suffixes that the name of a parameter in PyTorch gets as the name of an initializer.
NETWORK, HALF = "network.", "_half"
CODES, SCALES, CORRECTED = "_codes", "_scales", "_corrected"

EXPORT_AGAIN = "export the bundle again: foveate export CHECKPOINT --output BUNDLE"


@dataclass(frozen=True, order=True, kw_only=True)
class CustomOp:
    """A Foveate operator that a model uses, and the namespace and version of its plugin."""

    name: str
    namespace: str
    version: str
    body: bool  # whether the model has a function body for it


def load_stage(bundle: Bundle, stage: str) -> onnx.ModelProto:
    """Read and check the ONNX file of a stage.

    Raises:
        BundleError: It is not an ONNX file, has another opset, uses unsupported operator domains,
            or has inputs other than those in the manifest.
    """
    path = bundle.stage_path(stage)
    try:
        model = onnx.load(path)
    except (DecodeError, OSError) as error:
        what = "the file is not an ONNX model"
        raise BundleError(what, file=path, remedy=EXPORT_AGAIN) from error
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    opset = opsets.get("ai.onnx", "none")
    foreign = sorted({node.domain for node in all_nodes(model)} - {"", "ai.onnx", DOMAIN})
    found = [value.name for value in model.graph.input]
    expected = [one.name for one in bundle.manifest.stages[stage].inputs]
    if opset != OPSET:
        fault = f"has opset {opset}, expected {OPSET}"
    elif foreign:
        fault = f"uses unsupported operator domains: {', '.join(foreign)}"
    elif found != expected:
        fault = f"has the inputs {', '.join(found) or 'none'}, expected {', '.join(expected)}"
    else:
        return model
    raise BundleError(f"the stage {stage!r} {fault}", file=path, remedy=EXPORT_AGAIN)


def custom_ops(model: onnx.ModelProto) -> tuple[CustomOp, ...]:
    """List the Foveate operators that a model uses, sorted."""
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


def signed_codes(model: onnx.ModelProto) -> None:
    """Make unsigned activations of a model signed, **in place**."""
    # TensorRT accepts no zero point. For a zero point of 128 the values stay the same; for one of 0,
    # where nothing is negative, the sign bit costs half of the resolution.
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


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a model, and those of its functions."""
    yield from model.graph.node
    for function in model.functions:
        yield from function.node


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model with all functions inlined, which uses standard operators only.

    Raises:
        ModelError: A Foveate operator has no body.
    """
    copy = inliner.inline_local_functions(model)
    left = sorted({node.op_type for node in copy.graph.node if node.domain == DOMAIN})
    if left:
        raise ModelError(
            f"{', '.join(left)} has no body of standard operators",
            remedy="export without --standard-ops-only",
        )
    kept = [entry for entry in copy.opset_import if entry.domain != DOMAIN]
    del copy.opset_import[:]
    copy.opset_import.extend(kept)
    onnx.checker.check_model(copy)
    return copy
