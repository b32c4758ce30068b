# SPDX-License-Identifier: Apache-2.0
"""The stages of a bundle as functions from arrays to arrays, run by ONNX Runtime."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx
import onnx_ir as ir
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

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


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


def session_function(model: onnx.ModelProto | Path, threads: int | None = None) -> Function:
    """Return a function that runs a model on the CPU.

    Args:
        model: Model, or the path of its file.
        threads: Number of threads; by default one per core that this process may use.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    # Errors are raised, so ONNX Runtime does not have to log them too.
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or usable_cores()
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
    engines = {
        stage: FunctionEngine(spec.inputs, spec.outputs, functions[stage])
        for stage, spec in bundle.manifest.networks.items()
    }
    return Pipeline(bundle, engines, options=options)


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


def with_fp16_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 copy of a float16 model, with inferred types, that rounds float16 values."""
    # ONNX Runtime's CPU kernels compute most float16 nodes in float32 and round nothing between them,
    # so a run of the file itself shows neither its rounding nor its overflow. Here every value that is
    # float16 in the file is rounded to float16 and then widened to float32, as tensor cores do: they
    # accumulate in float32 and store float16.
    copy = ir.serde.deserialize_model(model)
    graph = copy.graph
    for value in list(graph.initializers.values()):
        if value.dtype == _HALF:
            _widen(graph, value)
    for node in list(graph):
        for value in node.outputs:
            if value.dtype == _HALF:
                _round_value(graph, node, value)
        if node.op_type == "Cast" and node.attributes["to"].as_int() == _HALF:
            node.attributes["to"] = ir.AttrInt64("to", int(_FLOAT))
    return ir.serde.serialize_model(copy)


def _widen(graph: ir.Graph, stored: ir.Value) -> None:
    # The parameter itself stays float16, since an ONNX file cannot exceed 2 GB.
    readers = [use for use in stored.uses() if use.node.op_type != "Cast"]
    if readers:
        wide = ir.node("Cast", [stored], {"to": _FLOAT}, name=f"{stored.name}_widened")
        wide.outputs[0].name = f"{stored.name}_wide"
        wide.outputs[0].type = ir.TensorType(_FLOAT)
        graph.insert_before(graph[0], [wide])
        for use in readers:
            use.node.replace_input_with(use.idx, wide.outputs[0])


def _round_value(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    value.type = ir.TensorType(_FLOAT)
    readers = list(value.uses())
    narrow = ir.node("Cast", [value], {"to": _HALF}, name=f"{value.name}_narrowed")
    narrow.outputs[0].name = f"{value.name}_narrow"
    wide = ir.node("Cast", narrow.outputs, {"to": _FLOAT}, name=f"{value.name}_widened")
    wide.outputs[0].name = f"{value.name}_rounded"
    graph.insert_after(node, [narrow, wide])
    for use in readers:
        use.node.replace_input_with(use.idx, wide.outputs[0])
