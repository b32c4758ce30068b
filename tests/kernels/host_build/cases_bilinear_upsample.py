# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.library import launch

from foveate.kernels.mask_boxes import reference
from foveate.kernels.mask_boxes.reference import tight_box
from foveate.kernels.plugins.bilinear_upsample import reference as upsampling

Arrays = np.ndarray[Any, Any]
PASTE, MAP = "foveate_launch_paste_windows", "foveate_launch_upsample_map"


def paste(
    logits: Arrays,
    geometry: Arrays,
    height: int,
    width: int,
    *,
    threshold: float = 0.0,
    columns: int | None = None,
) -> tuple[Arrays, Arrays, Arrays]:
    """Return the masks (K, height, width), areas and boxes."""
    windows, size = logits.shape[:2]
    words = -(-width // 32)
    bits = np.full((windows, height, words), 0x5A5A5A5A, np.int32)
    areas, boxes = np.full(windows, 77, np.int32), np.full((windows, 4), np.nan, np.float32)
    scratch = np.full(windows * -(-height // 64) * 5, 0x5A5A5A5A, np.int32)
    seen = None if columns is None else np.array([columns], np.int64)
    arrays = (logits, geometry, seen, bits, areas, boxes, scratch)
    numbers = (windows, size, height, width, threshold)
    kind = int(logits.dtype == np.float16)
    assert launch("bilinear_upsample", PASTE, *arrays, *numbers, kind) == 0
    spread = (bits[..., None].view(np.uint32) >> np.arange(32, dtype=np.uint32)) & 1
    masks = spread.reshape(windows, height, words * 32).astype(bool)
    assert not masks[..., width:].any()
    return masks[..., :width], areas, boxes


def check(
    logits: Arrays, geometry: Arrays, height: int, width: int, threshold: float = 0.0
) -> None:
    masks, areas, boxes = paste(logits, geometry, height, width, threshold=threshold)
    for k, mask in enumerate(masks):
        expected, values = reference.paste(
            logits[k], geometry[k].tolist(), threshold, height, width
        )
        clear = np.abs(values - threshold) > 2e-5 * np.abs(logits[k].astype(np.float64)).max()
        assert np.array_equal(mask[clear], expected[clear])
        assert areas[k] == mask.sum()
        assert tuple(boxes[k]) == tight_box(mask)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_random_windows_agree(dtype: Any) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        size, windows = int(rng.integers(1, 20)), int(rng.integers(1, 4))
        logits = rng.standard_normal((windows, size, size)).astype(dtype)
        height, width = int(rng.integers(1, 90)), int(rng.integers(1, 80))
        sides = rng.uniform(0.3, rng.choice([8, 50, 120]), (windows, 2))
        corners = rng.uniform(-30, 60, (windows, 2))
        geometry = np.concatenate([corners, sides], 1).astype(np.float32)
        check(logits, geometry, height, width, float(rng.choice([0.0, 0.25])))


def test_an_image_of_more_than_1024_columns() -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((1, 40, 40)).astype(np.float32)
    check(logits, np.array([[500, -9, 900, 40]], np.float32), 20, 1333)


def test_a_window_that_shrinks_too_much_to_be_staged() -> None:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((2, 160, 160)).astype(np.float32)
    check(logits, np.array([[1, 1, 3, 2], [2, 0, 40, 1]], np.float32), 8, 50)


def test_logits_too_wide_to_be_staged() -> None:
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((1, 353, 353)).astype(np.float32)
    check(logits, np.array([[-300, -300, 400, 380]], np.float32), 90, 110)


def test_threshold_is_strict_and_constant_logits_stay_constant() -> None:
    logits = np.full((1, 12, 12), 0.25, np.float32)
    for side in (5, 12, 31):
        geometry = np.array([[0, 0, side, side]], np.float32)
        assert not paste(logits, geometry, 32, 32, threshold=0.25)[0].any()


edges = st.floats(width=32) | st.sampled_from([0.5, -0.5, 262144.0, -262145.0, 1e9, -1e30])


@given(geometry=st.tuples(*[edges] * 4))
@settings(max_examples=100)
def test_any_geometry_has_a_defined_mask(geometry: tuple[float, ...]) -> None:
    logits = np.ones((1, 3, 3), np.float32)
    given = np.array([geometry], np.float32)
    masks, areas, boxes = paste(logits, given, 9, 40)
    x0, y0, width, height = (float(value) for value in given[0])
    with np.errstate(invalid="ignore"):
        corners = np.floor(np.array([x0, y0, x0 + width, y0 + height]) + 0.5)
    expected = np.zeros((9, 40), bool)
    if width != 0 and (np.abs(corners) <= 2**18).all():
        left, top, right, bottom = (int(corner) for corner in corners)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        expected[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    assert np.array_equal(masks[0], expected)
    assert areas[0] == expected.sum()
    assert tuple(boxes[0]) == tight_box(expected)


def test_nan_logits_are_ground() -> None:
    logits = np.full((1, 4, 4), np.nan, np.float32)
    assert not paste(logits, np.array([[0, 0, 9, 9]], np.float32), 9, 9)[0].any()


@pytest.mark.parametrize("columns", [-(2**40), -1, 0, 1, 31, 32, 33, 64, 65, 2**40])
def test_columns_that_the_image_lacks_are_clipped(columns: int) -> None:
    rng = np.random.default_rng(4)
    logits = rng.standard_normal((3, 7, 7)).astype(np.float32)
    geometry = np.array([[-5, 3, 90, 70], [20, 0, 40, 30], [60, 2, 9, 9]], np.float32)
    width = min(max(columns, 0), 64)
    expected = paste(logits, geometry, 66, width)
    masks, areas, boxes = paste(logits, geometry, 66, 64, columns=columns)
    assert not masks[..., width:].any()
    for found, want in zip((masks[..., :width], areas, boxes), expected, strict=True):
        assert np.array_equal(found, want)


def test_boxes_alone_need_no_bits() -> None:
    boxes, scratch = np.full((1, 4), np.nan, np.float32), np.zeros(5, np.int32)
    geometry = np.array([[2, 3, 5, 4]], np.float32)
    arrays = (np.ones((1, 3, 3), np.float32), geometry, *[None] * 3, boxes, scratch)
    assert launch("bilinear_upsample", PASTE, *arrays, 1, 3, 20, 20, 0.0, 0) == 0
    assert boxes.tolist() == [[2, 3, 7, 7]]


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_has_empty_masks(height: int, width: int) -> None:
    areas, boxes = np.full(1, 77, np.int32), np.full((1, 4), np.nan, np.float32)
    arrays = (*[None] * 4, areas, boxes, None)
    assert launch("bilinear_upsample", PASTE, *arrays, 1, 3, height, width, 0.0, 0) == 0
    assert not areas.any()
    assert not boxes.any()


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [
        *((i, -1, -2) for i in range(4)),
        (1, 0, -2),
        (4, float("nan"), -3),
        (5, 2, -3),
        (0, 65536, -4),
        (1, 1025, -4),
        (2, 2**18 + 1, -4),
        (0, 0, 0),
        (0, 1, -1),
    ],
)
def test_bad_numbers_of_a_paste(position: int, value: float, expected: int) -> None:
    numbers: list[float] = [1, 3, 9, 9, 0.0, 0]
    numbers[position] = value
    assert launch("bilinear_upsample", PASTE, *[None] * 7, *numbers) == expected


def upsample(
    features: Arrays,
    height: int,
    width: int,
    *,
    align_corners: bool,
    relu: bool = False,
    second: Arrays | None = None,
) -> Arrays:
    grown = np.full((*features.shape[:2], height, width), np.nan, features.dtype)
    arrays = (features, second, grown)
    numbers = (*features.shape, height, width, int(align_corners), int(relu))
    kind = int(features.dtype == np.float16)
    assert launch("bilinear_upsample", MAP, *arrays, *numbers, kind) == 0
    return grown


def assert_close(found: Arrays, expected: Arrays, peak: float) -> None:
    # Half precision rounds the result once more.
    tolerance = 2e-5 if found.dtype == np.float32 else 2**-11 + 2e-5
    assert np.abs(found.astype(np.float64) - expected).max(initial=0) <= tolerance * peak


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("align_corners", [False, True])
def test_random_maps_agree(align_corners: bool, dtype: Any) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        shape = tuple(int(n) for n in rng.integers(1, [3, 4, 14, 14]))
        features = rng.standard_normal(shape).astype(dtype)
        height, width = (int(n) for n in rng.integers(1, 50, 2))
        if seed % 2:
            height, width = 2 * shape[2], 2 * shape[3]
        second = rng.standard_normal(shape).astype(dtype) if seed % 3 else None
        total = features.astype(np.float32)
        if second is not None:
            total = total + second.astype(np.float32)
        relu = bool(seed % 5)
        found = upsample(
            features, height, width, align_corners=align_corners, relu=relu, second=second
        )
        expected = upsampling.upsample(total, height, width, align_corners=align_corners, relu=relu)
        assert_close(found, expected, max(float(np.abs(total).max()), 1e-3))


def test_maps_in_bands_and_read_directly_agree() -> None:
    rng = np.random.default_rng(0)
    for shape, height, width in (((1, 2, 40, 90), 83, 181), ((1, 1, 90, 700), 11, 40)):
        features = rng.standard_normal(shape).astype(np.float32)
        for align_corners in (False, True):
            found = upsample(features, height, width, align_corners=align_corners)
            expected = upsampling.upsample(features, height, width, align_corners=align_corners)
            assert_close(found, expected, float(np.abs(features).max()))


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [
        *((i, -1, -2) for i in range(6)),
        (2, 0, -2),
        (6, 2, -3),
        (7, 2, -3),
        (8, 2, -3),
        (5, 4097, -4),
        (4, 2**30, -4),
        (0, 0, 0),
        (4, 0, 0),
        (0, 1, -1),
    ],
)
def test_bad_numbers_of_a_map(position: int, value: int, expected: int) -> None:
    numbers = [1, 1, 2, 2, 4, 4, 0, 0, 0]
    numbers[position] = value
    arrays: list[Any] = [None] * 3
    if expected == -4:
        arrays[0] = arrays[2] = np.zeros(64, np.float32)
    assert launch("bilinear_upsample", MAP, *arrays, *numbers) == expected
