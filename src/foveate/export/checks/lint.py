# SPDX-License-Identifier: Apache-2.0
"""Names of operators that TensorRT would take for one of its own.

Its parser looks an operator up by name and ignores the domain: a ``foveate::Sigmoid`` whose body
negates is imported as the sigmoid, while ONNX Runtime runs the body.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import onnx
from onnx import defs

from foveate.errors import ModelError

STANDARD = ("", "ai.onnx")

# Importers of TensorRT 10 to 11 under names that no version of ONNX has.
_EXTRA = frozenset(
    {
        "DistCollective",
        "GroupQueryAttention",
        "ImageScaler",
        "MatMulNBits",
        "MultiHeadAttention",
        "ParametricSoftplus",
        "QMoE",
        "ScaledTanh",
        "SimplifiedLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
# What its static checker refuses, of what we have ever exported.
_REFUSED = frozenset({"MaxRoiPool", "MaxUnpool", "Unique", "Compress", "Col2Im", "AffineGrid"})


def collides(name: str) -> bool:
    """Tell whether TensorRT's parser knows an operator of this name, or may come to."""
    return name in _own() or name in _EXTRA or name.startswith("TRT_")


def check_names(stage: str, model: onnx.ModelProto) -> None:
    """Refuse operators of foreign domains whose name is one of TensorRT's, in bodies too.

    Raises:
        ModelError: naming the first such node.
    """
    for node in _nodes(model):
        if node.domain not in STANDARD and collides(node.op_type):
            raise ModelError(
                f"the node {node.name or node.output[0]!r} of the stage {stage!r} is "
                f"{node.domain}::{node.op_type}, which TensorRT takes for its own {node.op_type}",
                remedy="give the operator a name that neither ONNX nor TensorRT has",
            )


def refused_operators(model: onnx.ModelProto) -> list[str]:
    """List the standard operators that TensorRT refuses, sorted."""
    found = {node.op_type for node in _nodes(model) if node.domain in STANDARD}
    return sorted(found & _REFUSED)


@cache
def _own() -> frozenset[str]:
    return frozenset(
        schema.name for schema in defs.get_all_schemas_with_history() if schema.domain in STANDARD
    )


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node
