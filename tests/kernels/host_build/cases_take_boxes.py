# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.host_build.library import launch

from foveate.kernels.take_boxes import host

NAME = "foveate_launch_take_boxes"


def test_random_cases_are_bit_equal_to_the_host() -> None:
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        capacity, count = int(rng.integers(1, 20)), int(rng.integers(0, 300))
        boxes = rng.uniform(-50, 900, (capacity, 4)).astype(np.float32)
        kept = rng.integers(-1, capacity, count).astype(np.int32)
        factors = [float(np.float32(factor)) for factor in rng.uniform(0.1, 3, 2)]
        found, expected = (np.full((count, 4), 77, np.float32) for _ in range(2))
        assert launch("take_boxes", NAME, boxes, kept, found, capacity, count, *factors) == 0
        host.take_boxes(boxes, kept, expected, horizontal=factors[0], vertical=factors[1])
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("index", [1, -2, 2**31 - 1, -(2**31)])
def test_what_is_no_index_gives_zeros(index: int) -> None:
    found, kept = np.full((1, 4), 77, np.float32), np.array([index], np.int32)
    boxes = np.ones((1, 4), np.float32)
    assert launch("take_boxes", NAME, boxes, kept, found, 1, 1, 1.0, 1.0) == 0
    assert not found.any()


@pytest.mark.parametrize(
    ("capacity", "count", "status"), [(-1, 1, -2), (1, -1, -2), (1, 1, -1), (1, 0, 0)]
)
def test_null_arrays_and_bad_shapes(capacity: int, count: int, status: int) -> None:
    given = (None, None, None, capacity, count, 1.0, 1.0)
    assert launch("take_boxes", NAME, *given) == status


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 0.0])
def test_boxes_of_any_number_are_multiplied(factor: float) -> None:
    boxes = np.array([[np.nan, -np.inf, np.inf, 3e38]], np.float32)
    found, expected = (np.full((1, 4), 77, np.float32) for _ in range(2))
    kept = np.zeros(1, np.int32)
    assert launch("take_boxes", NAME, boxes, kept, found, 1, 1, factor, 2.0) == 0
    with np.errstate(all="ignore"):
        host.take_boxes(boxes, kept, expected, horizontal=factor, vertical=2.0)
    assert np.array_equal(found, expected, equal_nan=True)


def test_without_boxes_there_are_zeros() -> None:
    found, kept = np.full((2, 4), 77, np.float32), np.array([0, -1], np.int32)
    assert launch("take_boxes", NAME, None, kept, found, 0, 2, 1.0, 1.0) == 0
    assert not found.any()
