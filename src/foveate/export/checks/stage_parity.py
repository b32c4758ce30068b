# SPDX-License-Identifier: Apache-2.0
"""Does a written stage compute what the network computes?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from foveate.errors import ModelError
from foveate.export.to_onnx.stages import Stage

TOLERANCE = 1e-5
"""Largest difference, as a share of the largest value (at least 1): float32 sums in another order."""

_PLACES = ("boxes", "geometry", "size")
"""Inputs that are places in an image: random ones would lie nowhere."""


def expected_of(stage: Stage) -> dict[str, Tensor]:
    """Run a stage in PyTorch, on the inputs that `check_stage` compares it on: outputs by name."""
    return _run(stage, _random_inputs(stage))


def check_stage(
    stage: Stage, model: onnx.ModelProto, expected: Mapping[str, Tensor] | None = None
) -> None:
    """Compare a stage in ONNX Runtime with PyTorch on random inputs of the examples' sizes.

    Args:
        stage: its module in evaluation mode.
        model: of it.
        expected: as `expected_of` gave it, where the module has been changed since.

    Raises:
        ModelError: an output differs by more than `TOLERANCE`.
    """
    errors = stage_errors(stage, model.SerializeToString(), _random_inputs(stage), expected)
    for name, error in errors.items():
        if not error <= TOLERANCE:
            raise ModelError(
                f"the exported stage {stage.name!r} differs from PyTorch: its output {name!r} by "
                f"{error:.1e} of the largest value, at most {TOLERANCE:.0e} was expected",
                remedy="try the pinned versions of torch, onnx and onnxruntime",
            )


def stage_errors(
    stage: Stage,
    model: bytes | str,
    inputs: Mapping[str, Tensor],
    expected: Mapping[str, Tensor] | None = None,
) -> dict[str, float]:
    """Run a stage in both and compare.

    Args:
        stage: its module in evaluation mode.
        model: the ONNX file's content, or its path.
        inputs: by name.
        expected: outputs by name; what PyTorch gives now if left out.

    Returns:
        Output -> largest difference over max(1, largest value in PyTorch).
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    arrays = {name: inputs[name].numpy() for name in stage.inputs}
    found = session.run(list(stage.outputs), arrays)
    expected = expected or _run(stage, inputs)
    errors = {}
    for name, one in zip(stage.outputs, found, strict=True):
        reference = expected[name].numpy()
        if one.shape != reference.shape:
            raise ModelError(
                f"the exported stage {stage.name!r} gives {name!r} as {one.shape}, "
                f"PyTorch as {reference.shape}",
                remedy="try the pinned versions of torch, onnx and onnxruntime",
            )
        scale = max(1.0, float(np.abs(reference).max(initial=0.0)))
        errors[name] = float(np.abs(one - reference).max(initial=0.0)) / scale
    return errors


def _random_inputs(stage: Stage) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: example if name in _PLACES else torch.randn(example.shape, generator=generator)
        for name, example in stage.inputs.items()
    }


def _run(stage: Stage, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with torch.inference_mode():
        outputs = stage.module.eval()(*(inputs[name] for name in stage.inputs))
    values = outputs if isinstance(outputs, tuple) else (outputs,)
    return dict(zip(stage.outputs, values, strict=True))
