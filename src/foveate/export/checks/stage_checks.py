# SPDX-License-Identifier: Apache-2.0
"""Checks of the file of a stage: operator names, implementations and precision."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import defs

from foveate.bundle.source import LEAST_SHARE
from foveate.errors import InputError, ModelError
from foveate.export.execution.graph import Layer
from foveate.export.execution.sessions import loading_error
from foveate.export.execution.stage_model import DOMAIN, all_nodes
from foveate.runtime.engines.onnxruntime_session import first_line, open_session

STANDARD = ("", "ai.onnx")

# Importers of TensorRT 10 and 11 with names that no version of ONNX has.
_EXTRA = frozenset(
    [
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
    ]
)
# Operators that TensorRT's static checker refuses, among those that have ever been exported.
_REFUSED = frozenset({"MaxRoiPool", "MaxUnpool", "Unique", "Compress", "Col2Im", "AffineGrid"})


def collides(name: str) -> bool:
    """Return whether TensorRT's parser has an operator of this name, or may get one."""
    return defs.has(name) or name in _EXTRA or name.startswith("TRT_")


def check_names(stage: str, model: onnx.ModelProto) -> None:
    """Check that no operator of another domain has the name of one of TensorRT's, in bodies too.

    Raises:
        ModelError: There is such a node.
    """
    # TensorRT's parser looks an operator up by name and ignores the domain: a ``foveate::Sigmoid``
    # whose body negates would become the sigmoid, while ONNX Runtime runs the body.
    for node in all_nodes(model):
        if node.domain not in STANDARD and collides(node.op_type):
            raise ModelError(
                f"the node {node.name or node.output[0]!r} of the stage {stage!r} is "
                f"{node.domain}::{node.op_type}, which TensorRT confuses with its own {node.op_type}",
                remedy="give the operator a name that neither ONNX nor TensorRT uses",
            )


def refused_operators(model: onnx.ModelProto) -> list[str]:
    """Return the standard operators that TensorRT refuses, sorted."""
    found = {node.op_type for node in all_nodes(model) if node.domain in STANDARD}
    return sorted(found & _REFUSED)


BODY, KERNEL = "body", "kernel"
_WITH_BODIES = frozenset(schema.name for schema in defs.get_function_ops())


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """A node of a file, its operator, and its implementation in ONNX Runtime."""

    node: str  # or the name of its output if it has none
    op: str
    domain: str
    implementation: str  # "kernel" for a built-in kernel, "body" for the function body

    @property
    def operator(self) -> str:
        """Operator with its domain, unless that is ONNX's own."""
        return f"{self.domain}::{self.op}" if self.domain else self.op

    @property
    def intended(self) -> tuple[str, ...]:
        """Expected implementations: a kernel, except for Foveate's operators.

        ONNX defines some of its own operators by bodies too, such as HardSwish, for which ONNX
        Runtime may have no kernel.
        """
        if self.domain == DOMAIN:
            return (BODY,)
        return (KERNEL, BODY) if self.op in _WITH_BODIES else (KERNEL,)


def dispatch(model: onnx.ModelProto, path: Path) -> list[Dispatched]:
    """Return the implementation that ONNX Runtime chooses on the CPU for each node of a file.

    Raises:
        BundleError: ONNX Runtime cannot load the file.
    """

    def identity(node: onnx.NodeProto) -> tuple[str, str, tuple[str, ...]]:
        return node.domain, node.op_type, tuple(node.output)

    # A node with a kernel is still in the graph when the session exists; a node without one has been
    # replaced by its body.
    left = {identity(node) for node in _taken(path).graph.node}
    return [
        Dispatched(
            node=node.name or node.output[0],
            op=node.op_type,
            domain=node.domain,
            implementation=KERNEL if identity(node) in left else BODY,
        )
        for node in model.graph.node
    ]


def check_dispatch(stage: str, nodes: Iterable[Dispatched]) -> None:
    """Check that ONNX Runtime runs each node of a stage with the intended implementation.

    Raises:
        ModelError: A node is run with another implementation.
    """
    for one in nodes:
        if one.implementation not in one.intended:
            raise ModelError(
                f"ONNX Runtime runs the node {one.node!r} ({one.operator}) of the stage "
                f"{stage!r} by its {one.implementation}, expected its {one.intended[0]}",
                remedy="rename the operator, or use another version of onnxruntime",
            )


