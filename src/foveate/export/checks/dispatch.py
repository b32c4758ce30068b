# SPDX-License-Identifier: Apache-2.0
"""Which implementation runs a node: a built-in kernel, a plugin, or the body of a function?

ONNX Runtime tells by what becomes of the node: a node that it has a kernel for is still there when
the session stands, one that it has not is replaced by its body.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from foveate.bundle.engine_metadata import EngineMetadata
from foveate.errors import BundleError, InputError, ModelError
from foveate.export.engines.stage_model import DOMAIN
from foveate.runtime.engines.onnxruntime_session import first_line, open_session

BODY, KERNEL = "body", "kernel"


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """A node of a file, and what ONNX Runtime runs it with: ``"kernel"`` or ``"body"``."""

    node: str
    op: str
    domain: str
    implementation: str

    @property
    def intended(self) -> str:
        """What should run it: a body for ours, since no kernel of ONNX Runtime has our names."""
        return BODY if self.domain == DOMAIN else KERNEL


def dispatch(model: onnx.ModelProto, path: Path) -> list[Dispatched]:
    """Ask ONNX Runtime, on the CPU, what it runs every node of a file with.

    Args:
        model: the file's content.
        path: the file.

    Raises:
        BundleError: ONNX Runtime cannot load the file.
    """
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
    """Refuse a stage of which a node is run by another implementation than the intended one.

    Raises:
        ModelError: naming the first such node.
    """
    for one in nodes:
        if one.implementation != one.intended:
            raise ModelError(
                f"ONNX Runtime runs the node {one.node!r} ({_qualified(one)}) of the stage "
                f"{stage!r} by its {one.implementation}, expected its {one.intended}",
                remedy="rename the operator, or use another version of onnxruntime",
            )


def check_engine_dispatch(record: EngineMetadata) -> None:
    """Refuse an engine that was built with the plugin library and does not use it, or the reverse.

    Raises:
        ModelError: naming the first such operator.
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
    options.intra_op_num_threads = 1
    # Optimisation would fuse nodes, and then a missing one says nothing.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "taken.onnx"
        options.optimized_model_filepath = str(file)
        try:
            open_session(path, options)
        except Exception as error:  # its errors have no common class but this
            if file.exists():  # it was loaded, and could not be written
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
