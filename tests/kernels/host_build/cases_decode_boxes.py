# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.library import launch

from foveate.kernels.decode_boxes import reference

Arrays = np.ndarray[Any, Any]
NAME = "foveate_launch_decode_boxes"
PLAIN = [0.0] * 4 + [1.0] * 4


def decode(boxes: Arrays, deltas: Arrays, numbers: list[float], height: int, width: int) -> Arrays:
    decoded = np.full(deltas.shape, 77, np.float32)
    doubles = [np.float64(number) for number in numbers]
    arrays = (boxes, deltas, decoded)
    assert launch("decode_boxes", NAME, *arrays, *deltas.shape[:2], *doubles, height, width) == 0
    return decoded


def expected(
    boxes: Arrays, deltas: Arrays, numbers: list[float], height: int, width: int
) -> Arrays:
    mean, std = numbers[:4], numbers[4:]
    return np.array(
        [
            [
                reference.decode_box(box.tolist(), delta.tolist(), mean, std, height, width)
                for delta in row
            ]
            for box, row in zip(boxes, deltas, strict=True)
        ],
        np.float32,
    ).reshape(deltas.shape)


def test_random_cases_are_bit_equal() -> None:
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        rows, classes = int(rng.integers(1, 8)), int(rng.integers(1, 6))
        corners = rng.uniform(-20, 300, (rows, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(0, 200, (rows, 2))], 1)
        boxes = boxes.astype(np.float32)
        deltas = rng.normal(0, rng.choice([0.1, 1, 10]), (rows, classes, 4)).astype(np.float32)
        numbers = [*rng.normal(0, 0.1, 4), *rng.uniform(0.05, 0.4, 4)]
        found = decode(boxes, deltas, numbers, 311, 277)
        assert np.array_equal(found, expected(boxes, deltas, numbers, 311, 277))


@given(
    box=st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 4),
    delta=st.tuples(*[st.floats(width=32)] * 4),
)
@settings(max_examples=300, deadline=None)
def test_any_delta_has_the_result_of_the_reference(
    box: tuple[float, ...], delta: tuple[float, ...]
) -> None:
    boxes, deltas = np.array([box], np.float32), np.array([[delta]], np.float32)
    found = decode(boxes, deltas, PLAIN, 100, 200)
    assert np.array_equal(found, expected(boxes, deltas, PLAIN, 100, 200), equal_nan=True)


@given(box=st.tuples(*[st.floats(width=32)] * 4), delta=st.tuples(*[st.floats(width=32)] * 4))
@settings(max_examples=300, deadline=None)
def test_any_box_is_decoded_into_the_image_or_is_no_number(
    box: tuple[float, ...], delta: tuple[float, ...]
) -> None:
    boxes, deltas = np.array([box], np.float32), np.array([[delta]], np.float32)
    found = decode(boxes, deltas, PLAIN, 100, 200)[0, 0]
    limits = np.array([200, 100, 200, 100])
    assert (np.isnan(found) | ((found >= 0) & (found <= limits))).all()
    if np.isfinite([*box, *delta]).all():
        assert not np.isnan(found).any()


def test_exponential_is_exact_to_float32_over_its_range() -> None:
    growth = np.linspace(-60, 4.1, 4096, dtype=np.float32)
    boxes = np.tile(np.array([[0, 0, 2, 2]], np.float32), (1, 1))
    deltas = np.zeros((1, 4096, 4), np.float32)
    deltas[0, :, 0], deltas[0, :, 2] = 50.0, growth
    found = decode(boxes, deltas, PLAIN, 100000, 100000)
    assert np.array_equal(found, expected(boxes, deltas, PLAIN, 100000, 100000))


@pytest.mark.parametrize(
    ("rows", "classes", "height", "status"),
    [(-1, 1, 1, -2), (1, -1, 1, -2), (1, 1, -1, -2), (1, 1, 1, -1), (0, 1, 1, 0), (1, 0, 1, 0)],
)
def test_null_arrays_and_bad_shapes(rows: int, classes: int, height: int, status: int) -> None:
    doubles = [np.float64(number) for number in PLAIN]
    given = (None, None, None, rows, classes, *doubles, height, 1)
    assert launch("decode_boxes", NAME, *given) == status
