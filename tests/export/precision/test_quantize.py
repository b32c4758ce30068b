# SPDX-License-Identifier: Apache-2.0
"""Placement of the codes, their fusion by runtimes, and the layers that the search leaves out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from foveate.export.execution.sessions import session_function
from foveate.export.execution.stage_model import signed_codes
from foveate.export.precision.calibration import Call, observe
from foveate.export.precision.conversion import choose_layers, quantization_error
from foveate.export.precision.layers import find_layers, fold_affine
from foveate.export.precision.quantize import Quantizer, rounded_values

NAMES = ["first", "middle", "third", "fourth"]
NETWORK = """
<ir_version: 9, opset_import: ["" : 18]>
network (float[1, 16, height, width] image) => (float[1, 16, rows, columns] vectors, float[1, 16, rows, columns] scores)
<float zero = {0.0}, float six = {6.0}>
{
    [first] a = Conv <kernel_shape = [1, 1]> (image, w_first, b_first)
    clipped = Clip (a, zero, six)
    padded = Pad <mode = "edge"> (clipped, pads)
    [middle] b = Conv <kernel_shape = [3, 3]> (padded, w_middle)
    [third] c = Conv <kernel_shape = [1, 1]> (b, w_third)
    sum = Add (b, c)
    vectors = Relu (sum)
    [fourth] d = Conv <kernel_shape = [1, 1]> (vectors, w_fourth)
    [last] scores = Conv <kernel_shape = [1, 1]> (d, w_last)
}
"""


def network(*, outlier: float = 1.0) -> onnx.ModelProto:
    """Return five layers; an outlier makes all other weights of ``middle`` vanish in eight bits."""
    chance = np.random.default_rng(0)
    model = onnx.parser.parse_model(NETWORK)
    shapes = dict.fromkeys(("w_first", "w_third", "w_fourth", "w_last"), (16, 16, 1, 1))
    for name, shape in {**shapes, "w_middle": (16, 16, 3, 3), "b_first": (16,)}.items():
        values = chance.normal(0, 0.3, shape).astype(np.float32)
        if name == "w_middle":
            # The channel that they multiply is always zero, so the result hardly changes.
            values[:, 0] = outlier
        if name in ("w_first", "b_first"):
            values[0] = 0.0
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    model.graph.initializer.append(numpy_helper.from_array(pads, "pads"))
    return model


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    chance = np.random.default_rng(1)
    return [{"image": chance.normal(0, 2, (1, 16, 12, 9)).astype(np.float32)} for _ in range(4)]


def quantizer(model: onnx.ModelProto, calls: list[Call]) -> Quantizer:
    observed = observe(model, calls, rounded_values(model))
    return Quantizer(model=model, observed=observed, method="min-max")


def outputs(model: onnx.ModelProto, calls: list[Call]) -> list[dict[str, np.ndarray]]:
    function = session_function(model)
    return [dict(function(call)) for call in calls]


def test_a_quantized_network_computes_nearly_the_same(calls: list[Call]) -> None:
    model = network()
    found = quantizer(model, calls).quantized(NAMES)
    onnx.checker.check_model(found, full_check=True)
    assert 0 < quantization_error(outputs(model, calls), outputs(found, calls)) < 1e-3


def test_weights_are_stored_as_int8_alone(calls: list[Call]) -> None:
    found = quantizer(network(), calls).quantized(NAMES)
    kinds = {one.name: one.data_type for one in found.graph.initializer}
    assert kinds["w_middle_codes"] == onnx.TensorProto.INT8
    assert "w_middle" not in kinds
    assert kinds["w_last"] == onnx.TensorProto.FLOAT


def test_onnxruntime_fuses_every_chosen_layer_with_its_activation(
    calls: list[Call], tmp_path: Path
) -> None:
    found = quantizer(network(), calls).quantized(NAMES)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        found.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert kinds["QLinearConv"] == 4
    assert kinds["QLinearAdd"] == 1
    assert not kinds["Clip"] + kinds["Relu"]


def test_a_padded_value_has_the_codes_of_what_is_padded(calls: list[Call]) -> None:
    found = quantizer(network(), calls).quantized(["middle"])
    stored = {one.name: numpy_helper.to_array(one) for one in found.graph.initializer}
    assert stored["padded_scale"] == stored["clipped_scale"]
    assert stored["clipped_scale"] == pytest.approx(6 / 255, rel=0.05)


@pytest.mark.parametrize(
    "copy",
    [
        "Identity (a)",
        "MaxPool <kernel_shape = [2, 2]> (a)",
        "Reshape (a, shape)",
        "Slice (a, starts, ends)",
        "Transpose <perm = [0, 1, 3, 2]> (a)",
    ],
)
def test_a_copied_value_has_the_codes_of_its_origin(copy: str) -> None:
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 9, opset_import: ["" : 18]>
        network (float[1, 16, 4, 6] image) => (float[1, 16, rows, columns] vectors)
        <int64[4] shape = {{1, 16, 2, 12}}, int64[4] starts = {{0, 0, 1, 1}},
         int64[4] ends = {{1, 16, 4, 6}}>
        {{
            [first] a = Conv (image, w)
            b = {copy}
            [second] vectors = Conv (b, w)
        }}
        """
    )
    weights = np.eye(16, dtype=np.float32).reshape(16, 16, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    image = np.random.default_rng(0).normal(0, 1, (1, 16, 4, 6)).astype(np.float32)
    image[0, 0, 0, 0] = -9.0  # which pooling and slicing leave out; codes lie symmetrically to 0
    found = quantizer(model, [{"image": image}]).quantized(["second"])
    stored = {one.name: numpy_helper.to_array(one) for one in found.graph.initializer}
    assert stored["a_scale"] == pytest.approx(9 / 127, rel=0.05)
    assert stored["b_scale"] == stored["a_scale"]
    assert stored["b_zero"] == stored["a_zero"]


def test_signed_codes_are_what_tensorrt_takes_and_nearly_the_same(calls: list[Call]) -> None:
    model = network()
    found = quantizer(model, calls).quantized(NAMES)
    signed = onnx.ModelProto()
    signed.CopyFrom(found)
    signed_codes(signed)
    points = {node.input[2] for node in signed.graph.node if node.op_type == "QuantizeLinear"}
    assert len(points) == 7
    stored = {one.name: one for one in signed.graph.initializer}
    assert {stored[name].data_type for name in points} == {onnx.TensorProto.INT8}
    assert not any(numpy_helper.to_array(stored[name]) for name in points)
    assert quantization_error(outputs(model, calls), outputs(signed, calls)) < 2e-3


def corrected(weights: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the new bias of a layer, and the rounding errors of its weights (O, I)."""
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 9, opset_import: ["" : 18]>
        network (float[1, 2, 1, 3] image) => (float[1, 4, 1, 2] vectors)
        {{ [layer] vectors = Conv <group = {groups}> (image, w, b) }}
        """
    )
    for name, values in (("w", weights), ("b", np.array([0.5, -0.25, 0.125, 1.0]))):
        stored = numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(stored)
    calls = [{"image": np.array([[[[0.5, 1.5, 1.0]], [[8.0, 0.0, 7.0]]]], np.float32)}]
    found = quantizer(model, calls).quantized(["layer"])
    kept = {one.name: numpy_helper.to_array(one) for one in found.graph.initializer}
    scales = kept["w_scales"].reshape(-1, 1, 1, 1).astype(np.float64)
    return kept["b_corrected"], (kept["w_codes"] * scales - weights).sum(axis=(2, 3))


def test_a_bias_is_corrected_by_what_rounding_loses_in_the_mean() -> None:
    rows = [[1.0, -0.305], [-0.4, 0.75], [0.3, -1.0], [0.111, 0.9]]
    bias, lost = corrected(np.array(rows).reshape(4, 2, 1, 1), 1)
    shift = lost @ [1.0, 5.0]  # the means of the two channels that are read
    assert np.abs(shift).min() > 1e-4
    assert bias == pytest.approx(np.array([0.5, -0.25, 0.125, 1.0]) - shift, abs=1e-6)


def test_a_bias_of_groups_is_corrected_by_the_channels_that_its_group_reads() -> None:
    rows = [[1.0, -0.305], [-0.4, 0.75], [0.3, -1.0], [0.111, 0.9]]
    bias, lost = corrected(np.array(rows).reshape(4, 1, 1, 2), 2)
    shift = lost[:, 0] * [1.0, 1.0, 5.0, 5.0]
    assert np.abs(shift).min() > 1e-4
    assert bias == pytest.approx(np.array([0.5, -0.25, 0.125, 1.0]) - shift, abs=1e-6)


def test_the_last_layer_of_scores_is_never_int8() -> None:
    layers = find_layers(ir.serde.deserialize_model(network()).graph)
    refused = {layer.name: layer.refused for layer in layers}
    assert refused == {**dict.fromkeys(NAMES), "last": "gives scores"}


def test_layers_of_few_channels_are_never_int8() -> None:
    model = network()
    for one in model.graph.initializer:
        if one.name == "w_last":
            one.CopyFrom(numpy_helper.from_array(np.ones((8, 16, 1, 1), np.float32), "w_last"))
    layers = {one.name: one for one in find_layers(ir.serde.deserialize_model(model).graph)}
    assert layers["last"].refused == "has 8 channels or fewer"


def test_a_product_of_two_computed_values_is_no_layer_and_hides_none() -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 18]>
        network (float[1, 16, 4, 4] image) => (float[1, 16, 4, 4] vectors)
        {
            [product] a = MatMul (image, image)
            [layer] vectors = Conv (a, w)
        }
        """
    )
    weights = np.ones((16, 16, 1, 1), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    found = find_layers(ir.serde.deserialize_model(model).graph)
    assert [layer.name for layer in found] == ["layer"]


def test_a_search_keeps_all_layers_that_do_no_harm(calls: list[Call]) -> None:
    choice = choose_layers(quantizer(network(), calls), NAMES, calls, most=0.01)
    assert choice.layers == tuple(NAMES)
    assert choice.left_out == ()
    assert set(choice.alone) == set(NAMES)


def test_a_search_leaves_out_the_layer_that_was_planted_as_bad(calls: list[Call]) -> None:
    choice = choose_layers(quantizer(network(outlier=200.0), calls), NAMES, calls, most=0.01)
    assert choice.left_out == ("middle",)
    assert choice.layers == ("first", "third", "fourth")
    assert choice.quantization_error <= 0.01 < choice.alone["middle"]


def test_a_search_reports_its_progress_and_accepts_the_allowed_error(calls: list[Call]) -> None:
    reported = list[tuple[str, int, int]]()
    candidates = quantizer(network(outlier=200.0), calls)
    whole = choose_layers(candidates, NAMES, calls, 1e9, lambda *done: reported.append(done))
    assert reported == [("Layers", number, 4) for number in (1, 2, 3, 4)]
    assert whole.quantization_error > max(
        whole.alone["first"], whole.alone["third"], whole.alone["fourth"]
    )
    again = choose_layers(candidates, NAMES, calls, whole.quantization_error)
    assert again.layers == tuple(NAMES)


def test_affine_maps_behind_a_convolution_become_part_of_it(calls: list[Call]) -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 18]>
        network (float[1, 16, height, width] image) => (float[1, 16, rows, columns] vectors)
        {
            a = Conv (image, w)
            b = Mul (a, scale)
            c = Add (b, shift)
            vectors = Relu (c)
        }
        """
    )
    chance = np.random.default_rng(2)
    for name, shape in {"w": (16, 16, 1, 1), "scale": (16, 1, 1), "shift": (16, 1, 1)}.items():
        values = chance.normal(0, 1, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    folded = fold_affine(model)
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Relu"]
    for one, other in zip(outputs(model, calls), outputs(folded, calls), strict=True):
        np.testing.assert_allclose(one["vectors"], other["vectors"], atol=1e-4)


def test_the_quantization_error_is_the_squared_error_over_the_variance_of_the_worst_output() -> (
    None
):
    expected = [{"a": np.array([0.0, 2.0]), "b": np.array([0.0, 20.0])}]
    found = [{"a": np.array([0.5, 2.0]), "b": np.array([1.0, 20.0])}]
    assert quantization_error(expected, found) == pytest.approx(0.25 / 2)  # of b it is 1 / 200


def test_the_quantization_error_of_values_that_are_not_finite_is_infinite() -> None:
    expected = [{"a": np.array([0.0, 2.0])}]
    assert quantization_error(expected, [{"a": np.array([0.0, np.nan])}]) == float("inf")


def test_a_value_with_a_row_for_each_box_has_one_mean() -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 18]>
        boxes (float[1, n, 2] x) => (float[1, n, 2] y) { y = Neg (x) }
        """
    )
    calls: list[Call] = [
        {"x": np.full((1, 3, 2), 1, np.float32)},
        {"x": np.full((1, 5, 2), 3, np.float32)},
    ]
    observed = observe(model, calls, ["x", "y"])
    np.testing.assert_allclose(observed["x"].means, [(3 * 1 + 5 * 3) / 8])
    np.testing.assert_allclose(observed["y"].means, [-(3 * 1 + 5 * 3) / 8])


def test_a_value_with_channels_has_the_mean_of_each(calls: list[Call]) -> None:
    name = next(iter(calls[0]))
    expected = np.concatenate([call[name] for call in calls]).mean(axis=(0, 2, 3))
    observed = observe(network(), calls, [name])
    np.testing.assert_allclose(observed[name].means, expected, rtol=1e-5, atol=1e-6)
