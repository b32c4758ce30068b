# SPDX-License-Identifier: Apache-2.0
"""Biases that compensate the shift of the mean by quantization."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from foveate.export.execution.sessions import session_function
from foveate.export.precision.calibration import Call, observe
from foveate.export.precision.quantize import Quantizer, correct_biases, rounded_values

# Channel 0 of `image` is nearly constant, and weighs much.
NETWORK = """
<ir_version: 9, opset_import: ["" : 18]>
network (float[1, 16, 8, 8] image) => (float[1, 16, 8, 8] vectors)
<float zero = {0.0}, float six = {6.0}>
{
    [first] a = Conv <kernel_shape = [1, 1]> (image, w_first, b_first)
    b = Clip (a, zero, six)
    [second] vectors = Conv <kernel_shape = [1, 1]> (b, w_second)
}
"""


def network() -> onnx.ModelProto:
    chance = np.random.default_rng(0)
    model = onnx.parser.parse_model(NETWORK)
    for name, shape in {"w_first": (16, 16, 1, 1), "w_second": (16, 16, 1, 1)}.items():
        weights = chance.normal(0, 0.2, shape).astype(np.float32)
        weights[:, 0] = 1.0
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    bias = np.zeros(16, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "b_first"))
    return model


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    chance = np.random.default_rng(1)
    images = chance.normal(0, 1, (6, 1, 16, 8, 8)).astype(np.float32)
    # Codes are 6 / 127 apart, so this lies 0.4 of one above a code.
    images[:, :, 0] = 6 / 127 * 30.4 + chance.normal(0, 1e-4, (6, 1, 8, 8))
    images[0, 0, 1, 0, 0] = 6.0
    return [{"image": image} for image in images]


def quantized(model: onnx.ModelProto, calls: list[Call]) -> onnx.ModelProto:
    observed = observe(model, calls, rounded_values(model))
    quantizer = Quantizer(model=model, observed=observed, method="min-max")
    return quantizer.quantized(["first", "second"])


def shifts(exact: onnx.ModelProto, found: onnx.ModelProto, calls: list[Call]) -> np.ndarray:
    """Return the error of the mean of each channel of the result."""
    one, other = session_function(exact), session_function(found)
    lost = np.concatenate([other(call)["vectors"] - one(call)["vectors"] for call in calls])
    means: np.ndarray = lost.mean(axis=(0, 2, 3))
    return means


def test_what_a_nearly_constant_channel_moves_is_taken_back(calls: list[Call]) -> None:
    model = network()
    before = quantized(model, calls)
    after = correct_biases(model, before, calls)
    moved = np.abs(shifts(model, before, calls)).mean()
    assert moved > 0.01
    assert np.abs(shifts(model, after, calls)).mean() < 0.2 * moved


def test_only_biases_change_and_all_layers_are_reported(calls: list[Call]) -> None:
    model = network()
    before, reported = quantized(model, calls), list[tuple[str, int, int]]()
    after = correct_biases(model, before, calls, lambda *done: reported.append(done))
    assert reported == [("Biases", 1, 2), ("Biases", 2, 2)]
    pairs = zip(before.graph.initializer, after.graph.initializer, strict=True)
    changed = {one.name for one, other in pairs if one != other}
    assert changed == {"b_first_corrected", "w_second_bias_corrected"}
    assert before.graph.node == after.graph.node
