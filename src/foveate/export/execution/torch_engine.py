# SPDX-License-Identifier: Apache-2.0
"""PyTorch as an engine: what every figure "against PyTorch" is measured with.

NOTE: What a compiled stage is compiled for. A graph for all sizes of an image is slower than one
for the size at hand, since Inductor then lays out convolutions for no size in particular. So sizes
of images and maps are constants, and each new one is compiled when it first comes: run an image
of the size in question once, or more often, before anything is timed. The number of rows, of
windows and of boxes, differs from image to image, and is left open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.export.to_onnx.stages import Stage, cascade_stages
from foveate.models.checkpoint import Cascade
from foveate.runtime.engines import FunctionEngine

Function = Callable[[dict[str, Array]], Mapping[str, Array]]

_RECOMPILE_LIMIT = 256
"""Sizes that a stage may be compiled for, in all of this process. PyTorch's 8 is one image's pyramid;
beyond its limit it warns and runs the stage uncompiled."""


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
        compiled: run through `torch.compile`, a graph for every size; see the head of this module.

    Returns:
        Stage name -> engine. The number of threads is PyTorch's own, set by the caller.
    """
    functions = torch_functions(cascade, channels_last=channels_last, compiled=compiled)
    return {
        name: FunctionEngine(
            bundle.manifest.stages[name].inputs, bundle.manifest.stages[name].outputs, function
        )
        for name, function in functions.items()
    }


def torch_functions(
    cascade: Cascade, *, channels_last: bool = True, compiled: bool = False
) -> dict[str, Function]:
    """Make a function from arrays to arrays, by name, of every stage; options as `torch_engines`."""
    return {
        stage.name: _function(stage, channels_last, compiled) for stage in cascade_stages(cascade)
    }


def _function(stage: Stage, channels_last: bool, compiled: bool) -> Function:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module: nn.Module = stage.module.eval().to(memory_format=layout)  # type: ignore[call-overload]  # torch types no layout here
    call = _compiled(stage, module) if compiled else module

    def function(inputs: dict[str, Array]) -> Mapping[str, Array]:
        tensors = [torch.from_numpy(inputs[name]) for name in stage.inputs]
        tensors = [t.to(memory_format=layout) if t.dim() == 4 else t for t in tensors]
        with torch.inference_mode():
            outputs = call(*tensors)
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: v.numpy() for name, v in zip(stage.outputs, values, strict=True)}

    return function


def _compiled(stage: Stage, module: nn.Module) -> Callable[..., object]:
    config = torch._dynamo.config  # noqa: SLF001 - has no public name
    compiled = torch.compile(module, dynamic=False)
    rows = [0 in stage.dynamic.get(name, {}) for name in stage.inputs]

    def call(*tensors: Tensor) -> object:
        # Here, since a thread of the pipeline does not see what another one has set.
        config.recompile_limit = max(config.recompile_limit, _RECOMPILE_LIMIT)
        for tensor, varies in zip(tensors, rows, strict=True):
            if varies:
                # "Maybe", because a single row is a constant all the same.
                torch._dynamo.maybe_mark_dynamic(tensor, 0)  # noqa: SLF001 - has no public name
        return compiled(*tensors)

    return call
