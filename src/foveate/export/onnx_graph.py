# SPDX-License-Identifier: Apache-2.0
"""One stage to one ONNX model: trace, name the dimensions, attach function bodies, store halves."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from foveate.export.stages import Stage

OPSET = 18
"""The last opset whose Resize and MaxRoiPool every runtime that we serve has kernels for."""

DOMAIN = "foveate"
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
    if any(node.domain == DOMAIN for node in model.graph.node):
        _attach_bilinear_upsample(model)
    _store_halves(model)
    onnx.checker.check_model(model)
    return model


def _trace(stage: Stage) -> onnx.ModelProto:
    symbols = {
        dimension: torch.export.Dim.DYNAMIC
        for axes in stage.dynamic.values()
        for dimension in axes.values()
    }
    shapes = tuple(
        {axis: symbols[name] for axis, name in stage.dynamic.get(key, {}).items()}
        for key in stage.inputs
    )
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns of its own deprecations; none concerns the model.
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx._internal.exporter._registration")
        logger.disabled = True
        program = torch.onnx.export(
            stage.module.eval(),
            tuple(stage.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(stage.inputs),
            output_names=list(stage.outputs),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _name_dimensions(model: onnx.ModelProto, stage: Stage) -> None:
    """Call the dimensions what the stage calls them, in the outputs' expressions too."""
    names = {}
    for value in model.graph.input:
        for axis, name in stage.dynamic.get(value.name, {}).items():
            dimension = value.type.tensor_type.shape.dim[axis]
            names[dimension.dim_param] = name
            dimension.dim_param = name
    for value in model.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
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


def _attach_bilinear_upsample(model: onnx.ModelProto) -> None:
    """Give `foveate::BilinearUpsample2d` a body of standard operators.

    A runtime that has a plugin of this name takes the plugin, any other the body.
    """
    body = [
        helper.make_node("Constant", [], ["ones"], value_floats=[1.0, 1.0]),
        _attribute_constant("scale", "scale_int"),
        helper.make_node("Cast", ["scale_int"], ["scale_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ones", "scale_float"], ["spatial"]),
        helper.make_node("Concat", ["ones", "spatial"], ["scales"], axis=0),
        helper.make_node(
            "Resize",
            ["x", "", "scales"],
            ["y"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
    ]
    function = helper.make_function(
        DOMAIN,
        "BilinearUpsample2d",
        ["x"],
        ["y"],
        body,
        [helper.make_opsetid("", OPSET)],
        attributes=["scale", "mode", "plugin_namespace", "plugin_version"],
    )
    model.functions.append(function)
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _attribute_constant(attribute: str, output: str) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], [output])
    reference = onnx.AttributeProto(name="value_int", ref_attr_name=attribute)
    reference.type = onnx.AttributeProto.INT
    node.attribute.append(reference)
    return node


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
