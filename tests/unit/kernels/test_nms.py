# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.kernels.nms import host, reference


@st.composite
def boxes_and_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 25))
    corner = st.integers(0, 9)
    boxes = [
        (x, y, x + draw(corner), y + draw(corner))
        for x, y in (draw(st.tuples(corner, corner)) for _ in range(count))
    ]
    scores = [draw(st.integers(0, 5)) for _ in range(count)]  # few values, so many ties
    groups = [draw(st.integers(0, 2)) for _ in range(count)]
    return (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(groups, np.int64),
    )


@given(
    case=boxes_and_scores(),
    iou=st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]),
    limit=st.integers(1, 30),
    grouped=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_agrees_with_reference(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], iou: float, limit: int, grouped: bool
) -> None:
    boxes, scores, groups = case
    some = groups if grouped else None
    found = host.suppress(boxes, scores, some, iou, limit)
    assert found.tolist() == reference.nms(boxes, scores, some, iou, limit)


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_TILE", 7)
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 20, (90, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 9, (90, 2))], 1).astype(np.float32)
    scores = rng.standard_normal(90).astype(np.float32)
    for limit in (5, 90):
        found = host.suppress(boxes, scores, None, 0.3, limit).tolist()
        assert found == reference.nms(boxes, scores, None, 0.3, limit)


def test_op_pads_and_ignores_rows_after_the_count() -> None:
    boxes = np.array([(0, 0, 4, 4), (0, 0, 0, 0), (9, 9, 12, 12), (20, 20, 30, 30)], np.float32)
    scores = np.array([1, 9, 2, 8], np.float32)
    kept, count = np.empty(4, np.int32), np.empty(1, np.int32)
    host.nms(boxes, scores, np.array([3], np.int32), kept, count, iou=0.5)
    assert kept.tolist() == [2, 0, -1, -1]
    assert count.tolist() == [2]
