# SPDX-License-Identifier: Apache-2.0
"""The function body of RoiMaxPool2d in ONNX Runtime equals the reference and MaxRoiPool bit by bit."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from foveate.arrays import Float32Array
from foveate.export.execution.stage_model import DOMAIN
from foveate.export.to_onnx.operators import ROUNDINGS, attach_bodies
from foveate.export.to_onnx.roi_max_pool_body import roi_max_pool_body
from foveate.kernels.plugins.roi_max_pool.reference import roi_max_pool as reference

RADICES = (2, 4)
PARTS = (1, 3)
"""Number of parts; three parts of five channels differ in size."""
PLUGIN = {"plugin_namespace": "foveate", "plugin_version": "1"}


def session(
    operator: str, dtype: int, functions: list[onnx.FunctionProto], **attributes: Any
) -> onnxruntime.InferenceSession:
    domain = DOMAIN if functions else ""
    node = helper.make_node(operator, ["features", "rois"], ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info("features", dtype, ["n", "c", "h", "w"]),
            helper.make_tensor_value_info("rois", TensorProto.FLOAT, ["r", 5]),
        ],
        [helper.make_tensor_value_info("y", dtype, ["r", "c", "rows", "columns"])],
    )
    versions = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=versions, functions=functions, ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@cache
def body(
    shape: tuple[int, int],
    scale: float,
    rounding: str,
    radix: int = 2,
    dtype: int = TensorProto.FLOAT,
    largest: int = 40,
    parts: int = 1,
) -> onnxruntime.InferenceSession:
    return session(
        "RoiMaxPool2d",
        dtype,
        [roi_max_pool_body(largest, shape, rounding, radix=radix, parts=parts)],
        pooled_shape=list(shape),
        spatial_scale=scale,
        rounding=ROUNDINGS.index(rounding),
        **PLUGIN,
    )


def run(one: onnxruntime.InferenceSession, features: Any, rois: Float32Array) -> Float32Array:
    (pooled,) = one.run(None, {"features": features, "rois": rois})
    return np.asarray(pooled)


def random_rois(
    rng: np.random.Generator, number: int, maps: int, limit: float, scale: float
) -> Float32Array:
    """Return regions inside, across the border, far outside, inverted, on halves, and of no map."""
    boxes = rng.uniform(-limit, 2 * limit, (number, 4))
    third = number // 3
    boxes[:third, 2:] = boxes[:third, :2] + rng.uniform(-1, limit, (third, 2))
    boxes[third : third + 6] = np.round(boxes[third : third + 6] * scale * 2) / (2 * scale)
    boxes[-1] = [-np.inf, 0, np.inf, limit]
    boxes[-2] *= 1e30
    boxes[-3, 1] = np.nan
    batch = rng.integers(0, maps, number).astype(np.float32)
    batch[-4:-2] = [-1, maps]
    return np.column_stack([batch, boxes]).astype(np.float32)


def compare(
    seed: int, rounding: str, radix: int, shape: tuple[int, int], scale: float, parts: int = 1
) -> None:
    rng = np.random.default_rng(seed)
    maps, height, width = rng.integers(1, [3, 41, 41])
    features = rng.normal(size=(maps, 5, height, width)).astype(np.float32)
    rois = random_rois(rng, 25, int(maps), max(height, width) / scale, scale)
    found = run(body(shape, scale, rounding, radix, parts=parts), features, rois)
    np.testing.assert_array_equal(found, reference(features, rois, shape, scale, rounding))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    rounding=st.sampled_from(ROUNDINGS),
    radix=st.sampled_from(RADICES),
    shape=st.sampled_from([(7, 7), (14, 14), (1, 1), (3, 5)]),
    scale=st.sampled_from([1.0, 1 / 16, 0.7]),
    parts=st.sampled_from(PARTS),
)
@example(seed=0, rounding="caffe", radix=2, shape=(7, 7), scale=1 / 16, parts=3)
@example(seed=1, rounding="v2", radix=4, shape=(7, 7), scale=1 / 16, parts=1)
def test_the_body_equals_the_reference(
    seed: int, rounding: str, radix: int, shape: tuple[int, int], scale: float, parts: int
) -> None:
    compare(seed, rounding, radix, shape, scale, parts)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("radix", RADICES)
def test_the_body_equals_the_reference_on_ten_thousand_regions(rounding: str, radix: int) -> None:
    for seed in range(400):
        compare(seed, rounding, radix, (7, 7), 1 / 16, parts=PARTS[seed % 2])


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_corners_next_to_halves_round_as_in_the_reference(rounding: str) -> None:
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 6.5, 7.5, 2**22 + 0.5], np.float32)
    away = np.float32(np.inf)
    places = np.concatenate([halves, np.nextafter(halves, away), np.nextafter(halves, -away)])
    boxes = np.array([[x, y, x + 4, y + 5] for x in places for y in places], np.float32)
    rois = np.pad(boxes, [(0, 0), (1, 0)])
    features = np.random.default_rng(0).normal(size=(1, 5, 9, 11)).astype(np.float32)
    found = run(body((3, 5), 1.0, rounding), features, rois)
    np.testing.assert_array_equal(found, reference(features, rois, (3, 5), 1.0, rounding))


def test_nodes_of_one_model_get_the_body_of_their_own_attributes() -> None:
    kinds = [((7, 7), "caffe"), ((7, 7), "v2"), ((2, 3), "v2")]
    nodes = [
        helper.make_node(
            "RoiMaxPool2d",
            ["features", "rois"],
            [f"y{number}"],
            domain=DOMAIN,
            pooled_shape=shape,
            spatial_scale=0.25,
            rounding=ROUNDINGS.index(rounding),
            **PLUGIN,
        )
        for number, (shape, rounding) in enumerate(kinds)
    ]
    inputs: dict[str, list[int | str]] = {"features": [1, 5, "h", "w"], "rois": ["r", 5]}
    graph = helper.make_graph(
        nodes,
        "three",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, None) for n in range(3)],
    )
    versions = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=10)
    attach_bodies(model, long_side=160)
    one = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 5, 30, 40)).astype(np.float32)
    rois = random_rois(rng, 25, 1, 160, 0.25)
    found = one.run(None, {"features": features, "rois": rois})
    for pooled, (shape, rounding) in zip(found, kinds, strict=True):
        expected = reference(features, rois, shape, 0.25, rounding)
        np.testing.assert_array_equal(pooled, expected)


def test_a_body_has_few_nodes_since_each_of_them_makes_a_session_slower() -> None:
    nodes = roi_max_pool_body(128, (7, 7), "caffe").node
    assert sum(node.op_type != "Constant" for node in nodes) <= 90


def test_the_body_equals_max_roi_pool() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 8, 38, 40)).astype(np.float32)
    boxes = np.sort(rng.uniform(0, 600, (1000, 2, 2)), axis=1).reshape(1000, 4)
    rois = np.column_stack([rng.integers(0, 2, 1000), boxes]).astype(np.float32)
    pool = session("MaxRoiPool", TensorProto.FLOAT, [], pooled_shape=[7, 7], spatial_scale=1 / 16)
    found = run(body((7, 7), 1 / 16, "caffe"), features, rois)
    np.testing.assert_array_equal(found, run(pool, features, rois))


@pytest.mark.parametrize("radix", RADICES)
def test_no_regions_give_no_rows(radix: int) -> None:
    features = np.zeros((1, 3, 5, 6), np.float32)
    found = run(body((7, 7), 1.0, "v2", radix), features, np.zeros((0, 5), np.float32))
    assert found.shape == (0, 3, 7, 7)


@pytest.mark.parametrize("radix", RADICES)
def test_a_map_larger_than_the_table_serves_is_an_error(radix: int) -> None:
    features = np.zeros((1, 1, 200, 3), np.float32)
    whole = np.array([[0, 0, 0, 2, 199]], np.float32)
    with pytest.raises(Exception, match="out of data bounds"):
        run(body((1, 1), 1.0, "caffe", radix), features, whole)


def test_regions_of_float16_maps_stay_float32() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 2, 4, 40)).astype(np.float16)
    # At 1/128, 4001 and 4159 are cells 31 and 32; float16 would make both of them others.
    rois = np.array([[0, 3903.9, 0, 4159.9, 300]], np.float32)
    found = run(body((2, 2), 1 / 128, "caffe", 2, TensorProto.FLOAT16), features, rois)
    assert found.dtype == np.float16
    expected = reference(features.astype(np.float32), rois, (2, 2), 1 / 128, "caffe")
    np.testing.assert_array_equal(found.astype(np.float32), expected)
    rounded = rois.astype(np.float16).astype(np.float32)
    assert not np.array_equal(
        expected, reference(features.astype(np.float32), rounded, (2, 2), 1 / 128, "caffe")
    )
