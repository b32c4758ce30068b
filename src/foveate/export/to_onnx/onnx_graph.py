# SPDX-License-Identifier: Apache-2.0
"""One stage to one ONNX model: trace, name the dimensions, attach function bodies, store halves."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from foveate.errors import ModelError
from foveate.export.to_onnx.operators import attach_bodies, translation_table
from foveate.export.to_onnx.stages import Stage

OPSET = 18
"""The last opset whose Resize every runtime that we serve has kernels for."""

SMALLEST_HALF_INITIALISER = 64
"""Elements below which an initialiser stays float32: the Cast would cost more than it saves."""


def export_stage(stage: Stage) -> onnx.ModelProto:
    """Trace a stage.

    Args:
        stage: its module in evaluation mode, weights already rounded to float16.

    Returns:
        A checked model; weights are float16 initialisers behind a Cast to float32.
    """
    model = _trace(stage)
    _name_dimensions(model, stage)
    _drop_traces_of_the_machine(model)
    attach_bodies(model, stage.long_side)
    _store_halves(model)
    onnx.checker.check_model(model)
    return model


def _trace(stage: Stage) -> onnx.ModelProto:
    symbols = {
        dimension: torch.export.Dim.DYNAMIC
        for axes in stage.dynamic.values()
        for dimension in axes.values()
    }
    shapes: tuple[Any, ...] = tuple(
        {axis: symbols[name] for axis, name in stage.dynamic.get(key, {}).items()}
        for key in stage.inputs
    )
    takes = inspect.signature(stage.module.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in takes):
        shapes = (shapes,)
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns of its own deprecations; none concerns the model.
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx._internal.exporter._registration")
        logger.disabled = True
        try:
            # Traced here: the exporter would go on silently to other ways where this one fails.
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
        except Exception as error:  # PyTorch's own have no common class
            raise ModelError(
                f"the stage {stage.name!r} cannot be exported: {str(error).strip().splitlines()[0]}",
                remedy="try the pinned versions of torch, onnx and onnxscript",
            ) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _keep_names(model, _used_tensors(traced))
    return model


def _used_tensors(traced: torch.export.ExportedProgram) -> dict[str, Tensor]:
    """Parameters and buffers that the stage reads, by name."""
    signature = traced.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    read = [node.name for node in traced.graph.nodes if node.op == "placeholder" and node.users]
    tensors = {**traced.state_dict, **traced.constants}
    return {names[one]: tensors[names[one]] for one in read if one in names}


def _keep_names(model: onnx.ModelProto, tensors: dict[str, Tensor]) -> None:
    """Call a parameter that the exporter reshaped by its own name again.

    A bundle is read back by these names. What it left out as doing nothing, or as equal to another,
    stands in the file all the same, and nothing reads it there.
    """
    known = {one.name: one for one in model.graph.initializer}
    unnamed = {
        numpy_helper.to_array(one).tobytes(): one
        for one in known.values()
        if one.name not in tensors and one.data_type == TensorProto.FLOAT
    }
    renamed = {}
    for name in sorted(tensors.keys() - known.keys()):
        values: np.ndarray[Any, Any] = tensors[name].detach().numpy()
        folded = unnamed.pop(values.tobytes(), None)
        if folded is None:
            model.graph.initializer.append(numpy_helper.from_array(values, name))
        else:
            renamed[folded.name] = name
            folded.name = name
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)


def _name_dimensions(model: onnx.ModelProto, stage: Stage) -> None:
    """Call the dimensions what the stage calls them, in the outputs' expressions too."""
    names = {}
    for value in model.graph.input:
        for axis, name in stage.dynamic.get(value.name, {}).items():
            dimension = value.type.tensor_type.shape.dim[axis]
            names[dimension.dim_param] = name
            dimension.dim_param = name
    for value in model.graph.output:
        given = stage.dynamic.get(value.name, {})
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if axis in given:
                dimension.dim_param = given[axis]
            elif dimension.dim_param:
                dimension.dim_param = re.sub(
                    r"\w+", lambda symbol: names.get(symbol[0], symbol[0]), dimension.dim_param
                )


def _drop_traces_of_the_machine(model: onnx.ModelProto) -> None:
    """Delete stack traces and debug names: they hold paths and grow the file by half."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]


def _store_halves(model: onnx.ModelProto) -> None:
    """Store large float32 initialisers as float16 behind a Cast: half the file, the same values.

    The weights were rounded to float16 before the trace, so nothing changes; runtimes fold the
    Cast when they load the model.
    """
    casts = []
    for initialiser in model.graph.initializer:
        values: np.ndarray[Any, Any] = numpy_helper.to_array(initialiser)
        if values.dtype != np.float32 or values.size < SMALLEST_HALF_INITIALISER:
            continue
        halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue
        name = initialiser.name
        initialiser.CopyFrom(numpy_helper.from_array(halves, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
