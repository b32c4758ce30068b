# SPDX-License-Identifier: Apache-2.0
"""Stages as functions from arrays to arrays, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime

from foveate.arrays import Array
from foveate.errors import BundleError
from foveate.runtime.engines.onnxruntime_session import first_line, open_session
from foveate.system.cores import usable_cores

Function = Callable[[dict[str, Array]], Mapping[str, Array]]


def session_function(model: onnx.ModelProto | Path, threads: int | None = None) -> Function:
    """Make a function of a model; it returns every output by name.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or usable_cores()
    source = model if isinstance(model, Path) else model.SerializeToString()
    try:
        session = open_session(source, options)
    except Exception as error:  # its errors have no common class but this
        raise BundleError(
            f"ONNX Runtime cannot load a stage ({first_line(error)})",
            file=model if isinstance(model, Path) else None,
            remedy="export the bundle again: foveate export CHECKPOINT --output BUNDLE",
        ) from error
    names = [one.name for one in session.get_outputs()]

    def function(inputs: dict[str, Array]) -> Mapping[str, Array]:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return function


def exposing(model: onnx.ModelProto, values: Sequence[str]) -> onnx.ModelProto:
    """Copy a model whose outputs are these values of its graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    return copy
