# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.kernels.mask_boxes import cpu, reference
from foveate.results.window_mask import Window, WindowMask

SIZE = 12
AMBIGUOUS = 1e-5  # closer to the threshold than this, float32 may decide otherwise than float64


def window_mask(
    logits: np.ndarray, xywh: tuple[float, ...], height: int, width: int, threshold: float = 0.0
) -> np.ndarray:
    mask, top, left = WindowMask(
        logits, Window.around(xywh), threshold=threshold, region=(0, 0, width, height)
    ).mask()
    full = np.zeros((height, width), bool)
    full[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return full


geometries = st.tuples(
    st.floats(-30, 30), st.floats(-30, 30), st.floats(0.5, 60), st.floats(0.5, 60)
)


@given(
    xywh=geometries,
    seed=st.integers(0, 999),
    smooth=st.booleans(),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
@settings(max_examples=150)
def test_mask_and_box_agree_with_reference(
    xywh: tuple[float, float, float, float], seed: int, smooth: bool, height: int, width: int
) -> None:
    logits = np.random.default_rng(seed).standard_normal((SIZE, SIZE)).astype(np.float32)
    if smooth:
        logits = np.cumsum(np.cumsum(logits, 0), 1).astype(np.float32) - 2
    expected, values = reference.paste(logits, xywh, 0.0, height, width)
    mask = window_mask(logits, xywh, height, width)
    clear = np.abs(values) > AMBIGUOUS * max(1, np.abs(logits).max())
    assert np.array_equal(mask[clear], expected[clear])
    boxes = np.empty((1, 4), np.float32)
    cpu.mask_boxes(
        logits[None],
        np.array([xywh], np.float32),
        np.array([1], np.int32),
        boxes,
        threshold=0.0,
        image_height=height,
        image_width=width,
    )
    float32_mask = window_mask(logits, tuple(np.array(xywh, np.float32).tolist()), height, width)
    assert tuple(boxes[0]) == reference.tight_box(float32_mask)


# Foreground only very near to one sample, or nowhere; or as far as its neighbors.
@pytest.mark.parametrize("peak", [0.02, 30.0])
@pytest.mark.parametrize("seed", range(20))
def test_box_of_a_thin_peak_is_searched_to_the_pixel(seed: int, peak: float) -> None:
    logits = np.full((SIZE, SIZE), -1.0, np.float32)
    row, column = np.random.default_rng(seed).integers(0, SIZE, 2)
    logits[row, column] = peak
    xywh = (-7.0, 3.0, 101.0, 97.0)
    mask = window_mask(logits, xywh, 90, 80)
    expected, _ = reference.paste(logits, xywh, 0.0, 90, 80)
    assert np.array_equal(mask, expected)


def test_window_of_own_size_is_a_plain_comparison() -> None:
    logits = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)
    assert np.array_equal(window_mask(logits, (0, 0, SIZE, SIZE), SIZE, SIZE, 0.3), logits > 0.3)


@pytest.mark.parametrize("side", [SIZE, 3 * SIZE, 5, 200])
def test_samples_that_are_not_finite_do_no_harm(side: int) -> None:
    logits = np.full((SIZE, SIZE), -1.0, np.float32)
    logits[3:9, 2:8] = 1.0
    logits[5, 5], logits[0, 0], logits[4, 3] = np.nan, np.inf, -np.inf
    mask = window_mask(logits, (0, 0, side, side), 210, 210)
    assert mask.any()
    assert not mask[-(-side * 10 // SIZE) :].any()


@pytest.mark.parametrize("side", [SIZE, 31, 250])
def test_a_pixel_at_the_very_place_of_a_sample_is_that_sample(side: int) -> None:
    tiny = np.float32(1e-40)  # the place where columns meet the threshold rounds to a sample
    logits = np.where(np.indices((SIZE, SIZE)).sum(0) % 2, tiny, np.float32(-1))
    mask = window_mask(logits, (0, 0, side, side), side, side)
    expected, values = reference.paste(logits, (0, 0, side, side), 0.0, side, side)
    clear = (np.abs(values) > AMBIGUOUS) | (side == SIZE)
    assert np.array_equal(mask[clear], expected[clear])


@pytest.mark.parametrize("side", [SIZE // 2, SIZE, 2 * SIZE, 30])
def test_threshold_is_strict(side: int) -> None:
    logits = np.full((SIZE, SIZE), 0.25, np.float32)
    assert not window_mask(logits, (0, 0, side, side), side, side, 0.25).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_row_or_column_exactly_at_the_threshold_is_background(axis: int) -> None:
    rising = np.where(np.arange(SIZE) < SIZE // 2, -1, 1).astype(np.float32)
    logits = np.broadcast_to(rising[:, None] if axis == 0 else rising, (SIZE, SIZE))
    side = 37  # pixel 18 lies in the middle between the samples 5 and 6
    for one, expected in ((logits, range(19, side)), (np.flip(logits, axis), range(18))):
        mask = window_mask(np.ascontiguousarray(one), (0, 0, side, side), side, side)
        assert np.flatnonzero(mask.any(1 - axis)).tolist() == list(expected)


def test_window_outside_the_image_is_empty() -> None:
    logits = np.ones((1, SIZE, SIZE), np.float32)
    boxes = np.full((1, 4), 7, np.float32)
    for xywh in ([[50, 0, 9, 9]], [[0, -20, 9, 9]], [[-9, 0, 9, 9]]):
        cpu.mask_boxes(
            logits,
            np.array(xywh, np.float32),
            np.array([1], np.int32),
            boxes,
            threshold=0.0,
            image_height=20,
            image_width=20,
        )
        assert not boxes.any()


def test_rows_after_the_count_are_zero() -> None:
    boxes = np.full((2, 4), 7, np.float32)
    cpu.mask_boxes(
        np.ones((2, SIZE, SIZE), np.float32),
        np.array([(0, 0, 5, 5)] * 2, np.float32),
        np.array([1], np.int32),
        boxes,
        threshold=0.0,
        image_height=20,
        image_width=20,
    )
    assert boxes.tolist() == [[0, 0, 5, 5], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("xywh", "expected"),
    [
        ((0.4, 0.6, 10.0, 10.0), (0, 1, 10, 10)),
        ((-0.5, -0.6, 10.0, 10.0), (0, -1, 10, 10)),
        ((0.0, 0.0, 0.2, 0.2), (0, 0, 1, 1)),
        ((0.0, 0.0, 10.49, 10.48), (0, 0, 10, 10)),
        ((0.49, 0.48, 10.02, 10.04), (0, 0, 11, 11)),
    ],
)
def test_edges_of_a_window_are_rounded(xywh: tuple[float, ...], expected: tuple[int, ...]) -> None:
    window = Window.around(xywh)
    assert (window.left, window.top, window.width, window.height) == expected


def test_logits_of_half_precision_have_the_boxes_of_their_values() -> None:
    half: Any = np.random.default_rng(3).standard_normal((2, SIZE, SIZE)).astype(np.float16)
    windows = np.array([[3, 4, 20, 21], [-5, 2, 30, 31]], np.float32)
    found = np.empty((2, 2, 4), np.float32)
    for logits, boxes in zip((half, half.astype(np.float32)), found, strict=True):
        cpu.mask_boxes(
            logits,
            windows,
            np.array([2], np.int32),
            boxes,
            threshold=1.2,
            image_height=40,
            image_width=50,
        )
    assert found[0].all(axis=1).any()
    np.testing.assert_array_equal(found[0], found[1])
