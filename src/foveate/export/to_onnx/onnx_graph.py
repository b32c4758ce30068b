# SPDX-License-Identifier: Apache-2.0
"""Export of a stage to an ONNX model, and its comparison with PyTorch."""

import inspect
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from foveate.errors import ModelError
from foveate.export.execution.divergence import relative_error
from foveate.export.execution.sessions import session_function
from foveate.export.execution.stage_model import HALF, OPSET
from foveate.export.execution.stages import Stage
from foveate.export.execution.torch_engines import stage_call
from foveate.export.to_onnx.operators import attach_bodies, translation_table
from foveate.plain_text import first_line
from foveate.system.loggers import silenced_logger

SMALLEST_HALF_INITIALIZER = 64
"""Number of elements below which an initializer stays float32, since a Cast would cost more."""


def export_stage(stage: Stage) -> onnx.ModelProto:
    """Export a stage, whose module is in evaluation mode with weights rounded to float16.

    Returns:
        A checked model, with weights as float16 initializers behind a Cast to float32.
    """
    model = _trace(stage)
    _name_dimensions(model, stage)
    _drop_traces_of_the_machine(model)
    attach_bodies(model, stage.long_side)
    _store_halves(model)
    onnx.checker.check_model(model)
    return model


def _trace(stage: Stage) -> onnx.ModelProto:
    shapes: tuple[Any, ...] = tuple(
        dict.fromkeys(stage.dynamic.get(key, {}), torch.export.Dim.DYNAMIC) for key in stage.inputs
    )
    takes = inspect.signature(stage.module.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in takes):
        shapes = (shapes,)
    # The exporter warns about its own deprecations, which do not concern the model.
    silenced = silenced_logger("torch.onnx._internal.exporter._registration")
    with silenced, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            # Traced here, since the exporter would silently try other ways if this one fails.
            traced = torch.export.export(
                stage.module.eval(), tuple(stage.inputs.values()), dynamic_shapes=shapes
            )
            program = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(stage.inputs),
                output_names=list(stage.outputs),
                custom_translation_table=translation_table(),
                verbose=False,
            )
        except Exception as error:  # PyTorch's errors have no common class
            raise ModelError(
                f"the stage {stage.name!r} cannot be exported: {first_line(error)}",
                remedy="try the pinned versions of torch, onnx and onnxscript",
            ) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _keep_names(model, _used_tensors(traced))
    return model


def _used_tensors(traced: torch.export.ExportedProgram) -> dict[str, Tensor]:
    """Return the parameters and buffers that the stage reads, by name."""
    signature = traced.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    read = [node.name for node in traced.graph.nodes if node.op == "placeholder" and node.users]
    tensors = {**traced.state_dict, **traced.constants}
    return {names[one]: tensors[names[one]] for one in read if one in names}


