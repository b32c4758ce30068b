# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.library import launch

from foveate.kernels.nms import reference

Arrays = np.ndarray[Any, Any]
NAME = "foveate_launch_nms"


def nms(
    boxes: Arrays, scores: Arrays, groups: Arrays | None, iou: float, limit: int, count: int | None
) -> list[int]:
    capacity = len(boxes)
    scratch = np.full(2 * capacity + capacity * -(-capacity // 32), 0xA5A5A5A5, np.uint32)
    kept, kept_count = np.full(limit, 77, np.int32), np.full(1, 77, np.int32)
    existing = None if count is None else np.array([count], np.int32)
    arrays = (boxes, scores, groups, existing, kept, kept_count, scratch)
    assert launch("nms", NAME, *arrays, capacity, limit, np.float64(iou)) == 0
    found = int(kept_count[0])
    assert (kept[found:] == -1).all()
    return [int(index) for index in kept[:found]]


def case(rng: np.random.Generator, count: int, whole: bool) -> tuple[Arrays, Arrays, Arrays]:
    corners, sides = rng.uniform(0, 12, (count, 2)), rng.uniform(-0.5, 9, (count, 2))
    scores = rng.standard_normal(count)
    if whole:  # many ties of scores, and overlaps that meet a threshold exactly
        corners, sides, scores = np.floor(corners), np.floor(sides), np.round(scores)
    boxes = np.concatenate([corners, corners + sides], 1).astype(np.float32)
    return boxes, scores.astype(np.float32), rng.integers(0, 3, count).astype(np.int32)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_random_cases_are_equal(whole: bool, grouped: bool) -> None:
    for seed in range(250):
        rng = np.random.default_rng(seed)
        boxes, scores, groups = case(rng, int(rng.choice([0, 1, 5, 31, 32, 33, 70])), whole)
        iou = float(rng.choice([0.0, 0.1, 0.3, 0.5, 0.9, 1.0, 2.0]))
        limit, count = int(rng.integers(0, 60)), int(rng.integers(0, len(boxes) + 1))
        some = groups if grouped else None
        expected = reference.nms(
            boxes[:count], scores[:count], None if some is None else some[:count], iou, limit
        )
        assert nms(boxes, scores, some, iou, limit, count) == expected


def test_a_thousand_boxes() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 200, (1000, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (1000, 2))], 1).astype(np.float32)
    scores = rng.standard_normal(1000).astype(np.float32)
    expected = reference.nms(boxes, scores, None, 0.5, 300)
    assert nms(boxes, scores, None, 0.5, 300, None) == expected


@given(
    values=st.lists(
        st.tuples(*[st.floats(width=32)] * 4, st.floats(width=32)), min_size=1, max_size=6
    ),
    count=st.integers(-3, 9),
)
@settings(max_examples=300, deadline=None)
def test_any_number_in_a_box_has_a_defined_result(
    values: list[tuple[float, ...]], count: int
) -> None:
    table = np.array(values, np.float32)
    boxes, scores = np.ascontiguousarray(table[:, :4]), np.ascontiguousarray(table[:, 4])
    kept = nms(boxes, scores, None, 0.5, 6, count)
    solid = [
        i
        for i in range(min(max(count, 0), len(table)))
        if boxes[i, 2] > boxes[i, 0] and boxes[i, 3] > boxes[i, 1]
    ]
    assert set(kept) <= set(solid)
    assert len(set(kept)) == len(kept)
    assert bool(kept) == bool(solid)
    ranks = [-np.inf if np.isnan(s) else s for s in scores[kept]]
    assert ranks == sorted(ranks, reverse=True)


@pytest.mark.parametrize(
    ("capacity", "limit", "iou", "expected"),
    [(-1, 1, 0.5, -2), (1, -1, 0.5, -2), (1, 1, -0.1, -3), (1, 1, np.nan, -3), (65537, 1, 0.5, -4)],
)
def test_bad_numbers_are_refused(capacity: int, limit: int, iou: float, expected: int) -> None:
    boxes, ints = np.zeros(4, np.float32), np.zeros(4, np.int32)
    arrays = (boxes, boxes, None, None, ints, ints, np.zeros(4, np.uint32))
    assert launch("nms", NAME, *arrays, capacity, limit, np.float64(iou)) == expected


def test_null_arrays_are_refused_and_nothing_needs_none() -> None:
    found = np.full(1, 77, np.int32)
    nothing = (None, None, None, None, None, found, None)
    assert launch("nms", NAME, *nothing, 0, 0, np.float64(0.5)) == 0
    assert found[0] == 0
    assert launch("nms", NAME, *nothing, 1, 0, np.float64(0.5)) == -1
    assert launch("nms", NAME, *[None] * 7, 0, 0, np.float64(0.5)) == -1
