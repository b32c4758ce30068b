# SPDX-License-Identifier: Apache-2.0
"""Box targets as numbers, by hand."""

from __future__ import annotations

import numpy as np

from foveate.training.sampling.boxes import encode_deltas


def test_targets_are_offsets_in_sizes_of_the_box_and_logarithms_of_ratios() -> None:
    box = np.array([[10, 20, 30, 60]], np.float32)  # 20 x 40 around (20, 40)
    truth = np.array([[20, 10, 60, 50]], np.float32)  # 40 x 40 around (40, 30)
    expected = [[1.0, -0.25, np.log(2), 0.0]]
    np.testing.assert_allclose(encode_deltas(box, truth), expected, rtol=1e-6, atol=1e-7)


def test_boxes_without_a_side_have_finite_targets() -> None:
    flat, truth = np.array([[5, 5, 5, 9]], np.float32), np.array([[5, 5, 7, 5]], np.float32)
    deltas = encode_deltas(flat, truth)
    np.testing.assert_allclose(deltas, [[1000, -0.5, np.log(2000), np.log(1 / 4000)]], rtol=1e-5)
