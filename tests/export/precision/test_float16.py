# SPDX-License-Identifier: Apache-2.0
"""Stages in float16: the values that stay float32, and engines that can be built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper, shape_inference
from tests.samples.compiling import ARCHS, build_fixed, needs_rtx

from foveate.bundle import Bundle
from foveate.export.execution.fp16_rounding import with_fp16_rounding
from foveate.export.execution.sessions import session_function
from foveate.export.execution.stage_model import inline_functions
from foveate.export.execution.stages import detection_stages
from foveate.export.precision.conversion import quantization_error
from foveate.export.precision.float16 import to_float16
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models import MultiPathNet, build
from foveate.models.checkpoint import round_to_half
from foveate.models.trunk import EFFICIENTNET_LITE


@pytest.fixture(scope="module")
def classify() -> onnx.ModelProto:
    """Return the exported stage, with Foveate's ROI pooling."""
    torch.manual_seed(0)
    network = build("multipathnet-mini", classes=3).eval()
    assert isinstance(network, MultiPathNet)
    round_to_half(network)
    return export_stage(detection_stages(network, EFFICIENTNET_LITE)[1])


@pytest.fixture(scope="module")
def propose() -> onnx.ModelProto:
    return onnx.load(Bundle.open("mini").stage_path("propose"))


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(model).graph
    found = {one.name: one.data_type for one in graph.initializer}
    values = [*graph.value_info, *graph.input, *graph.output]
    return found | {one.name: one.type.tensor_type.elem_type for one in values}


def regions(side: float, number: int = 12) -> np.ndarray:
    """Return boxes with corners near the far corner of an image, at quarters of a pixel."""
    chance = np.random.default_rng(0)
    low = side - 400 + chance.integers(0, 800, (number, 2)) / 4
    return np.concatenate([low, low + chance.integers(120, 600, (number, 2)) / 4], 1).astype(
        np.float32
    )


