# SPDX-License-Identifier: Apache-2.0
"""The place where a network changes from float32 to eight bits, and the values before it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from foveate.export.execution.sessions import session_function
from foveate.export.precision.calibration import Call, observe
from foveate.export.precision.layers import find_layers
from foveate.export.precision.quantize import Quantizer, rounded_values

BEGINNING = """
<ir_version: 9, opset_import: ["" : 18]>
network (float[1, 3, 32, 32] image) => (
    float[1, 4, 16, 16] skip, float[1, 16, 16, 16] vectors,
    float[1, 16, 16, 16] same, float[1, 24, 8, 8] smaller
)
<float zero = {0.0}, float six = {6.0}>
{
    [stem] a = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (image, w_stem)
    clipped = Clip (a, zero, six)
    [depthwise] b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 32> (clipped, w_depthwise)
    [project] c = Conv <kernel_shape = [1, 1]> (b, w_project)
    [thin] skip = Conv <kernel_shape = [1, 1]> (c, w_thin)
    [dense] same = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c, w_dense)
    [shrink] smaller = Conv <kernel_shape = [1, 1], strides = [2, 2]> (c, w_shrink)
    [expand] d = Conv <kernel_shape = [1, 1]> (c, w_expand, b_expand)
    wide = Clip (d, zero, six)
    [last] vectors = Conv <kernel_shape = [1, 1]> (wide, w_last)
}
"""
WEIGHTS = {
    "w_stem": (32, 3, 3, 3),
    "w_depthwise": (32, 1, 3, 3),
    "w_project": (16, 32, 1, 1),
    "w_thin": (4, 16, 1, 1),
    "w_dense": (16, 16, 3, 3),
    "w_shrink": (24, 16, 1, 1),
    "w_expand": (96, 16, 1, 1),
    "b_expand": (96,),
    "w_last": (16, 96, 1, 1),
}


def beginning(*, dead: float = 1.0) -> onnx.ModelProto:
    """Return the first layers of a network; ``dead`` scales the weights of output 7 of ``expand``."""
    chance = np.random.default_rng(0)
    model = onnx.parser.parse_model(BEGINNING)
    for name, shape in WEIGHTS.items():
        values = chance.normal(0, 0.3, shape).astype(np.float32)
        if name == "w_expand":
            values[7] *= dead
        if name == "b_expand":
            values[7] = -2.5
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    chance = np.random.default_rng(1)
    return [{"image": chance.normal(0, 1, (1, 3, 32, 32)).astype(np.float32)} for _ in range(3)]


def quantized(model: onnx.ModelProto, calls: list[Call], names: list[str]) -> onnx.ModelProto:
    observed = observe(model, calls, rounded_values(model))
    return Quantizer(model=model, observed=observed, method="min-max").quantized(names)


def test_eight_bits_begin_where_a_network_widens() -> None:
    layers = find_layers(ir.serde.deserialize_model(beginning()).graph)
    refused = {layer.name: layer.refused for layer in layers}
    cheap = "takes fewer than 32 multiplications per value of a float32 map"
    few = "has 8 channels or fewer"
    assert refused == {
        "stem": few,
        "depthwise": cheap,
        "project": cheap,
        "thin": few,
        "dense": None,
        "shrink": cheap,
        "expand": None,
        "last": None,
    }


def test_float32_layers_read_what_float32_layers_give(calls: list[Call]) -> None:
    model = beginning()
    found = quantized(model, calls, ["expand", "last"])
    for call in calls:
        expected, own = session_function(model)(call), session_function(found)(call)
        np.testing.assert_array_equal(own["skip"], expected["skip"])
        assert 0 < np.abs(own["vectors"] - expected["vectors"]).max() < 0.3


@pytest.mark.parametrize("dead", [1e-5, 5e-6, 3e-6, 2e-6, 1e-6, 1e-9, 0.0])
def test_a_dead_output_stays_dead_in_eight_bits(calls: list[Call], dead: float) -> None:
    # In units of its own weights its bias would be beyond int32, and wrap around for some of these.
    model = beginning(dead=dead)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("wide"))
    found = quantized(model, calls, ["expand", "last"])
    for call in calls:
        assert session_function(model)(call)["wide"][:, 7].max() == 0
        assert session_function(found)(call)["wide"][:, 7].max() == 0