def _keep_names(model: onnx.ModelProto, tensors: dict[str, Tensor]) -> None:
    """Restore the names of parameters that the exporter reshaped."""
    # A bundle is read back by these names. Parameters that the exporter left out because they have no
    # effect, or equal another one, are added to the file too, although no node reads them.
    known = {one.name: one for one in model.graph.initializer}
    # Parameters without a name are recognized by their content.
    unnamed = {
        numpy_helper.to_array(one).tobytes(): one
        for one in known.values()
        if one.name not in tensors and one.data_type == TensorProto.FLOAT
    }
    renamed, transposed = {}, []
    for name in sorted(tensors.keys() - known.keys()):
        values: np.ndarray[Any, Any] = tensors[name].detach().numpy()
        if folded := unnamed.pop(values.tobytes(), None):
            renamed[folded.name] = name
            folded.name = name
        elif folded := unnamed.pop(values.T.tobytes(), None):
            # The weights of a linear layer of maps: stored once, and transposed when they are loaded.
            transposed.append(helper.make_node("Transpose", [name], [folded.name], perm=(1, 0)))
            folded.CopyFrom(numpy_helper.from_array(values, name))
        else:
            model.graph.initializer.append(numpy_helper.from_array(values, name))
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    nodes = [*transposed, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _name_dimensions(model: onnx.ModelProto, stage: Stage) -> None:
    """Give the dimensions the names that the stage uses, in expressions of outputs too."""
    names = {}
    for value in model.graph.input:
        for axis, name in stage.dynamic.get(value.name, {}).items():
            dimension = value.type.tensor_type.shape.dim[axis]
            names[dimension.dim_param] = name
            dimension.dim_param = name
    for value in model.graph.output:
        given = stage.dynamic.get(value.name, {})
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            formula = dimension.dim_param
            if axis in given:
                dimension.dim_param = given[axis]
            elif formula:
                dimension.dim_param = re.sub(r"\w+", lambda one: names.get(one[0], one[0]), formula)


def _drop_traces_of_the_machine(model: onnx.ModelProto) -> None:
    """Delete stack traces and debug names, which contain paths and enlarge the file by half."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]


def _store_halves(model: onnx.ModelProto) -> None:
    """Store large float32 initializers as float16 behind a Cast, which halves the file."""
    # The weights were rounded to float16 before, so the values stay the same, and runtimes fold the
    # Cast when they load the model.
    casts = []
    for initializer in model.graph.initializer:
        name: str = initializer.name
        values: np.ndarray[Any, Any] = numpy_helper.to_array(initializer)
        if values.dtype == np.float32 and values.size >= SMALLEST_HALF_INITIALIZER:
            halves = values.astype(np.float16)
            if np.array_equal(halves.astype(np.float32), values):
                initializer.CopyFrom(numpy_helper.from_array(halves, name + HALF))
                casts.append(helper.make_node("Cast", [name + HALF], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


TOLERANCE = 1e-5
"""Largest difference, as a share of max(1, largest value): float32 sums in another order."""

_PLACES = ("boxes", "geometry", "size")
"""Inputs that are places in an image; random ones would lie outside."""


def expected_outputs(stage: Stage) -> dict[str, Tensor]:
    """Return the outputs of a stage in PyTorch for the inputs that ``check_stage`` uses."""
    return _run(stage, _random_inputs(stage))


def check_stage(
    stage: Stage, model: onnx.ModelProto, expected: Mapping[str, Tensor] | None = None
) -> None:
    """Compare a stage in ONNX Runtime with PyTorch, for random inputs of the examples' sizes.

    If the module has been changed since, ``expected`` is the return value of ``expected_outputs``.

    Raises:
        ModelError: An output differs by more than ``TOLERANCE``.
    """
    for name, error in stage_errors(stage, model, _random_inputs(stage), expected).items():
        if not error <= TOLERANCE:
            raise ModelError(
                f"the exported stage {stage.name!r} differs from PyTorch: its output {name!r} by "
                f"{error:.1e} of the largest value, at most {TOLERANCE:.0e} was expected",
                remedy="try the pinned versions of torch, onnx and onnxruntime",
            )


def stage_errors(
    stage: Stage,
    model: onnx.ModelProto | Path,
    inputs: Mapping[str, Tensor],
    expected: Mapping[str, Tensor] | None = None,
) -> dict[str, float]:
    """Return the largest difference of each output, divided by max(1, largest value in PyTorch).

    The outputs are compared with ``expected``, or by default with those of the stage in PyTorch.

    Raises:
        ModelError: An output has another shape than in PyTorch.
    """
    found = session_function(model)({name: inputs[name].numpy() for name in stage.inputs})
    expected = expected or _run(stage, inputs)
    errors = {}
    for name in stage.outputs:
        reference, one = expected[name].numpy(), found[name]
        if one.shape != reference.shape:
            raise ModelError(
                f"the exported stage {stage.name!r} gives {name!r} as {one.shape}, "
                f"PyTorch as {reference.shape}",
                remedy="try the pinned versions of torch, onnx and onnxruntime",
            )
        errors[name] = relative_error(reference, one)
    return errors


def _random_inputs(stage: Stage) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: example if name in _PLACES else torch.randn(example.shape, generator=generator)
        for name, example in stage.inputs.items()
    }


def _run(stage: Stage, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return stage_call(stage, channels_last=False)([inputs[name] for name in stage.inputs])
