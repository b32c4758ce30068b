# SPDX-License-Identifier: Apache-2.0
"""PyTorch as an engine: what every figure "against PyTorch" is measured with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.export.stages import Stage, detection_stages, proposal_stages
from foveate.models.checkpoint import Cascade
from foveate.runtime.engines import FunctionEngine


def torch_engines(
    cascade: Cascade,
    bundle: Bundle,
    *,
    channels_last: bool = True,
    compiled: bool = False,
) -> dict[str, FunctionEngine]:
    """Make an engine of every stage of a cascade, to be handed to `Pipeline`.

    Args:
        cascade: the networks, in evaluation mode, with the bundle's weights.
        bundle: gives the stages' signatures, so that the pipeline is the same.
        channels_last: lay convolutions' memory out channel-last, the faster format on a CPU.
        compiled: run through `torch.compile`, one graph for all sizes.

    Returns:
        Stage name -> engine. The number of threads is PyTorch's own, set by the caller.
    """
    stages = proposal_stages(cascade.proposals)
    if cascade.classifier is not None:
        stages += detection_stages(cascade.classifier)
    return {
        stage.name: FunctionEngine(
            bundle.manifest.stages[stage.name].inputs,
            bundle.manifest.stages[stage.name].outputs,
            _function(stage, channels_last, compiled),
        )
        for stage in stages
    }


def _function(
    stage: Stage, channels_last: bool, compiled: bool
) -> Callable[[dict[str, Array]], Mapping[str, Array]]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module: nn.Module = stage.module.eval().to(memory_format=layout)  # type: ignore[call-overload]
    call: Callable[..., object] = torch.compile(module, dynamic=True) if compiled else module

    def function(inputs: dict[str, Array]) -> Mapping[str, Array]:
        tensors = [torch.from_numpy(inputs[name]) for name in stage.inputs]
        tensors = [t.to(memory_format=layout) if t.dim() == 4 else t for t in tensors]
        with torch.inference_mode():
            outputs = call(*tensors)
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: v.numpy() for name, v in zip(stage.outputs, values, strict=True)}

    return function
