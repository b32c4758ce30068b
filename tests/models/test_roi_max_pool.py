# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling in PyTorch against cases worked by hand and the slow reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foveate.errors import OptionError
from foveate.kernels.plugins.roi_max_pool.reference import roi_max_pool as reference
from foveate.models.roi_max_pool import Rounding, _roi_max_pool, roi_max_pool

ROUNDINGS: tuple[Rounding, ...] = ("caffe", "v2")
BELOW_HALF = float(np.nextafter(np.float32(0.5), np.float32(0)))


def pool(
    features: list[list[float]], box: tuple[float, ...], side: int, scale: float, rounding: Rounding
) -> list[list[float]]:
    map_ = torch.tensor(features)[None, None]
    pooled = roi_max_pool(map_, torch.tensor([box]), side, scale, rounding)
    rows: list[list[float]] = pooled[0, 0].tolist()
    return rows


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 25),
    width=st.integers(1, 25),
    side=st.integers(1, 9),
    scale=st.sampled_from([1.0, 1 / 8, 1 / 16, 1 / 32]),
    rounding=st.sampled_from(ROUNDINGS),
)
@example(seed=0, height=1, width=25, side=7, scale=1 / 16, rounding="v2")
@example(seed=0, height=16, width=17, side=7, scale=1.0, rounding="caffe")
def test_pooling_equals_the_reference(
    seed: int, height: int, width: int, side: int, scale: float, rounding: Rounding
) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(1, 3, height, width)).astype(np.float32)
    limit = max(height, width) / scale
    boxes = rng.uniform(-limit, 2 * limit, (12, 4)).astype(np.float32)  # outside and inverted too
    boxes[:4] = np.round(boxes[:4] * scale * 2) / (2 * scale)  # on the halves that rounding decides
    boxes[4:6] = np.nextafter(boxes[:2], np.float32(0))  # and right below them
    pooled = roi_max_pool(
        torch.from_numpy(features), torch.from_numpy(boxes), side, scale, rounding
    )
    rois = np.pad(boxes, ((0, 0), (1, 0)))
    expected = reference(features, rois, (side, side), scale, rounding=rounding)
    np.testing.assert_array_equal(pooled.numpy(), expected)


COUNTING = [[float(10 * y + x) for x in range(6)] for y in range(6)]
"""A 6x6 map whose values are their row and column."""


def test_caffe_includes_the_far_corner_and_lets_bins_overlap() -> None:
    # Pixels 0..4 are 5 long, a bin 2.5: [0, 3) and [2, 5), which share pixel 2.
    assert pool(COUNTING, (0, 0, 4, 4), 2, 1.0, "caffe") == [[22, 24], [42, 44]]


def test_v2_excludes_the_far_corner_and_shares_no_pixel() -> None:
    # Pixels 0..3 are 4 long, a bin 2: [0, 2) and [2, 4).
    assert pool(COUNTING, (0, 0, 4, 4), 2, 1.0, "v2") == [[11, 13], [31, 33]]


def test_v2_rounds_the_edges_of_bins_half_away_from_zero() -> None:
    # 5 long, a bin 2.5, whose edge rounds to 3: [0, 3) and [3, 5).
    assert pool(COUNTING, (0, 0, 5, 5), 2, 1.0, "v2") == [[22, 24], [42, 44]]
    # 4 long in three bins of 1.33: [0, 1), [1, 3), [3, 4).
    assert pool(COUNTING, (0, 0, 4, 4), 3, 1.0, "v2") == [[0, 2, 3], [20, 22, 23], [30, 32, 33]]


def test_v2_leaves_bins_empty_where_there_are_fewer_pixels_than_bins() -> None:
    # One pixel in two bins of half a pixel: [0, round(.5) = 1) and [1, 1).
    assert pool(COUNTING, (1, 1, 2, 2), 2, 1.0, "v2") == [[11, 0], [0, 0]]
    assert pool(COUNTING, (1, 1, 1, 1), 2, 1.0, "caffe") == [[11, 11], [11, 11]]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_corners_round_half_away_from_zero(rounding: Rounding) -> None:
    # Scaled by 1/16: from 24 / 16 = 1.5, hence 2, to 56 / 16 = 3.5, hence 4.
    expected = {"caffe": 44.0, "v2": 33.0}
    assert pool(COUNTING, (24, 24, 56, 56), 1, 1 / 16, rounding) == [[expected[rounding]]]
    # -0.5 becomes -1, outside the map; torch.round and floor(x + 0.5) would say 0.
    assert pool(COUNTING, (-0.5, 0, -0.5, 3), 1, 1.0, rounding) == [[0]]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_float_below_a_half_rounds_down(rounding: Rounding) -> None:
    # Where floor(x + 0.5) would say 1, because the sum rounds up to 1.
    lone = [[7.0, 0.0, 0.0]]
    assert pool(lone, (BELOW_HALF, BELOW_HALF, 1, 1), 1, 1.0, rounding) == [[7.0]]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_pooling_no_boxes_gives_no_rows(rounding: Rounding) -> None:
    pooled = roi_max_pool(torch.zeros(1, 2, 4, 4), torch.zeros(0, 4), 3, 1.0, rounding)
    assert pooled.shape == (0, 2, 3, 3)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_each_maximum_receives_its_gradient(rounding: Rounding) -> None:
    features = torch.arange(36.0).reshape(1, 1, 6, 6).requires_grad_()
    pooled = roi_max_pool(features, torch.tensor([[0.0, 0, 4, 4]]), 2, 1.0, rounding)
    (gradient,) = torch.autograd.grad(pooled.sum(), features)
    last = {"caffe": [14, 16, 26, 28], "v2": [7, 9, 19, 21]}[rounding]
    assert gradient.flatten().nonzero().flatten().tolist() == last


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_node_of_compiled_graphs_is_the_same_operation(
    rounding: Rounding, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    features = torch.rand(1, 3, 9, 17).to(memory_format=layout).requires_grad_()
    boxes = torch.rand(5, 4) * 20
    arguments = (features, torch.nn.functional.pad(boxes, (1, 0)), 3, 0.7, rounding)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_roi_max_pool, arguments, test_utils=checks)
    pooled = roi_max_pool(features, boxes, 3, 0.7, rounding)
    node = _roi_max_pool(*arguments)
    assert torch.equal(node, pooled)
    seed = torch.rand_like(pooled)
    gradients = [torch.autograd.grad(result, features, seed)[0] for result in (node, pooled)]
    assert torch.equal(*gradients)


def test_only_the_result_depends_on_the_values_of_boxes() -> None:
    """If a number of tables depended on them, a graph would break; the meta device has no values."""
    features, boxes = torch.empty(1, 2, 9, 17, device="meta"), torch.empty(5, 4, device="meta")
    assert roi_max_pool(features, boxes, 3, 1.0).shape == (5, 2, 3, 3)


def test_an_unknown_rounding_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match="rounding must be caffe or v2, found 'torch'"):
        roi_max_pool(torch.zeros(1, 1, 2, 2), torch.zeros(1, 4), 1, 1.0, "torch")  # type: ignore[arg-type]  # wrong on purpose
