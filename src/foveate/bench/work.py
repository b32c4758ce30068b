# SPDX-License-Identifier: Apache-2.0
"""Operations and bytes of a stage, counted in the graph that ONNX Runtime executes.

ONNX Runtime runs a stage once for each shape of its inputs and writes a profile with the shapes of
all nodes. So functions are inlined and fusions are made by the engine itself, every shape is
concrete, and nothing but the runtime is needed.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnxruntime

from foveate.arrays import Array
from foveate.bundle.manifest import TensorSpec
from foveate.runtime.engines.onnxruntime_session import (
    loading_errors,
    open_session,
    read_specs,
    running_errors,
    session_options,
)

Shape = tuple[int, ...]

Kind = Literal["dense", "pointwise", "depthwise", "product", "other"]
"""Convolutions of three kinds, matrix products, and nodes without either."""

_PRODUCTS = re.compile("MatMul|Gemm")
_PRECISIONS = {"float": "fp32", "float16": "fp16", "double": "fp64", "uint8": "int8"}


@dataclass(frozen=True, kw_only=True)
class NodeWork:
    """Work of one node in one run.

    Args:
        name: Name of the node, given by ONNX Runtime if it fused several.
        kind: Kind of arithmetic.
        precision: ``"fp32"``, ``"fp16"``, ``"int8"`` or another element type, in which the node
            computes **here**: ONNX Runtime runs most float16 nodes in float32 on a CPU.
        operations: Multiplications and additions of convolutions and matrix products; 0 for others.
        weight_bytes: Bytes of the constant inputs.
        read_bytes: Bytes of the other inputs.
        written_bytes: Bytes of the outputs.
    """

    name: str
    kind: Kind
    precision: str
    operations: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int

    @property
    def bytes(self) -> int:
        """Bytes that the node moves if each is read or written once."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


@dataclass(frozen=True, kw_only=True)
class RunWork:
    """Work of one run of a stage.

    Args:
        nodes: Work of the nodes, in the order of execution.
        input_bytes: Bytes of the inputs of the stage.
        output_bytes: Bytes of the outputs of the stage.
    """

    nodes: tuple[NodeWork, ...]
    input_bytes: int
    output_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of the constants; a constant that two nodes read counts twice."""
        return sum(node.weight_bytes for node in self.nodes)

    @property
    def bytes(self) -> int:
        """Bytes of weights, inputs and outputs: the least that any implementation moves."""
        return self.weight_bytes + self.input_bytes + self.output_bytes


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """Work of the runs of a stage for one image: one per level for propose, one for the others."""

    runs: tuple[RunWork, ...]

    @property
    def nodes(self) -> Iterator[NodeWork]:
        """The nodes of all runs."""
        return (node for run in self.runs for node in run.nodes)

    @property
    def operations(self) -> int:
        """Multiplications and additions of all runs."""
        return sum(node.operations for node in self.nodes)

    @property
    def bytes(self) -> int:
        """Least bytes of all runs; each reads the weights again."""
        return sum(run.bytes for run in self.runs)

    @property
    def node_bytes(self) -> int:
        """Bytes that all nodes move, as if no cache kept a tensor between two of them."""
        return sum(node.bytes for node in self.nodes)

    def operations_by_kind(self) -> dict[tuple[Kind, str], int]:
        """Return the operations of each kind and precision that occurs."""
        found: dict[tuple[Kind, str], int] = {}
        for node in self.nodes:
            if node.operations:
                key = (node.kind, node.precision)
                found[key] = found.get(key, 0) + node.operations
        return found


def count_work(file: Path, shapes: Sequence[Mapping[str, Shape]], *, threads: int = 1) -> StageWork:
    """Count the work of a stage by running it once, on zeros, for each different set of input shapes.

    ``shapes`` maps each input to its shape, for each run. It takes the time and the memory of these
    runs, somewhat more than in the pipeline.

    Raises:
        BundleError: ONNX Runtime cannot load the file.
        BackendError: ONNX Runtime cannot run it on inputs of these shapes, or memory runs out.
    """
    different = [one for place, one in enumerate(shapes) if one not in shapes[:place]]
    with TemporaryDirectory(prefix="foveate-work-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        # The highest level would store channels in blocks, and count the padding of the last block.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        # A profile lacks the shapes of weights that were replaced by a copy in another layout.
        options.add_session_config_entry("session.disable_prepacking", "1")
        with loading_errors(file):
            session = open_session(file, options)
        inputs, _ = read_specs(session, file)
        with running_errors(file):
            sizes = [_run(session, inputs, one) for one in different]
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    found = [
        RunWork(nodes=tuple(map(_node, nodes)), input_bytes=read, output_bytes=written)
        for nodes, (read, written) in zip(_runs(events), sizes, strict=True)
    ]
    return StageWork(runs=tuple(found[different.index(one)] for one in shapes))


def _run(
    session: onnxruntime.InferenceSession, inputs: Sequence[TensorSpec], shapes: Mapping[str, Shape]
) -> tuple[int, int]:
    """Run a session on zeros, and return the bytes of its inputs and of its outputs."""
    feeds = {one.name: np.zeros(shapes[one.name], one.dtype) for one in inputs}
    outputs: list[Array] = session.run(None, feeds)
    return _bytes(feeds.values()), _bytes(outputs)


def _bytes(arrays: Iterable[Array]) -> int:
    return sum(array.nbytes for array in arrays)


def _runs(events: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the events of the nodes of each run of a profile."""
    listed = list(events)
    begins = sorted(event["ts"] for event in listed if event["name"] == "model_run")
    runs: list[list[Mapping[str, Any]]] = [[] for _ in begins]
    for event in listed:
        if str(event["name"]).endswith("_kernel_time"):
            runs[bisect_right(begins, event["ts"]) - 1].append(event)
    return runs


