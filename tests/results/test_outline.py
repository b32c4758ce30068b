# SPDX-License-Identifier: Apache-2.0
"""Outlines contain the pixels of their masks, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from foveate.arrays import BoolArray, Int64Array
from foveate.results.outline import outline_runs
from foveate.results.window_masks import WindowMasks


def runs_of(mask: BoolArray) -> tuple[Int64Array, Int64Array, Int64Array]:
    steps = np.diff(np.pad(mask, ((1, 1), (0, 0))).astype(np.int8), axis=0).T
    columns, starts = np.nonzero(steps == 1)
    return columns, starts, np.nonzero(steps == -1)[1]


def inside(polygons: list[Int64Array], height: int, width: int) -> BoolArray:
    """Whether the middle of each pixel is right of an odd number of vertical edges."""
    crossed = np.zeros((height, width), np.int64)
    for polygon in polygons:
        for (x, y), (other_x, other_y) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
            assert x == other_x or y == other_y
            crossed[min(y, other_y) : max(y, other_y), x:] += x == other_x
    found: BoolArray = crossed % 2 == 1
    return found


@given(arrays(bool, (6, 9)))
@settings(max_examples=200)
def test_an_outline_contains_the_pixels_of_the_mask(mask: BoolArray) -> None:
    assert np.array_equal(inside(outline_runs(*runs_of(mask)), *mask.shape), mask)


def test_a_ring_has_two_outlines_of_four_corners_each() -> None:
    ring = np.zeros((7, 9), bool)
    ring[1:6, 2:8] = True
    ring[3:5, 4:6] = False
    outer, inner = (sorted(map(tuple, one.tolist())) for one in outline_runs(*runs_of(ring)))
    assert outer == [(2, 1), (2, 6), (8, 1), (8, 6)]
    assert inner == [(4, 3), (4, 5), (6, 3), (6, 5)]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_masks_have_outlines(index: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 16, 16)).astype(np.float32).cumsum(1).astype(np.float32)
    windows = np.array([[-5, 3, 30, 28], [20.4, 10, 60, 60], [4, 4, 10, 9]], np.float32)
    masks = WindowMasks(logits, windows, np.arange(3), threshold=0.2, height=40, width=56)
    assert masks[index].any()
    assert np.array_equal(inside(masks.outline(index), 40, 56), masks[index])


def test_runs_that_touch_are_one_polygon() -> None:
    columns, starts, ends = np.array([3, 3]), np.array([2, 5]), np.array([5, 9])
    (polygon,) = outline_runs(columns, starts, ends)
    assert sorted(map(tuple, polygon.tolist())) == [(3, 2), (3, 9), (4, 2), (4, 9)]


def test_a_mask_without_pixels_has_no_outline() -> None:
    assert outline_runs(*np.zeros((3, 0), np.int64)) == []


def test_runs_that_touch_are_one_part_and_pixels_that_touch_at_a_corner_are_two() -> None:
    columns, starts, ends = np.array([[2, 2, 3], [1, 4, 7], [4, 7, 9]])
    outlines = outline_runs(columns, starts, ends)
    assert [outline.tolist() for outline in outlines] == [
        [[2, 1], [3, 1], [3, 7], [2, 7]],
        [[3, 7], [4, 7], [4, 9], [3, 9]],
    ]
