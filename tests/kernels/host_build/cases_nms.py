# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.driver import host_device
from tests.kernels.running import Array, run

from foveate.kernels.nms import reference
from foveate.kernels.nms.op import GATHER_BOXES, NMS


def nms(boxes: Array, scores: Array, iou: float, limit: int, count: int) -> list[int]:
    inputs = [boxes, scores, np.array([count], np.int32)]
    outputs = [((limit,), np.int32), ((1,), np.int32)]
    keep, keep_count = run(host_device(), NMS, inputs, outputs, poison=False, iou=iou)
    found = int(keep_count[0])
    assert (keep[found:] == -1).all()
    return [int(index) for index in keep[:found]]


def case(rng: np.random.Generator, count: int, whole: bool) -> tuple[Array, Array]:
    corners, sides = rng.uniform(0, 12, (count, 2)), rng.uniform(-0.5, 9, (count, 2))
    scores = rng.standard_normal(count)
    if whole:  # many ties of scores, and overlaps that meet a threshold exactly
        corners, sides, scores = np.floor(corners), np.floor(sides), np.round(scores)
    boxes = np.concatenate([corners, corners + sides], 1).astype(np.float32)
    return boxes, scores.astype(np.float32)


@pytest.mark.parametrize("whole", [False, True])
def test_random_cases_are_equal(whole: bool) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        boxes, scores = case(rng, int(rng.choice([0, 1, 5, 31, 32, 33, 70, 270])), whole)
        iou = float(rng.choice([0.0, 0.1, 0.3, 0.5, 0.9, 1.0, 2.0]))
        limit, count = int(rng.integers(0, 60)), int(rng.integers(0, len(boxes) + 1))
        expected = reference.nms(boxes[:count], scores[:count], None, iou, limit)
        assert nms(boxes, scores, iou, limit, count) == expected


def test_a_thousand_boxes() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 200, (1000, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (1000, 2))], 1).astype(np.float32)
    scores = rng.standard_normal(1000).astype(np.float32)
    expected = reference.nms(boxes, scores, None, 0.5, 300)
    assert nms(boxes, scores, 0.5, 300, 1000) == expected


@given(
    values=st.lists(
        st.tuples(*[st.floats(width=32)] * 4, st.floats(width=32)), min_size=1, max_size=6
    ),
    count=st.integers(-3, 9),
)
@settings(max_examples=100)
def test_any_number_in_a_box_has_a_defined_result(
    values: list[tuple[float, ...]], count: int
) -> None:
    table = np.array(values, np.float32)
    boxes, scores = np.ascontiguousarray(table[:, :4]), np.ascontiguousarray(table[:, 4])
    keep = nms(boxes, scores, 0.5, 6, count)
    solid = [
        i
        for i in range(min(max(count, 0), len(table)))
        if boxes[i, 2] > boxes[i, 0] and boxes[i, 3] > boxes[i, 1]
    ]
    assert set(keep) <= set(solid)
    assert len(set(keep)) == len(keep)
    assert bool(keep) == bool(solid)
    ranks = [-np.inf if np.isnan(s) else s for s in scores[keep]]
    assert ranks == sorted(ranks, reverse=True)


def gather(
    boxes: Array, keep: Array, horizontal: float, vertical: float, offset: float = 0.0
) -> Array:
    outputs = [((len(keep), 4), np.float32)]
    frame = {"horizontal": horizontal, "vertical": vertical, "offset": offset}
    (found,) = run(host_device(), GATHER_BOXES, [boxes, keep], outputs, poison=False, **frame)
    return found


def moved(boxes: Array, keep: Array, frame: tuple[float, float, float]) -> Array:
    """Return the reference's boxes; each product and each sum is rounded once."""
    horizontal, vertical, offset = (float(np.float32(number)) for number in frame)
    numbers = (horizontal, vertical, offset)
    wanted = reference.gather_boxes(boxes.tolist(), keep.tolist(), *numbers)
    return np.array(wanted, np.float32).reshape(-1, 4)


def test_gathered_boxes_are_bit_equal_to_the_reference() -> None:
    for seed in range(150):
        rng = np.random.default_rng(seed)
        capacity, count = int(rng.integers(1, 20)), int(rng.integers(0, 300))
        boxes = rng.uniform(-50, 900, (capacity, 4)).astype(np.float32)
        keep = rng.integers(-1, capacity, count).astype(np.int32)
        frame = (*rng.uniform(0.1, 3, 2).tolist(), float(rng.choice([0, 80, -7.3])))
        assert np.array_equal(gather(boxes, keep, *frame), moved(boxes, keep, frame))


@pytest.mark.parametrize("index", [1, -2, 2**31 - 1, -(2**31)])
def test_an_invalid_index_gives_zeros(index: int) -> None:
    keep = np.array([index], np.int32)
    assert not gather(np.ones((1, 4), np.float32), keep, 1.5, 2.5).any()


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 0.0])
def test_boxes_of_any_number_are_multiplied(factor: float) -> None:
    boxes = np.array([[np.nan, -np.inf, np.inf, 3e38]], np.float32)
    keep = np.zeros(1, np.int32)
    with np.errstate(all="ignore"):
        expected = moved(boxes, keep, (factor, 2.0, 80.0))
    assert np.array_equal(gather(boxes, keep, factor, 2.0, 80.0), expected, equal_nan=True)


def test_without_boxes_there_are_zeros() -> None:
    assert not gather(np.zeros((0, 4), np.float32), np.array([0, -1], np.int32), 1.5, 2.5).any()