def call_of(model: onnx.ModelProto, side: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(1)
    call = {}
    for one in model.graph.input:
        if one.name.startswith("map_"):
            channels = one.type.tensor_type.shape.dim[1].dim_value
            cells = side // int(one.name.removeprefix("map_"))
            call[one.name] = chance.normal(0, 1, (1, channels, cells, cells)).astype(np.float32)
    return {**call, "boxes": regions(side)}


def test_pooling_in_float16_gives_the_same_bits_with_its_functions_inlined(
    classify: onnx.ModelProto,
) -> None:
    half = to_float16(classify)
    plain, call = inline_functions(half), call_of(classify, 512)
    assert half.functions
    assert not plain.functions
    expected, found = (session_function(one)(call) for one in (half, plain))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_inputs_and_outputs_stay_float32_and_layers_do_not(propose: onnx.ModelProto) -> None:
    found = to_float16(propose)
    onnx.checker.check_model(found, full_check=True)
    types = types_of(found)
    assert {types[one.name] for one in [*found.graph.input, *found.graph.output]} == {
        TensorProto.FLOAT
    }
    layers = {
        node.name: types[node.output[0]] for node in found.graph.node if node.op_type == "Conv"
    }
    assert [name for name, kind in layers.items() if kind == TensorProto.FLOAT] == [
        "node_conv2d_36"
    ]


def test_regions_normalization_and_heads_stay_float32(classify: onnx.ModelProto) -> None:
    found = to_float16(classify)
    onnx.checker.check_model(found, full_check=True)
    types = types_of(found)
    kinds: dict[str, set[int]] = {}
    for node in found.graph.node:
        kinds.setdefault(node.op_type, set()).add(types[node.output[0]])
        if node.op_type == "RoiMaxPool2d":
            assert types[node.input[1]] == TensorProto.FLOAT
    for op in ("Pow", "ReduceMean", "Sqrt", "Reciprocal", "Softmax"):
        assert kinds[op] == {TensorProto.FLOAT}, op
    assert kinds["RoiMaxPool2d"] == kinds["Conv"] == {TensorProto.FLOAT16}


def test_the_shipped_form_of_pooling_gets_float32_regions_too() -> None:
    found = to_float16(onnx.load(Bundle.open("mini").stage_path("classify")))
    onnx.checker.check_model(found, full_check=True)
    types = types_of(found)
    pools = [node for node in found.graph.node if node.op_type in ("MaxRoiPool", "RoiMaxPool2d")]
    assert pools
    assert {types[node.input[1]] for node in pools} == {TensorProto.FLOAT}


@pytest.mark.slow
def test_boxes_of_an_image_of_3200_pixels_are_read_where_they_are(
    classify: onnx.ModelProto,
) -> None:
    """In float16 a corner beyond 2048 would move by a pixel, so that other cells would be pooled."""
    call = call_of(classify, 3200)
    emulated = session_function(
        with_fp16_rounding(shape_inference.infer_shapes(to_float16(classify)))
    )
    exact = session_function(classify)
    kept = quantization_error([exact(call)], [emulated(call)])
    moved = {**call, "boxes": call["boxes"].astype(np.float16).astype(np.float32)}
    assert kept < 1e-3
    assert quantization_error([exact(call)], [exact(moved)]) > 10 * kept


def test_a_value_that_is_too_large_stays_float32_with_what_reads_it_in_range(
    propose: onnx.ModelProto,
) -> None:
    outputs = {one.name for one in propose.graph.output}  # maps, which keep their type
    sums = [node.output[0] for node in propose.graph.node if node.op_type == "Add"]
    names = [name for name in sums if name not in outputs]
    found = to_float16(propose, names[:1])
    onnx.checker.check_model(found, full_check=True)
    types = types_of(found)
    assert types[names[0]] == TensorProto.FLOAT
    assert types[names[1]] == TensorProto.FLOAT16


def test_weights_of_float16_layers_are_float16(propose: onnx.ModelProto) -> None:
    large = [one for one in to_float16(propose).graph.initializer if np.prod(one.dims) >= 64]
    assert {one.data_type for one in large} == {TensorProto.FLOAT16}


def test_overflow_shows_in_the_rounded_form_and_not_in_a_plain_run() -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 18]>
        network (float[1, 1, 1, 2] image) => (float[1, 1, 1, 2] vectors)
        { a = Conv (image, up)  vectors = Conv (a, down) }
        """
    )
    for name, value in {"up": 1000.0, "down": 0.001}.items():
        model.graph.initializer.append(
            numpy_helper.from_array(np.full((1, 1, 1, 1), value, np.float32), name)
        )
    half = shape_inference.infer_shapes(to_float16(model))
    call = {"image": np.array([2.0, 100.0], np.float32).reshape(1, 1, 1, 2)}
    found = session_function(with_fp16_rounding(half))(call)["vectors"].reshape(-1)
    assert found[0] == pytest.approx(2.0, rel=1e-3)
    assert not np.isfinite(found[1])


LENGTHS = {"height": 320, "width": 320, "windows": 8, "boxes": 8}
LENGTHS |= {
    f"{side}_{stride}": 320 // stride for side in ("height", "width") for stride in (8, 16, 32)
}


@needs_rtx
@pytest.mark.parametrize("stage", ["propose", "refine", "features", "classify"])
def test_a_float16_stage_of_mini_builds_strongly_typed(stage: str, tmp_path: Path) -> None:
    file = tmp_path / f"{stage}.onnx"
    onnx.save(to_float16(onnx.load(Bundle.open("mini").stage_path(stage))), file)
    assert build_fixed(file, stage, LENGTHS, *ARCHS) > file.stat().st_size / 2


def test_constants_become_halves_where_they_are_floats() -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 18]>
        network (float[2, 6] image) => (float[n, 3] vectors)
        {
            whole = Constant <value_ints = [-1, 3]> ()
            tensor = Constant <value = float[1] {2.5}> ()
            number = Constant <value_float = 0.75> ()
            flat = Reshape (image, whole)
            scaled = Mul (flat, tensor)
            vectors = Add (scaled, number)
        }
        """
    )
    call = {"image": np.arange(12, dtype=np.float32).reshape(2, 6)}
    found = session_function(to_float16(model))(call)["vectors"]
    np.testing.assert_array_equal(found, call["image"].reshape(4, 3) * 2.5 + 0.75)