def summary(nodes: Iterable[Dispatched]) -> dict[str, dict[str, int]]:
    """Count nodes by operator and implementation."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in nodes:
        counts[one.operator][one.implementation] += 1
    return {name: dict(counts[name]) for name in sorted(counts)}


def _taken(path: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The session is never run.
    options.intra_op_num_threads = 1
    # Optimization would fuse nodes, so that a missing node would not imply a body.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "taken.onnx"
        options.optimized_model_filepath = str(file)
        try:
            open_session(path, options)
        except Exception as error:  # its errors have no common class but this
            if file.exists():  # it was loaded but could not be written
                raise InputError(
                    f"no space is left for a copy of a stage ({first_line(error)})",
                    file=folder,
                    remedy="free some space, or set TMPDIR to another directory",
                ) from error
            raise loading_error(error, path) from error
        return onnx.load(file)


_ENGINE_TYPES = {"half": "fp16", "fp16": "fp16", "int8": "int8", "float": "fp32", "fp32": "fp32"}


@dataclass(frozen=True, kw_only=True)
class Share:
    """Share of a stage that runs in a precision.

    Layers whose shapes are unknown count in ``nodes`` and ``parameters`` only.

    Args:
        nodes: Share of the layers, from 0 to 1.
        parameters: Share of the parameters.
        macs: Share of the multiplications; that of the layers if no shape is known.
    """

    nodes: float
    parameters: float
    macs: float


def shares(layers: Iterable[Layer]) -> dict[str, Share]:
    """Return the share of each precision in the layers that multiply and add."""
    nodes, parameters, macs = Counter[str](), Counter[str](), Counter[str]()
    for one in layers:
        nodes[one.precision] += 1
        parameters[one.precision] += one.parameters
        macs[one.precision] += one.macs or 0
    counts = {"nodes": nodes, "parameters": parameters, "macs": macs if macs.total() else nodes}

    def share(name: str) -> Share:
        return Share(**{key: of[name] / max(1, of.total()) for key, of in counts.items()})

    return {name: share(name) for name in sorted(nodes)}


def check_precision(stage: str, found: Mapping[str, Share], claimed: str) -> None:
    """Check that a stage computes in the precision that the manifest claims.

    Raises:
        ModelError: Less than ``LEAST_SHARE`` of the multiplications are in that precision.
    """
    if not found:
        return
    share = found[claimed].macs if claimed in found else 0.0
    if share < LEAST_SHARE:
        most = max(found, key=lambda name: found[name].macs)
        raise ModelError(
            f"the stage {stage!r} claims {claimed}, but {found[most].macs:.0%} of its "
            f"multiplications are {most} and {share:.0%} are {claimed}",
            remedy=f"export the bundle again with --precision {claimed}",
        )


def engine_shares(report: Any) -> dict[str, float] | None:
    """Return the share of each precision in the layers that an engine inspector lists.

    Args:
        report: Its decoded JSON, of TensorRT 10 with ``Format/Datatype`` or of 11 with ``DataType``.

    Returns:
        None if it contains no types, as after a build without detailed verbosity.
    """
    entries = report.get("Layers", []) if isinstance(report, dict) else []
    counts = Counter[str]()
    for layer in entries:
        kinds = _kinds(layer) if isinstance(layer, dict) else []
        if kinds:
            # A kernel multiplies in the smallest type of the layer's inputs.
            counts[min(kinds, key=("int8", "fp16", "fp32").index)] += 1
    return {name: count / counts.total() for name, count in counts.items()} if counts else None


def check_engine(name: str, report: Any, claimed: str) -> None:
    """Check that an engine has layers in the precision that the manifest claims.

    Raises:
        ModelError: No layer is in that precision.
    """
    # TensorRT 11 takes the types of the file as they are, and the option that once made an engine
    # float16 is gone, so an engine that stays in float32 unnoticed is the usual failure.
    found = engine_shares(report)
    if found is not None and claimed != "fp32" and not found.get(claimed):
        most = max(found, key=lambda kind: found[kind])
        raise ModelError(
            f"the engine {name!r} claims {claimed}, but no layer of it is: {found[most]:.0%} are "
            f"{most}",
            remedy="export the bundle in that precision, and compile it again",
        )


def _kinds(layer: Mapping[str, Any]) -> list[str]:
    kinds = []
    for tensor in [*layer.get("Inputs", []), *layer.get("Outputs", [])]:
        if isinstance(tensor, dict):
            text = str(tensor.get("DataType") or tensor.get("Format/Datatype") or "").lower()
            kinds += [kind for word, kind in _ENGINE_TYPES.items() if word in text.split()]
            # TensorRT 10 writes one word with the layout, as in "Row major linear FP16 format".
    return kinds
