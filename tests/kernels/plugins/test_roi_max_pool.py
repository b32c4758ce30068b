# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from foveate.errors import OptionError
from foveate.kernels.plugins.roi_max_pool.reference import roi_max_pool


def onnx_max_roi_pool(
    features: np.ndarray, rois: np.ndarray, size: int, scale: float
) -> np.ndarray:
    node = helper.make_node(
        "MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=[size, size], spatial_scale=scale
    )
    graph = helper.make_graph(
        [node],
        "pool",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, features.shape),
            helper.make_tensor_value_info("rois", TensorProto.FLOAT, rois.shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pooled: np.ndarray = session.run(None, {"x": features, "rois": rois})[0]
    return pooled


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("scale", [1.0, 0.125, 1 / 32])
def test_caffe_rounding_is_bit_equal_to_onnxruntime(size: int, scale: float) -> None:
    rng = np.random.default_rng(size)
    features = rng.standard_normal((2, 3, 19, 23)).astype(np.float32)
    corners = rng.uniform(-10, 25, (200, 2)) / scale
    rois = np.concatenate(
        [rng.integers(0, 2, (200, 1)), corners, corners + rng.uniform(-2, 20, (200, 2)) / scale], 1
    ).astype(np.float32)
    rois[::5, 1:] = np.round(rois[::5, 1:] * scale * 2) / (2 * scale)  # exactly halfway
    expected = onnx_max_roi_pool(features, rois, size, scale)
    assert np.array_equal(roi_max_pool(features, rois, size, scale), expected)


def test_v2_excludes_the_end_and_does_not_overlap() -> None:
    features = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    rois = np.array([[0, 0, 0, 4, 4], [0, 1, 1, 2, 2]], np.float32)
    assert roi_max_pool(features, rois, 2, 1.0, "v2")[0, 0].tolist() == [[5, 7], [13, 15]]
    # A region of one pixel: its first bin is round(0)..round(0.5), hence [0, 1).
    assert roi_max_pool(features, rois, 2, 1.0, "v2")[1, 0].tolist() == [[5, 0], [0, 0]]


def test_bins_outside_the_map_are_zero() -> None:
    features = np.full((1, 1, 4, 4), -3, np.float32)
    rois = np.array([[0, 20, 20, 30, 30]], np.float32)
    for rounding in ("caffe", "v2"):
        assert not roi_max_pool(features, rois, 2, 1.0, rounding).any()


def test_unknown_rounding_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"caffe, v2.*'torch'"):
        roi_max_pool(
            np.zeros((1, 1, 2, 2), np.float32), np.zeros((0, 5), np.float32), 1, 1.0, "torch"
        )
