# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.kernels.host_build.library import launch

from foveate.kernels.foveal_boxes import FOVEAL_SCALES, reference

Arrays = np.ndarray[Any, Any]
NAME = "foveate_launch_foveal_boxes"


def regions_of(boxes: Arrays, scales: tuple[float, ...]) -> Arrays:
    regions = np.full((len(boxes), len(scales), 4), 77, np.float32)
    arrays = (boxes, np.array(scales), regions)
    assert launch("foveal_boxes", NAME, *arrays, len(boxes), len(scales)) == 0
    return regions


def test_random_cases_are_bit_equal() -> None:
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        boxes = rng.uniform(-50, 900, (int(rng.integers(0, 40)), 4)).astype(np.float32)
        scales = FOVEAL_SCALES if seed % 2 else tuple(rng.uniform(0.5, 5, int(rng.integers(0, 6))))
        found = regions_of(boxes, scales)
        assert np.array_equal(found, reference.foveal_boxes(boxes, scales))


@given(box=st.tuples(*[st.floats(width=32)] * 4))
@settings(max_examples=300, deadline=None)
def test_any_number_has_the_result_of_the_reference(box: tuple[float, ...]) -> None:
    boxes = np.array([box], np.float32)
    with np.errstate(all="ignore"):
        expected = reference.foveal_boxes(boxes)
    assert np.array_equal(regions_of(boxes, FOVEAL_SCALES), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("count", "scales", "status"), [(-1, 1, -2), (1, -1, -2), (1, 1, -1), (0, 1, 0), (1, 0, 0)]
)
def test_null_arrays_and_bad_shapes(count: int, scales: int, status: int) -> None:
    assert launch("foveal_boxes", NAME, None, None, None, count, scales) == status
