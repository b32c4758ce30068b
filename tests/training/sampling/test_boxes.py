# SPDX-License-Identifier: Apache-2.0
"""Box targets as numbers, by hand."""

from __future__ import annotations

import re

import numpy as np

from foveate.training.sampling.boxes import ProposalTable, encode_deltas


def test_targets_are_offsets_in_sizes_of_the_box_and_logarithms_of_ratios() -> None:
    box = np.array([[10, 20, 30, 60]], np.float32)  # 20 x 40 around (20, 40)
    truth = np.array([[20, 10, 60, 50]], np.float32)  # 40 x 40 around (40, 30)
    expected = [[1.0, -0.25, np.log(2), 0.0]]
    np.testing.assert_allclose(encode_deltas(box, truth), expected, rtol=1e-6, atol=1e-7)


def test_boxes_without_a_side_have_finite_targets() -> None:
    flat, truth = np.array([[5, 5, 5, 9]], np.float32), np.array([[5, 5, 7, 5]], np.float32)
    deltas = encode_deltas(flat, truth)
    np.testing.assert_allclose(deltas, [[1000, -0.5, np.log(2000), np.log(1 / 4000)]], rtol=1e-5)


def test_the_digest_of_proposals_changes_with_any_box_and_with_nothing_else() -> None:
    ids, scores = np.array([7, 3, 7]), np.array([0.2, 0.9, 0.5])
    corners = np.arange(12, dtype=np.float32).reshape(3, 4)
    digest = ProposalTable(ids, corners, scores).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert ProposalTable(ids[::-1], corners[::-1], scores[::-1]).digest == digest
    assert ProposalTable(ids, corners + 1, scores).digest != digest
    assert ProposalTable(ids + 1, corners, scores).digest != digest
