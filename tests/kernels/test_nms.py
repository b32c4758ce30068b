# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.kernels.nms import cpu, reference


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
@settings(max_examples=150)
def test_agrees_with_reference(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], iou: float, limit: int, grouped: bool
) -> None:
    boxes, scores, groups = case
    some = groups if grouped else None
    found = cpu.suppress(boxes, scores, some, iou, limit)
    assert found.tolist() == reference.nms(boxes, scores, some, iou, limit)


def random_boxes(kind: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    corners: np.ndarray = rng.uniform(0, 400, (count, 2))
    sides: np.ndarray = rng.uniform(20, 200, (count, 2))
    if kind == "small":
        sides /= 10
    elif kind == "clustered":
        some = rng.integers(0, 9, count)
        corners, sides = corners[some] + rng.normal(0, 6, (count, 2)), sides[some]
    elif kind == "grid":  # whose overlaps meet thresholds exactly
        corners, sides = rng.integers(0, 12, (count, 2)) * 20.0, np.full((count, 2), 60.0)
    elif kind == "infinite":
        sides[::9] = np.inf
    scale = {"tiny": 1e-25, "huge": 1e35}.get(kind, 1.0)
    return (np.concatenate([corners, corners + sides], 1) * scale).astype(np.float32)


@pytest.mark.parametrize(
    "kind", ["usual", "small", "clustered", "grid", "infinite", "tiny", "huge"]
)
def test_many_boxes_survive_as_in_the_reference(kind: str) -> None:
    boxes = random_boxes(kind, 150)
    rng = np.random.default_rng(2)
    scores, groups = rng.standard_normal(150).astype(np.float32), rng.integers(0, 3, 150)
    for iou, some, limit in (
        (0.0, None, 150),
        (0.2, groups, 150),
        (0.5, None, 150),
        (0.8, None, 140),
    ):
        found = cpu.suppress(boxes, scores, some, iou, limit)
        assert found.tolist() == reference.nms(boxes, scores, some, iou, limit)


def test_overlaps_within_a_rounding_of_the_threshold_are_told_apart() -> None:
    # 999,999 and 1,000,001 of 2,000,000 pixels: half of each box, in float32.
    boxes = np.array([(0, 0, 2e6, 1), (0, 2, 2e6, 3), (0, 0, 999999, 1), (0, 2, 1000001, 3)])
    scores = np.array([4, 3, 2, 1], np.float32)
    found = cpu.suppress(boxes.astype(np.float32), scores, None, 0.5, 4)
    assert found.tolist() == [0, 1, 2]


def test_few_survivors_of_many_boxes_are_found_as_in_the_reference() -> None:
    boxes = random_boxes("usual", 150)
    boxes[:80] = boxes[0]  # the best ones hold one survivor, the others more than enough
    scores = -np.arange(150, dtype=np.float32)
    for limit in (0, 1, 3, 7):
        found = cpu.suppress(boxes, scores, None, 0.5, limit)
        assert found.tolist() == reference.nms(boxes, scores, None, 0.5, limit)


def test_op_pads_and_ignores_rows_after_the_count() -> None:
    boxes = np.array([(0, 0, 4, 4), (0, 0, 0, 0), (9, 9, 12, 12), (20, 20, 30, 30)], np.float32)
    scores = np.array([1, 9, 2, 8], np.float32)
    keep, count = np.empty(4, np.int32), np.empty(1, np.int32)
    cpu.nms(boxes, scores, np.array([3], np.int32), keep, count, iou=0.5)
    assert keep.tolist() == [2, 0, -1, -1]
    assert count.tolist() == [2]


def test_gathered_boxes_agree_with_the_reference() -> None:
    boxes = random_boxes("usual", 5)
    keep, gathered = np.array([3, 0, -1], np.int32), np.empty((3, 4), np.float32)
    cpu.gather_boxes(boxes, keep, gathered, horizontal=0.5, vertical=2.0, offset=80.0)
    expected = reference.gather_boxes(boxes.tolist(), keep.tolist(), 0.5, 2.0, 80.0)
    assert gathered.tolist() == expected
