# SPDX-License-Identifier: Apache-2.0
"""The stages of a cascade as functions and engines that run PyTorch on the CPU.

Every figure "against PyTorch" is measured with these.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.export.execution.sessions import Function, function_engines
from foveate.export.execution.stages import Stage, cascade_stages
from foveate.models.checkpoint import Cascade
from foveate.runtime.engines import FunctionEngine

_RECOMPILE_LIMIT = 256
"""Number of sizes that a stage may be compiled for in this process. PyTorch's default of 8 is used up
by one image's pyramid; beyond the limit the stage runs uncompiled, with a warning."""


def torch_engines(
    cascade: Cascade, bundle: Bundle, *, channels_last: bool = True, compiled: bool = False
) -> dict[str, FunctionEngine]:
    """Return an engine for each stage of a cascade, to be passed to ``Pipeline``.

    The number of threads is PyTorch's own and is set by the caller.

    Args:
        cascade: Networks in evaluation mode, with the weights of the bundle.
        bundle: Bundle whose signatures the engines have.
        channels_last: Whether convolutions use channels-last memory, which is faster on a CPU.
        compiled: Whether stages run through ``torch.compile``, with one graph per image size.
    """
    functions = torch_functions(cascade, channels_last=channels_last, compiled=compiled)
    return function_engines(bundle, functions)


def torch_functions(
    cascade: Cascade, *, channels_last: bool = True, compiled: bool = False
) -> dict[str, Function]:
    """Return a function for each stage of a cascade; options as in ``torch_engines``."""
    return {
        stage.name: _function(stage, channels_last, compiled) for stage in cascade_stages(cascade)
    }


def stage_call(
    stage: Stage, *, channels_last: bool = True, compiled: bool = False
) -> Callable[[Sequence[Tensor]], dict[str, Tensor]]:
    """Return a function from the inputs of a stage, in order, to its outputs by name.

    The tensors lie where the module of the stage lies. Options as in ``torch_engines``.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module: nn.Module = stage.module.eval().to(memory_format=layout)  # type: ignore[call-overload]  # PyTorch's types lack layouts
    call = _compiled(stage, module) if compiled else module

    def run(inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        tensors = [t.to(memory_format=layout) if t.dim() == 4 else t for t in inputs]
        with torch.inference_mode():
            outputs = call(*tensors)
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return dict(zip(stage.outputs, values, strict=True))

    return run


def _function(stage: Stage, channels_last: bool, compiled: bool) -> Function:
    call = stage_call(stage, channels_last=channels_last, compiled=compiled)

    def function(inputs: dict[str, Array]) -> Mapping[str, Array]:
        outputs = call([torch.from_numpy(inputs[name]) for name in stage.inputs])
        return {name: value.numpy() for name, value in outputs.items()}

    return function


def _compiled(stage: Stage, module: nn.Module) -> Callable[..., object]:
    config = torch._dynamo.config  # noqa: SLF001 - has no public name
    # A graph for all sizes is slower than one for a given size, since Inductor then lays out
    # convolutions for no size in particular. So the sizes of images and maps are constants, and each
    # new size is compiled at its first use: run an image of that size before timing anything. The
    # number of windows and boxes differs between images and stays open.
    compiled = torch.compile(module, dynamic=False)
    rows = [0 in stage.dynamic.get(name, {}) for name in stage.inputs]

    def call(*tensors: Tensor) -> object:
        # Set here because the setting is per thread, and the pipeline runs stages in its own.
        config.recompile_limit = max(config.recompile_limit, _RECOMPILE_LIMIT)
        for tensor, varies in zip(tensors, rows, strict=True):
            if varies:
                # "Maybe", because a single row becomes a constant in any case.
                torch._dynamo.maybe_mark_dynamic(tensor, 0)  # noqa: SLF001 - has no public name
        return compiled(*tensors)

    return call
