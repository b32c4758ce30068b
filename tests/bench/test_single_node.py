# SPDX-License-Identifier: Apache-2.0
"""ONNX files that are written without the package onnx, read by it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from foveate.bench.probes import PROBES, Probe
from foveate.bench.single_node import single_node


def test_a_file_has_the_node_its_constants_and_its_attributes() -> None:
    weights = np.arange(2 * 3 * 3 * 3, dtype=np.float32).reshape(2, 3, 3, 3)
    content = single_node(
        "Conv",
        shape=(1, 3, 300, 5),
        result=(1, 2, 300, 5),
        dtype="float32",
        constants={"w": weights},
        attributes={"group": 1, "pads": [1, 1, 1, 1]},
    )
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    (read,) = model.graph.node
    assert (read.op_type, list(read.input), list(read.output)) == ("Conv", ["x", "w"], ["y"])
    attributes = {one.name: helper.get_attribute_value(one) for one in read.attribute}
    assert attributes == {"group": 1, "pads": [1, 1, 1, 1]}
    assert np.array_equal(numpy_helper.to_array(model.graph.initializer[0]), weights)
    sides = [one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == [1, 3, 300, 5]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_every_probe_is_a_valid_model(probe: Probe, precision: str) -> None:
    """Shape inference fails if the shape of the result is not that of the layer."""
    model = onnx.load_from_string(probe.model(precision))
    onnx.checker.check_model(model, full_check=True)
