# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.driver import host_device
from tests.kernels.running import Array, run

from foveate.kernels.letterbox import reference
from foveate.kernels.letterbox.op import LETTERBOX, RESIZE

MEAN, STD, FILL = (127.0, 100.0, 90.0), (128.0, 64.0, 32.0), 127
TABLE = ((np.arange(256) - np.array(MEAN)[:, None]) / np.array(STD)[:, None]).astype(np.float32)
Level = tuple[int, int, int, int, int]  # canvas height and width, height, width, border


def letterbox(image: Array, level: Level, dtype: Any = np.float32) -> Array:
    outputs = [((1, 3, *level[:2]), dtype)]
    numbers = {"height": level[2], "width": level[3], "border": level[4]}
    normalization: dict[str, Any] = {"mean": MEAN, "std": STD, "fill": FILL}
    (canvases,) = run(
        host_device(), LETTERBOX, [image], outputs, poison=False, **numbers, **normalization
    )
    canvas: Array = canvases[0]
    return canvas


def expected(image: Array, level: Level) -> Array:
    """Return the canvas before normalization, 0 to 255, (H, W, 3) float64."""
    canvas_height, canvas_width, height, width, border = level
    canvas = np.full((canvas_height, canvas_width, 3), float(FILL))
    resized = reference.resize(image, height, width)
    canvas[border : border + height, border : border + width] = resized
    return canvas


def image_of(rng: np.random.Generator, longest: int) -> Array:
    shape = (*rng.integers(1, longest, 2), 3)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def level_of(rng: np.random.Generator, longest: int) -> Level:
    height, width = (int(n) for n in rng.integers(1, longest, 2))
    border = int(rng.integers(0, 12))
    right, below = (int(n) for n in rng.integers(0, 9, 2))
    return (height + border + below, width + border + right, height, width, border)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_levels_are_the_nearest_bytes(dtype: Any) -> None:
    table = TABLE.astype(dtype)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        image, level = image_of(rng, 45), level_of(rng, 45)
        canvas, values = letterbox(image, level, dtype), expected(image, level)
        for channel in range(3):
            # Each value is one of the table's, of the byte next to the true one.
            byte = np.searchsorted(table[channel], canvas[channel])
            assert np.array_equal(table[channel][byte], canvas[channel])
            assert np.abs(byte - values[..., channel]).max() <= 0.5 + 1e-3


def test_the_own_size_is_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 41, 3), dtype=np.uint8)
    level = (50, 52, 37, 41, 5)
    wanted = ((expected(image, level) - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)
    assert np.array_equal(letterbox(image, level), wanted)


def resize(image: Array, height: int, width: int) -> Array:
    outputs = [((height, width, 3), np.uint8)]
    (resized,) = run(host_device(), RESIZE, [image], outputs, poison=False)
    return resized


def test_resized_images_are_the_nearest_bytes() -> None:
    for seed in range(500):
        rng = np.random.default_rng(seed)
        image = image_of(rng, 30)
        height, width = (int(n) for n in rng.integers(1, 45, 2))
        found = resize(image, height, width)
        assert np.abs(found - reference.resize(image, height, width)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("shape", [(700, 900), (3, 9001), (2000, 5), (9000, 3)])
def test_an_area_too_large_to_be_staged_is_read_directly(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = resize(image, 9, 33)
    assert np.abs(found - reference.resize(image, 9, 33)).max() <= 0.5 + 1e-2


@given(shape=st.tuples(*[st.integers(1, 9)] * 4), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_one_colour_stays_itself(shape: tuple[int, ...], value: int) -> None:
    image = np.full((*shape[:2], 3), value, np.uint8)
    assert (resize(image, *shape[2:]) == value).all()
