# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.driver import host_device
from tests.kernels.running import Array, Outputs, run

from foveate.images.resampling import resample
from foveate.kernels.letterbox.op import LETTERBOX, RESIZE

MEAN, STD, FILL = (127.0, 100.0, 90.0), (128.0, 64.0, 32.0), 127
TABLE = ((np.arange(256) - np.array(MEAN)[:, None]) / np.array(STD)[:, None]).astype(np.float32)
Level = tuple[int, int, int, int, int]  # canvas height and width, height, width, border


def letterbox(image: Array, levels: list[Level], dtype: Any = np.float32) -> list[Array]:
    """Return the canvases (3, H, W) of levels of one border."""
    (border,) = {level[4] for level in levels}
    numbers: dict[str, Any] = {"border": border, "mean": MEAN, "std": STD, "fill": FILL}
    outputs: Outputs = [[((1, 3, *level[:2]), dtype) for level in levels]]
    sizes = [level[2:4] for level in levels]
    canvases = run(host_device(), LETTERBOX, [image], outputs, poison=False, sizes=sizes, **numbers)
    return [canvas[0] for canvas in canvases]


def expected(image: Array, level: Level, dtype: Any = np.float32) -> Array:
    """Return the canvas (3, H, W) of the bytes that OpenCV computes."""
    canvas_height, canvas_width, height, width, border = level
    canvas = np.full((canvas_height, canvas_width, 3), FILL, np.uint8)
    canvas[border : border + height, border : border + width] = resample(image, height, width)
    values = [table[canvas[..., channel]] for channel, table in enumerate(TABLE.astype(dtype))]
    return np.stack(values)


def image_of(rng: np.random.Generator, longest: int) -> Array:
    shape = (*rng.integers(1, longest, 2), 3)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def levels_of(rng: np.random.Generator, longest: int) -> list[Level]:
    border = int(rng.integers(0, 12))
    levels = []
    for _ in range(int(rng.integers(1, 4))):
        height, width = (int(n) for n in rng.integers(1, longest, 2))
        right, below = (int(n) for n in rng.integers(0, 9, 2))
        levels.append((height + border + below, width + border + right, height, width, border))
    return levels


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_levels_are_those_of_opencv(dtype: Any) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        image, levels = image_of(rng, 45), levels_of(rng, 45)
        for level, canvas in zip(levels, letterbox(image, levels, dtype), strict=True):
            assert np.array_equal(canvas, expected(image, level, dtype)), (seed, level)


def test_the_own_size_is_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 41, 3), dtype=np.uint8)
    canvas = np.full((50, 52, 3), FILL, np.uint8)
    canvas[5:42, 5:46] = image
    wanted = ((canvas - np.array(MEAN)) / STD).transpose(2, 0, 1).astype(np.float32)
    assert np.array_equal(letterbox(image, [(50, 52, 37, 41, 5)])[0], wanted)


def resize(image: Array, height: int, width: int) -> Array:
    outputs = [((height, width, 3), np.uint8)]
    (resized,) = run(host_device(), RESIZE, [image], outputs, poison=False)
    return resized


def test_resized_images_are_those_of_opencv() -> None:
    for seed in range(150):
        rng = np.random.default_rng(seed)
        image = image_of(rng, 30)
        height, width = (int(n) for n in rng.integers(1, 45, 2))
        assert np.array_equal(resize(image, height, width), resample(image, height, width)), seed


@pytest.mark.parametrize(
    "factors", [(2, 2), (2, 1), (1, 2), (2, 3), (3, 3), (4, 4), (5, 7), (8, 8)]
)
def test_whole_factors_round_as_opencv(factors: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 4, (6 * factors[0], 9 * factors[1], 3), dtype=np.uint8)
    assert np.array_equal(resize(image, 6, 9), resample(image, 6, 9))


@pytest.mark.parametrize("size", [(85, 113), (339, 453), (679, 905)])
def test_levels_of_a_large_image_are_those_of_opencv(size: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    assert np.array_equal(resize(image, *size), resample(image, *size))


@pytest.mark.parametrize("shape", [(700, 900), (3, 9001), (2000, 5), (9000, 3)])
def test_an_area_too_large_to_be_staged_is_read_directly(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert np.array_equal(resize(image, 9, 33), resample(image, 9, 33))


@given(shape=st.tuples(*[st.integers(1, 9)] * 4), value=st.integers(0, 255))
@settings(max_examples=100)
def test_one_color_stays_itself(shape: tuple[int, ...], value: int) -> None:
    image = np.full((*shape[:2], 3), value, np.uint8)
    assert (resize(image, *shape[2:]) == value).all()