def _node(event: Mapping[str, Any]) -> NodeWork:
    given = event["args"]
    inputs, outputs = (_tensors(given[f"{one}_type_shape"]) for one in ("input", "output"))
    kind, macs = _arithmetic(given["op_name"], [s for _, s in inputs], [s for _, s in outputs])
    dtype = (inputs or outputs)[0][0]
    return NodeWork(
        name=str(event["name"]).removesuffix("_kernel_time"),
        kind=kind,
        precision=_PRECISIONS.get(dtype, dtype),
        operations=2 * macs,
        weight_bytes=int(given["parameter_size"]),
        read_bytes=int(given["activation_size"]),
        written_bytes=int(given["output_size"]),
    )


def _tensors(given: Iterable[Mapping[str, Sequence[int]]]) -> list[tuple[str, Shape]]:
    """Return element type and shape of each tensor of a profile."""
    return [(dtype, tuple(shape)) for one in given for dtype, shape in one.items()]


def _arithmetic(op: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> tuple[Kind, int]:
    """Return the kind of an operator, and the number of its multiplications."""
    # Quantized operators have the scale and the zero point of the first factor before the second.
    second = 3 if op.startswith(("QLinear", "QGemm")) else 1
    if "Conv" in op:
        data, weight, result = inputs[0], inputs[second], outputs[0]
        whole = data if "Transpose" in op else result
        return _convolution(weight), prod(whole) * prod(weight[1:])
    if _PRODUCTS.search(op):
        return "product", prod(outputs[0]) * _summed(inputs[0], inputs[second], outputs[0])
    return "other", 0


def _convolution(weight: Shape) -> Kind:
    if weight[1] == 1 and weight[0] > 1:
        return "depthwise"
    return "pointwise" if prod(weight[2:]) == 1 else "dense"


def _summed(left: Shape, right: Shape, result: Shape) -> int:
    """Return the length K over which a matrix product sums."""
    for factor in (left, right):
        if len(factor) == 1:
            return factor[0]
    # Which factors are transposed is not in the profile: K^2 = (M K) (K N) / (M N).
    return isqrt(prod(left[-2:]) * prod(right[-2:]) // max(1, prod(result[-2:])))
