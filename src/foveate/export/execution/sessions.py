# SPDX-License-Identifier: Apache-2.0
"""The stages of a bundle as functions from arrays to arrays, run by ONNX Runtime."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx
import onnxruntime
from onnx import shape_inference

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.errors import BundleError, ModelError, OptionError
from foveate.export.execution.stage_model import EXPORT_AGAIN, load_stage
from foveate.results.detections import Detections, Proposals
from foveate.runtime import Pipeline, PipelineOptions, load
from foveate.runtime.engines import FunctionEngine
from foveate.runtime.engines.onnxruntime_session import first_line, open_session
from foveate.system.resources import usable_cores

Function = Callable[[dict[str, Array]], Mapping[str, Array]]
"""Takes the inputs of a stage by name and returns its outputs by name."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The implementation that a bundle is compared with.

    Args:
        name: Description for messages, such as ``PyTorch``.
        functions: Function of each stage.
        model: Returns the float32 ONNX model of a stage, with the layers of the bundle's.
    """

    name: str
    functions: Mapping[str, Function]
    model: Callable[[str], onnx.ModelProto]


def session_function(model: onnx.ModelProto | Path) -> Function:
    """Return a function that runs a model, or its file, on the CPU.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    # Errors are raised, so ONNX Runtime does not have to log them too.
    options.log_severity_level = 4
    options.intra_op_num_threads = usable_cores()
    source = model if isinstance(model, Path) else model.SerializeToString()
    try:
        session = open_session(source, options)
    except Exception as error:  # its errors have no common class but this
        raise loading_error(error, model if isinstance(model, Path) else None) from error
    names = [one.name for one in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def loading_error(error: Exception, file: Path | None) -> BundleError:
    """Return the error for a stage that ONNX Runtime cannot load."""
    what = f"ONNX Runtime cannot load a stage ({first_line(error)})"
    return BundleError(what, file=file, remedy=EXPORT_AGAIN)


def exposing(model: onnx.ModelProto, values: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of a model whose outputs are the named values of its graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    return copy


def bundle_reference(bundle: Bundle, other: Bundle) -> Reference:
    """Return another bundle of the same networks, such as the float32 one, as a reference.

    Raises:
        ModelError: The other bundle was made from other networks.
    """
    check_networks(bundle, [one.name for one in other.manifest.source.networks], other.root)
    name, functions = f"the bundle {other.root.name!r}", stage_functions(other)
    return Reference(name=name, functions=functions, model=partial(load_stage, other))


def check_networks(bundle: Bundle, found: Sequence[str], file: Path) -> None:
    """Check that a reference consists of the networks that a bundle was made from.

    Raises:
        ModelError: The names ``found`` in the reference differ from those in the bundle.
    """
    expected = [one.name for one in bundle.manifest.source.networks]
    if list(found) != expected:
        named = ", ".join(expected) or "not named in its manifest"
        raise ModelError(
            f"expected the networks of the bundle, {named}, found {', '.join(found) or 'none'}",
            file=file,
            remedy="pass the checkpoint or the bundle that it was made from",
        )


def stage_functions(bundle: Bundle, *, emulate_fp16: bool = False) -> dict[str, Function]:
    """Return a function for each network of a bundle.

    Args:
        bundle: Bundle to run.
        emulate_fp16: Whether stages in fp16 round every value to float16, as a GPU does. ONNX
            Runtime's CPU kernels compute most of them in float32.

    Raises:
        BundleError: ONNX Runtime cannot load a stage.
        OptionError: ``emulate_fp16`` is set and no stage is in fp16.
    """
    names = list(bundle.manifest.networks)
    halves = {name for name in names if bundle.manifest.precision_of(name) == "fp16"}
    if emulate_fp16 and not halves:
        raise OptionError(
            f"no stage of {bundle.manifest.name!r} is in fp16, so there is nothing to round",
            remedy="omit --emulate-fp16, or export with --precision fp16",
        )
    sources: dict[str, Path | onnx.ModelProto] = {name: bundle.stage_path(name) for name in names}
    if emulate_fp16:
        # Its package is not needed for anything else here.
        from foveate.export.execution.fp16_rounding import with_fp16_rounding  # noqa: PLC0415 - see above

        for name in halves:
            model = shape_inference.infer_shapes(onnx.load(bundle.stage_path(name)))
            sources[name] = with_fp16_rounding(model)
    return {name: session_function(source) for name, source in sources.items()}


def bundle_pipeline(
    bundle: Bundle, options: PipelineOptions, *, emulate_fp16: bool = False
) -> Pipeline:
    """Return the pipeline of a bundle; ``emulate_fp16`` as in ``stage_functions``."""
    if not emulate_fp16:
        return load(bundle.root, options=options)
    return function_pipeline(bundle, stage_functions(bundle, emulate_fp16=True), options)


def function_pipeline(
    bundle: Bundle, functions: Mapping[str, Function], options: PipelineOptions
) -> Pipeline:
    """Return the pipeline of a bundle that calls these functions in place of its networks."""
    return Pipeline(bundle, function_engines(bundle, functions), options=options)


def function_engines(
    bundle: Bundle, functions: Mapping[str, Function]
) -> dict[str, FunctionEngine]:
    """Return engines that call a function for each network of a bundle."""
    return {
        stage: FunctionEngine(spec.inputs, spec.outputs, functions[stage])
        for stage, spec in bundle.manifest.networks.items()
    }


def calls_of(
    bundle: Bundle, functions: Mapping[str, Function], image: Path
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield each stage with the inputs of one of its calls for an image.

    Stages come in the order of the cascade, and the calls of a stage by increasing size.
    """
    calls: dict[str, list[dict[str, Array]]] = {name: [] for name in bundle.manifest.networks}

    def recorded(stage: str, inputs: dict[str, Array]) -> Mapping[str, Array]:
        calls[stage].append({name: array.copy() for name, array in inputs.items()})
        return functions[stage](inputs)

    recorders = {stage: partial(recorded, stage) for stage in calls}
    with function_pipeline(bundle, recorders, PipelineOptions()) as pipeline:
        run_pipeline(pipeline, image)
    for stage, found in calls.items():
        for inputs in sorted(found, key=lambda one: sum(array.size for array in one.values())):
            yield stage, inputs


def run_pipeline(pipeline: Pipeline, image: Path) -> Detections | Proposals:
    """Return the detections of an image, or its proposals if the bundle does not classify."""
    return pipeline(image) if "classify" in pipeline.engines else pipeline.propose(image)
