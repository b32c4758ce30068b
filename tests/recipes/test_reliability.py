# SPDX-License-Identifier: Apache-2.0
"""The reliability table of the model card."""

from __future__ import annotations

import numpy as np
import pytest
from reliability import _binned, diagram


def test_detections_are_counted_by_their_score() -> None:
    scores = np.array([0.04, 0.1, 0.14, 0.25, 0.3, 0.39, 0.99])
    right = np.array([True, False, True, True, False, True, True])
    bins = _binned(scores, right)
    assert [(one.low, one.count) for one in bins] == [(0.05, 2), (0.25, 3), (0.6, 1)]
    assert [one.right for one in bins] == pytest.approx([1 / 2, 2 / 3, 1])
    assert bins[1].score == pytest.approx(0.94 / 3)


def test_a_row_shows_its_share_as_a_bar() -> None:
    rows = diagram(_binned(np.array([0.3, 0.3, 0.3, 0.3]), np.array([True, False, False, False])))
    assert rows == "| 0.25 to 0.40 | 4 | 0.30 | 0.25 | `█████···············` |"
