# SPDX-License-Identifier: Apache-2.0
"""Single stages with inputs, for benchmarks that compare what runs a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.export.execution.stage_model import inline_functions
from foveate.export.execution.stages import Stage, cascade_stages
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models.checkpoint import CascadeInfo, build_cascade
from foveate.runtime.engines.onnxruntime_session import open_session, session_options

# The canvas of a level of 640x480, with 80 pixels on all sides.
CANVAS = (640, 800)
WINDOWS = 100


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A stage of a network, in PyTorch and as an ONNX model.

    Args:
        name: Name of the network and of the stage.
        stage: The stage in PyTorch.
        model: The ONNX model, in standard operators alone.
    """

    name: str
    stage: Stage
    model: bytes


def subjects_of(network: str) -> list[Subject]:
    """Return the stages of the bundle ``mini``, or ``propose`` of a network with random weights."""
    if network == "mini":
        bundle = Bundle.open("mini")
        models = {n: onnx.load(bundle.root / s.file) for n, s in bundle.manifest.stages.items()}
        stages = cascade_stages(cascade_from_bundle(bundle))
    else:
        stages = cascade_stages(build_cascade(CascadeInfo(proposals=network)))[:1]
        models = {one.name: export_stage(one) for one in stages}
    return [
        Subject(
            name=f"`{one.name}` of `{network}`",
            stage=one,
            model=inline_functions(models[one.name]).SerializeToString(),
        )
        for one in stages
        if one.name in models
    ]


def open_stage(subject: Subject, threads: int) -> onnxruntime.InferenceSession:
    """Open a stage in ONNX Runtime with the options of Foveate's sessions."""
    return open_session(subject.model, session_options(threads))


def session_of(stage: Stage) -> onnxruntime.InferenceSession:
    """Return a session of a stage, as it is exported now, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = export_stage(stage).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def random_inputs(stage: Stage, rows: int, long_side: int = 512) -> dict[str, Array]:
    """Return inputs with a number of windows, or of boxes on the maps of a square image."""
    generator = np.random.default_rng(0)
    inputs = {}
    for name, example in stage.inputs.items():
        shape = list(example.shape)
        if name == "boxes":
            low = generator.uniform(0, long_side / 2, (rows, 2))
            high = low + generator.uniform(20, long_side / 2, (rows, 2))
            inputs[name] = np.concatenate([low, high], axis=1).astype(np.float32)
            continue
        if name.startswith("map_"):
            shape[2:] = [long_side // int(name.removeprefix("map_"))] * 2
        else:
            shape[0] = rows
        inputs[name] = generator.standard_normal(shape, dtype=np.float32)
    return inputs


def inputs_of(subject: Subject) -> dict[str, Array]:
    """Return random inputs as one 640x480 image at scale 1 has them, with 100 windows or boxes."""
    generator = np.random.default_rng(0)
    return {
        name: _input(generator, name, tuple(example.shape), subject.stage.dynamic.get(name, {}))
        for name, example in subject.stage.inputs.items()
    }


def _input(
    generator: np.random.Generator, name: str, shape: tuple[int, ...], dynamic: Mapping[int, str]
) -> Array:
    if name == "boxes":
        low = generator.uniform(80, (600, 400), (WINDOWS, 2))
        return np.hstack([low, low + generator.uniform(20, 160, (WINDOWS, 2))]).astype(np.float32)
    stride = int(name.removeprefix("map_")) if name.startswith("map_") else 1
    lengths = list(shape)
    for axis in dynamic:
        lengths[axis] = WINDOWS if axis == 0 else CANVAS[axis - 2] // stride
    return generator.standard_normal(lengths, dtype=np.float32)
