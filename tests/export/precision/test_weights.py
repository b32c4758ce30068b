# SPDX-License-Identifier: Apache-2.0
"""Weights in eight bits: their accuracy, and sums that fit into 16 bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foveate.export.precision.quantize import quantize_weights

SIXTEEN_BITS = 2**15 - 1


def test_a_large_weight_beside_small_ones_has_the_whole_range() -> None:
    found = quantize_weights(np.array([[1.27, -0.01, -0.5, 0.0]], np.float32), 0)
    np.testing.assert_allclose(found.scales, [0.01], rtol=1e-6)
    assert found.codes.tolist() == [[127, -1, -50, 0]]


def test_two_large_neighbors_of_one_sign_share_the_range() -> None:
    found = quantize_weights(np.array([[1.0, 1.0, 0.25, -1.0]], np.float32), 0)
    np.testing.assert_allclose(found.scales, [2 / 127], rtol=1e-6)
    assert found.codes.tolist() == [[64, 64, 16, -64]]


def test_each_output_has_a_scale_of_its_own_on_either_axis() -> None:
    weights = np.array([[1.27, 0.0], [0.0, 0.127], [0.0, 0.0]], np.float32)
    by_row = quantize_weights(weights, 0)
    by_column = quantize_weights(np.ascontiguousarray(weights.T), 1)
    np.testing.assert_allclose(by_row.scales, [0.01, 0.001, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(by_row.codes, by_column.codes.T)


@settings(max_examples=60)
@given(
    arrays(
        np.float32,
        st.tuples(*(st.integers(1, size) for size in (4, 7, 3, 3))),
        elements=st.floats(-100, 100, width=32),
    )
)
def test_no_two_neighbors_leave_sixteen_bits_and_no_weight_moves_by_more_than_half_a_code(
    weights: np.ndarray,
) -> None:
    found = quantize_weights(weights, 0)
    rows = found.codes.astype(np.int64)
    for layout in (rows, rows.transpose(0, 2, 3, 1)):
        flat = layout.reshape(len(rows), -1)
        flat = np.pad(flat, ((0, 0), (0, flat.shape[1] % 2)))
        for sign in (1, -1):
            pairs = np.maximum(sign * flat, 0)
            sums = 255 * (pairs[:, 0::2] + pairs[:, 1::2])
            assert sums.max(initial=0) <= SIXTEEN_BITS
    steps = found.scales.reshape(-1, 1, 1, 1)
    assert (np.abs(rows * steps - weights) <= steps * 0.5001 + 1e-30).all()


def test_depthwise_weights_use_all_codes() -> None:
    weights = np.array([[[[1.27, 1.27, 1.27]]]], np.float32)
    assert quantize_weights(weights, 0, depthwise=True).codes.max() == 127
    assert quantize_weights(weights, 0).codes.max() == 64


def test_a_last_weight_without_a_neighbor_has_the_whole_range() -> None:
    found = quantize_weights(np.array([[0.5, 0.0, 1.27]], np.float32), 0)
    assert found.codes.tolist() == [[50, 0, 127]]
