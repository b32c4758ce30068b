# SPDX-License-Identifier: Apache-2.0
"""What is verified: the networks of a bundle as functions, and pipelines of such functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import shape_inference

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.errors import OptionError
from foveate.export.execution.rounding import with_fp16_rounding
from foveate.export.execution.sessions import Function, session_function
from foveate.runtime import Pipeline, PipelineOptions, load
from foveate.runtime.engines import FunctionEngine


def stage_functions(bundle: Bundle, *, emulate_fp16: bool = False) -> dict[str, Function]:
    """Make a function of each network of a bundle, on ONNX Runtime.

    Args:
        bundle: as it is written.
        emulate_fp16: whether stages in fp16 round every value to float16, as a GPU does. ONNX Runtime's
            CPU kernels compute most of them in float32.

    Raises:
        BundleError: ONNX Runtime cannot load a stage.
        OptionError: `emulate_fp16` is asked for, and no stage is in fp16.
    """
    names = list(bundle.manifest.networks)
    halves = {name for name in names if bundle.manifest.precision_of(name) == "fp16"}
    if emulate_fp16 and not halves:
        raise OptionError(
            f"no stage of {bundle.manifest.name!r} is in fp16, so there is nothing to round",
            remedy="omit --emulate-fp16, or export with --precision fp16",
        )
    functions = {}
    for name in names:
        path = bundle.stage_path(name)
        if emulate_fp16 and name in halves:
            functions[name] = session_function(
                with_fp16_rounding(shape_inference.infer_shapes(onnx.load(path)))
            )
        else:
            functions[name] = session_function(path)
    return functions


def bundle_pipeline(
    bundle: Bundle, options: PipelineOptions, *, emulate_fp16: bool = False
) -> Pipeline:
    """Make the bundle's own pipeline; see `stage_functions` for what `emulate_fp16` changes."""
    if not emulate_fp16:
        return load(bundle.root, options=options)
    functions = stage_functions(bundle, emulate_fp16=True)
    return function_pipeline(bundle, lambda stage, inputs: functions[stage](inputs), options)


def function_pipeline(
    bundle: Bundle,
    function: Callable[[str, dict[str, Array]], Mapping[str, Array]],
    options: PipelineOptions,
) -> Pipeline:
    """Make the bundle's pipeline with a function of stage and inputs in place of its networks."""

    def engine(stage: str) -> FunctionEngine:
        spec = bundle.manifest.stages[stage]
        return FunctionEngine(spec.inputs, spec.outputs, lambda inputs: function(stage, inputs))

    return Pipeline(
        bundle, {name: engine(name) for name in bundle.manifest.networks}, options=options
    )
