# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.library import launch

from foveate.kernels.plugins.bilinear_upsample.reference import corner_weights
from foveate.kernels.pyramid import host, reference

Arrays = np.ndarray[Any, Any]
PLACE, RESIZE = "foveate_launch_pyramid_place", "foveate_launch_pyramid_resize"
MEAN, STD, FILL = (127.0, 100.0, 90.0), (128.0, 64.0, 32.0), 127
TABLE = ((np.arange(256) - np.array(MEAN)[:, None]) / np.array(STD)[:, None]).astype(np.float32)
Level = tuple[int, int, int, int, int]  # canvas height and width, height, width, border


def place(
    image: Arrays, levels: list[Level], *, corners: bool, to_bytes: bool, dtype: Any = np.float32
) -> list[Arrays]:
    canvases = [np.full((3, level[0], level[1]), np.nan, dtype) for level in levels]
    tiles = [-(-level[0] // 64) * -(-level[1] // 64) for level in levels]
    starts = np.concatenate([[0], np.cumsum(tiles)])
    plan = np.array(
        [(*level, start) for level, start in zip(levels, starts[:-1], strict=True)], np.int32
    )
    numbers = (*image.shape[:2], len(levels), int(starts[-1]), int(corners), int(to_bytes), FILL)
    arrays = (image, canvases, plan, TABLE)
    assert launch("pyramid", PLACE, *arrays, *numbers, int(dtype == np.float16)) == 0
    return canvases


def expected(image: Arrays, level: Level, *, corners: bool) -> Arrays:
    """Return the canvas before normalisation, 0 to 255, (H, W, 3) float64."""
    canvas_height, canvas_width, height, width, border = level
    canvas = np.full((canvas_height, canvas_width, 3), float(FILL))
    if corners:
        rows, columns = (
            corner_weights(len(image), height),
            corner_weights(image.shape[1], width),
        )
        resized = np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns)
    else:
        resized = reference.resize(image, height, width)
    canvas[border : border + height, border : border + width] = resized
    return canvas


def image_of(rng: np.random.Generator, longest: int) -> Arrays:
    shape = (*rng.integers(1, longest, 2), 3)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def levels_of(rng: np.random.Generator, count: int, longest: int) -> list[Level]:
    levels = []
    for _ in range(count):
        height, width = (int(n) for n in rng.integers(1, longest, 2))
        border = int(rng.integers(0, 12))
        right, below = (int(n) for n in rng.integers(0, 9, 2))
        levels.append((height + border + below, width + border + right, height, width, border))
    return levels


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("corners", [False, True])
def test_random_levels_agree(corners: bool, dtype: Any) -> None:
    for seed in range(125):
        rng = np.random.default_rng(seed)
        image, levels = image_of(rng, 45), levels_of(rng, int(rng.integers(1, 4)), 45)
        found = place(image, levels, corners=corners, to_bytes=False, dtype=dtype)
        for canvas, level in zip(found, levels, strict=True):
            values = expected(image, level, corners=corners)
            wanted = ((values - MEAN) / STD).transpose(2, 0, 1)
            peak = 2e-5 * 255 / 32 + (0 if dtype == np.float32 else 2**-11 * np.abs(wanted).max())
            assert np.abs(canvas.astype(np.float64) - wanted).max() <= peak


def test_levels_rounded_to_bytes_are_the_nearest_bytes() -> None:
    for seed in range(125):
        rng = np.random.default_rng(seed)
        image, levels = image_of(rng, 40), levels_of(rng, 2, 30)
        found = place(image, levels, corners=False, to_bytes=True)
        for canvas, level in zip(found, levels, strict=True):
            values = expected(image, level, corners=False)
            for channel in range(3):
                # Each value is one of the table's, of the byte next to the true one.
                byte = np.searchsorted(TABLE[channel], canvas[channel])
                assert np.array_equal(TABLE[channel][byte], canvas[channel])
                assert np.abs(byte - values[..., channel]).max() <= 0.5 + 1e-3


def test_the_own_size_is_bit_equal_to_the_host() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 41, 3), dtype=np.uint8)
    level = (50, 52, 37, 41, 5)
    wanted = np.full((1, 3, 50, 52), np.nan, np.float32)
    host.place(image, wanted, height=37, width=41, border=5, mean=MEAN, std=STD, fill=FILL)
    assert np.array_equal(place(image, [level], corners=False, to_bytes=True)[0], wanted[0])


def resize(image: Arrays, height: int, width: int) -> Arrays:
    resized = np.full((height, width, 3), 77, np.uint8)
    numbers = (*image.shape[:2], height, width, 0)
    assert launch("pyramid", RESIZE, image, resized, *numbers) == 0
    return resized


def test_resized_images_are_the_nearest_bytes() -> None:
    for seed in range(500):
        rng = np.random.default_rng(seed)
        image = image_of(rng, 30)
        height, width = (int(n) for n in rng.integers(1, 45, 2))
        found = resize(image, height, width)
        assert np.abs(found - reference.resize(image, height, width)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("shape", [(700, 900), (3, 9001), (2000, 5), (9000, 3)])
def test_what_needs_too_much_to_be_staged_is_read_directly(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = resize(image, 9, 33)
    assert np.abs(found - reference.resize(image, 9, 33)).max() <= 0.5 + 1e-2


@given(shape=st.tuples(*[st.integers(1, 9)] * 4), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_one_colour_stays_itself(shape: tuple[int, ...], value: int) -> None:
    image = np.full((*shape[:2], 3), value, np.uint8)
    assert (resize(image, *shape[2:]) == value).all()


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [
        *((i, -1, -2) for i in range(4)),
        (0, 0, -2),
        (1, 0, -2),
        (4, 2, -3),
        (5, 2, -3),
        (6, 256, -3),
        (6, -1, -3),
        (7, 2, -3),
        (0, 16385, -4),
        (2, 0, 0),
        (3, 0, 0),
        (0, 1, -1),
    ],
)
def test_bad_numbers_of_a_placement(position: int, value: int, expected: int) -> None:
    numbers = [1, 1, 1, 1, 0, 0, 0, 0]
    numbers[position] = value
    arrays: list[Any] = [None] * 4
    if expected == -4:
        arrays = [np.zeros(4, np.uint8), [np.zeros(4)], np.zeros(6, np.int32), TABLE]
    assert launch("pyramid", PLACE, *arrays, *numbers) == expected


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((-1, 1, 1, 1, 0), -2),
        ((0, 1, 1, 1, 0), -2),
        ((1, 1, 1, 1, 2), -3),
        ((1, 1, 0, 1, 0), 0),
        ((1, 1, 1, 1, 0), -1),
    ],
)
def test_bad_numbers_of_a_resize(numbers: tuple[int, ...], expected: int) -> None:
    assert launch("pyramid", RESIZE, None, None, *numbers) == expected
