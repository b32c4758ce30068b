# SPDX-License-Identifier: Apache-2.0
"""Stages of standard operators only, for programs that know nothing of ours."""

from __future__ import annotations

import onnx
from onnx import inliner

from foveate.errors import ModelError
from foveate.export.to_onnx.operators import DOMAIN


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model with every function inlined, so that it computes the same without our domain.

    Raises:
        ModelError: an operator of ours has no body.
    """
    copy = inliner.inline_local_functions(model)
    left = sorted({node.op_type for node in copy.graph.node if node.domain == DOMAIN})
    if left:
        raise ModelError(
            f"{', '.join(left)} cannot be written in standard operators: it has no body",
            remedy="export without --standard-ops-only",
        )
    kept = [entry for entry in copy.opset_import if entry.domain != DOMAIN]
    del copy.opset_import[:]
    copy.opset_import.extend(kept)
    onnx.checker.check_model(copy)
    return copy
