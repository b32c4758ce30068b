# SPDX-License-Identifier: Apache-2.0
"""Checks of the file of a stage: operator names, implementations and precision."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import defs

from foveate.bundle.engine_metadata import EngineMetadata
from foveate.errors import BundleError, InputError, ModelError
from foveate.export.execution.graph import Layer
from foveate.export.execution.stage_model import DOMAIN
from foveate.export.precision.options import LEAST_SHARE
from foveate.runtime.engines.onnxruntime_session import first_line, open_session

STANDARD = ("", "ai.onnx")

# Importers of TensorRT 10 and 11 with names that no version of ONNX has.
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
# Operators that its static checker refuses, among those that were ever exported.
_REFUSED = frozenset({"MaxRoiPool", "MaxUnpool", "Unique", "Compress", "Col2Im", "AffineGrid"})


def collides(name: str) -> bool:
    """Return whether TensorRT's parser has an operator of this name, or may get one."""
    return name in _own() or name in _EXTRA or name.startswith("TRT_")


def check_names(stage: str, model: onnx.ModelProto) -> None:
    """Check that no operator of another domain has the name of one of TensorRT's, in bodies too.

    Raises:
        ModelError: There is such a node.
    """
    # TensorRT's parser looks an operator up by name and ignores the domain: a ``foveate::Sigmoid``
    # whose body negates would become the sigmoid, while ONNX Runtime runs the body.
    for node in _all_nodes(model):
        if node.domain not in STANDARD and collides(node.op_type):
            raise ModelError(
                f"the node {node.name or node.output[0]!r} of the stage {stage!r} is "
                f"{node.domain}::{node.op_type}, which TensorRT confuses with its own {node.op_type}",
                remedy="give the operator a name that neither ONNX nor TensorRT uses",
            )


def refused_operators(model: onnx.ModelProto) -> list[str]:
    """Return the standard operators that TensorRT refuses, sorted."""
    found = {node.op_type for node in _all_nodes(model) if node.domain in STANDARD}
    return sorted(found & _REFUSED)


@cache
def _own() -> frozenset[str]:
    return frozenset(
        schema.name for schema in defs.get_all_schemas_with_history() if schema.domain in STANDARD
    )


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node


BODY, KERNEL = "body", "kernel"


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """A node of a file and its implementation in ONNX Runtime.

    Args:
        node: Name of the node, or of its output if it has none.
        op: Operator of the node.
        domain: Domain of the operator.
        implementation: ``"kernel"`` for a built-in kernel, ``"body"`` for the function body.
    """

    node: str
    op: str
    domain: str
    implementation: str

    @property
    def intended(self) -> str:
        """Expected implementation: ONNX Runtime has kernels for all operators except Foveate's."""
        return BODY if self.domain == DOMAIN else KERNEL


def dispatch(model: onnx.ModelProto, path: Path) -> list[Dispatched]:
    """Return the implementation that ONNX Runtime chooses for each node on the CPU.

    Args:
        model: Content of the file.
        path: Path of the file.

    Raises:
        BundleError: ONNX Runtime cannot load the file.
    """
    # A node with a kernel is still in the graph when the session exists; a node without one has been
    # replaced by its body.
    left = {(node.domain, node.op_type, tuple(node.output)) for node in _taken(path).graph.node}
    return [
        Dispatched(
            node=node.name or node.output[0],
            op=node.op_type,
            domain=node.domain,
            implementation=KERNEL
            if (node.domain, node.op_type, tuple(node.output)) in left
            else BODY,
        )
        for node in model.graph.node
    ]


def check_dispatch(stage: str, nodes: Iterable[Dispatched]) -> None:
    """Check that ONNX Runtime runs each node of a stage by the intended implementation.

    Raises:
        ModelError: A node is run by another one.
    """
    for one in nodes:
        if one.implementation != one.intended:
            raise ModelError(
                f"ONNX Runtime runs the node {one.node!r} ({_qualified(one)}) of the stage "
                f"{stage!r} by its {one.implementation}, expected its {one.intended}",
                remedy="rename the operator, or use another version of onnxruntime",
            )


def check_engine_dispatch(record: EngineMetadata) -> None:
    """Check that an engine uses the plugin library if and only if it was built with it.

    Raises:
        ModelError: An operator is run otherwise.
    """
    intended = "body" if record.key.plugins is None else "plugin"
    for op, found in sorted(record.dispatch.items()):
        if found != intended:
            raise ModelError(
                f"the engine {record.name!r} runs {op} by its {found}, expected its {intended}",
                remedy=f"run: foveate compile BUNDLE --target {record.key.target}"
                + (" --plugins LIBRARY" if intended == "plugin" else ""),
            )


def summary(nodes: Iterable[Dispatched]) -> dict[str, dict[str, int]]:
    """Count nodes by operator and implementation."""
    counts: dict[str, dict[str, int]] = {}
    for one in nodes:
        of = counts.setdefault(_qualified(one), {})
        of[one.implementation] = of.get(one.implementation, 0) + 1
    return {name: counts[name] for name in sorted(counts)}


def _qualified(one: Dispatched) -> str:
    return f"{one.domain}::{one.op}" if one.domain else one.op


def _taken(path: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The session is never run.
    options.intra_op_num_threads = 1
    # Optimisation would fuse nodes, so that a missing node would not imply a body.
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
                    remedy="free some space, or set TMPDIR to another folder",
                ) from error
            raise BundleError(
                f"ONNX Runtime cannot load a stage ({first_line(error)})",
                file=path,
                remedy="export the bundle again: foveate export CHECKPOINT --output BUNDLE",
            ) from error
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
    found = list(layers)

    def part(values: Mapping[str, int]) -> dict[str, float]:
        total = sum(values.values())
        return {name: value / total if total else 0.0 for name, value in values.items()}

    names = sorted({one.precision for one in found})
    mine = {name: [one for one in found if one.precision == name] for name in names}
    nodes = part({name: len(of) for name, of in mine.items()})
    parameters = part({name: sum(one.parameters for one in of) for name, of in mine.items()})
    macs = part({name: sum(one.macs or 0 for one in of) for name, of in mine.items()})
    if not any(macs.values()):
        macs = nodes
    return {
        name: Share(nodes=nodes[name], parameters=parameters[name], macs=macs[name])
        for name in names
    }


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
    counts: dict[str, int] = {}
    for layer in entries:
        kinds = _kinds(layer) if isinstance(layer, dict) else []
        if kinds:
            # A kernel multiplies in the smallest type of the layer's inputs.
            kind = min(kinds, key=("int8", "fp16", "fp32").index)
            counts[kind] = counts.get(kind, 0) + 1
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else None


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
