# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.images.resampling import resample
from foveate.kernels.letterbox import cpu, reference
from foveate.kernels.letterbox.taps import BLENDED, HALVED, resampling_of

NORMALIZATION: dict[str, Any] = {
    "mean": (127.0, 100.0, 90.0),
    "std": (128.0, 64.0, 32.0),
    "fill": 127,
}


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


sides = st.integers(1, 24)


@given(height=sides, width=sides, scale=st.floats(0.1, 3.0), seed=st.integers(0, 9))
@settings(max_examples=60)
def test_resize_agrees_with_reference(height: int, width: int, scale: float, seed: int) -> None:
    image = image_of(height, width, seed)
    new = [max(1, int(scale * side + 0.5)) for side in (height, width)]
    resized = np.empty((*new, 3), np.uint8)
    cpu.resize(image, resized)
    expected = reference.resize(image, *new)
    assert np.abs(resized - expected).max() <= 1.0  # rounding, of which OpenCV does some early


@given(height=sides, width=sides, scale=st.floats(0.2, 2.0), border=st.integers(0, 20))
@settings(max_examples=40)
def test_letterbox_agrees_with_reference(
    height: int, width: int, scale: float, border: int
) -> None:
    image = image_of(height, width)
    rows, columns = (max(1, int(scale * side + 0.5)) for side in (height, width))
    canvas = np.full((1, 3, rows + 2 * border + 5, columns + 2 * border + 3), np.nan, np.float32)
    cpu.letterbox(image, [canvas], sizes=[(rows, columns)], border=border, **NORMALIZATION)
    expected = reference.letterbox(
        image, *canvas.shape[2:], height=rows, width=columns, border=border, **NORMALIZATION
    )
    tolerance = 1.001 / np.array(NORMALIZATION["std"])[:, None, None]
    assert (np.abs(canvas[0] - expected[0]) <= tolerance).all()


def test_letterbox_without_resampling_is_exact() -> None:
    image = image_of(5, 7)
    canvas = np.empty((1, 3, 9, 12), np.float32)
    cpu.letterbox(image, [canvas], sizes=[(5, 7)], border=2, **NORMALIZATION)
    expected = reference.letterbox(image, 9, 12, height=5, width=7, border=2, **NORMALIZATION)
    assert np.array_equal(canvas, expected.astype(np.float32))


def test_levels_are_placed_each_on_its_canvas() -> None:
    image = image_of(9, 13)
    shapes, sizes = [(9, 14), (17, 23), (12, 15)], [(5, 8), (12, 19), (9, 13)]
    canvases = [np.empty((1, 3, *shape), np.float32) for shape in shapes]
    cpu.letterbox(image, canvases, sizes=sizes, border=1, **NORMALIZATION)
    for canvas, size in zip(canvases, sizes, strict=True):
        alone = np.empty_like(canvas)
        cpu.letterbox(image, [alone], sizes=[size], border=1, **NORMALIZATION)
        np.testing.assert_array_equal(canvas, alone)


def test_a_canvas_of_half_precision_holds_the_rounded_values() -> None:
    image = image_of(9, 13)
    half, single = (np.empty((1, 3, 17, 23), dtype) for dtype in (np.float16, np.float32))
    for canvas in (half, single):
        cpu.letterbox(image, [canvas], sizes=[(12, 19)], border=2, **NORMALIZATION)
    np.testing.assert_array_equal(half, single.astype(np.float16))


def resample_by_taps(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample an image as the kernels do, one pixel at a time."""
    resampling = resampling_of(image.shape[:2], (height, width))
    assert resampling.taps.nbytes == 20 * (height + width)
    result = np.empty((height, width, 3), np.uint8)
    for y, down in enumerate(resampling.rows.tolist()):
        for x, across in enumerate(resampling.columns.tolist()):
            if resampling.method == BLENDED:
                quarters = sum(
                    int(b) * (blended_row(image[s], across) >> 4) >> 16 for s, b in ends(down)
                )
                result[y, x] = (quarters + 2) >> 2
                continue
            value = np.zeros(3, np.float32)
            for row, beta in parts(down):
                line = np.zeros(3, np.float32)
                for column, alpha in parts(across):
                    line += image[row, column] * np.float32(alpha)
                value += line * np.float32(beta)
            value *= resampling.scale
            whole = np.floor(value + 0.5) if resampling.method == HALVED else np.rint(value)
            result[y, x] = np.clip(whole, 0, 255)
    return result


Tap = tuple[int, int, float, float, float]  # first, last, low, middle, high


def ends(tap: Tap) -> list[tuple[int, float]]:
    return [(tap[0], tap[2]), (tap[1], tap[4])]


def blended_row(row: np.ndarray, across: Tap) -> np.ndarray:
    total: np.ndarray = sum(row[s].astype(np.int64) * int(a) for s, a in ends(across))
    return total


def parts(tap: Tap) -> list[tuple[int, float]]:
    first, last, low, middle, high = tap
    rest = [(sample, middle) for sample in range(first + 1, last)]
    return [(first, low), *rest, *([(last, high)] if last > first else [])]


@given(height=sides, width=sides, scale=st.floats(0.1, 3.0), seed=st.integers(0, 9))
@settings(max_examples=60)
def test_taps_give_the_bytes_of_opencv(height: int, width: int, scale: float, seed: int) -> None:
    image = image_of(height, width, seed)
    new = [max(1, int(scale * side + 0.5)) for side in (height, width)]
    np.testing.assert_array_equal(resample_by_taps(image, *new), resample(image, *new))


@pytest.mark.parametrize(("old", "new"), [(102, 101), (640, 637), (1201, 401)])
def test_taps_of_long_sides_give_the_bytes_of_opencv(old: int, new: int) -> None:
    # Only these have samples that are covered by a hundredth and less, some of which OpenCV ignores.
    image = image_of(old, 3) // 128 * 255
    np.testing.assert_array_equal(resample_by_taps(image, new, 3), resample(image, new, 3))


@pytest.mark.parametrize("factors", [(2, 2), (2, 1), (3, 2), (4, 4)])
def test_sums_of_whole_factors_round_as_in_opencv(factors: tuple[int, int]) -> None:
    image = image_of(5 * factors[0], 7 * factors[1]) // 64
    np.testing.assert_array_equal(resample_by_taps(image, 5, 7), resample(image, 5, 7))


@pytest.mark.parametrize(("old", "new"), [(5, 5), (3, 8), (8, 3), (1, 4), (4, 1)])
def test_reference_weights_sum_to_one(old: int, new: int) -> None:
    assert reference.axis_weights(old, new).sum(axis=1) == pytest.approx(1)
