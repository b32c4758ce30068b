# SPDX-License-Identifier: Apache-2.0
"""The compiled pyramid against a float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ptx.counters import Counters
from tests.ptx.device import Device
from tests.ptx.memory import Array

from foveate.kernels.bilinear_upsample.reference import corner_weights
from foveate.kernels.pyramid.reference import axis_weights

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Level = tuple[int, int, int, int, int]  # canvas height and width, height and width, border


def picture(height: int, width: int) -> Array:
    drawn = np.random.default_rng(height).integers(0, 256, (height, width, 3))
    return drawn.astype(np.uint8)


def resample(image: Array, height: int, width: int, resampling: int) -> Array:
    weights = corner_weights if resampling else axis_weights
    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.asarray(np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns))


def place(
    device: Device, image: Array, levels: list[Level], dtype: str, *, resampling: int, to_bytes: int
) -> tuple[list[Array], Counters]:
    """Return the canvases (3, H, W), and the counts."""
    table = ((np.arange(256) / 255 - MEAN[:, None]) / STD[:, None]).astype(np.float32)
    canvases = [
        device.empty((3, *level[:2]), dtype, f"canvas {i}") for i, level in enumerate(levels)
    ]
    blocks = [-(-level[0] // 8) * -(-level[1] // 32) for level in levels]
    starts = np.cumsum([0, *blocks])
    plan = [[*level, int(start)] for level, start in zip(levels, starts[:-1], strict=True)]
    counters = device.launch(
        f"pyramid_place_{'f16' if dtype == 'float16' else 'f32'}",
        picture=device.upload(image, "picture"),
        canvases=device.pointers(canvases),
        plan=device.upload(np.array(plan, np.int32), "plan"),
        table=device.upload(table, "table"),
        picture_height=image.shape[0],
        picture_width=image.shape[1],
        levels=len(levels),
        blocks=int(starts[-1]),
        resampling=resampling,
        to_bytes=to_bytes,
        fill=104,
    )
    assert all(canvas.written.all() for canvas in canvases)
    assert counters.threads["local load"] == 0
    return [canvas.array for canvas in canvases], counters


def wanted(image: Array, level: Level, resampling: int) -> Array:
    canvas = np.full((level[0], level[1], 3), 104.0)
    border = level[4]
    resized = resample(image, level[2], level[3], resampling)
    canvas[border : border + level[2], border : border + level[3]] = resized
    return np.asarray(((canvas / 255 - MEAN) / STD).transpose(2, 0, 1))


LEVELS: list[Level] = [
    (40, 61, 30, 50, 4),
    (21, 33, 21, 33, 0),
    (80, 101, 60, 81, 10),
    (9, 7, 5, 3, 1),
]


@pytest.mark.parametrize("resampling", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_all_levels_equal_the_reference(device: Device, dtype: str, resampling: int) -> None:
    image = picture(37, 53)
    found, _ = place(device, image, LEVELS, dtype, resampling=resampling, to_bytes=0)
    for canvas, level in zip(found, LEVELS, strict=True):
        want = wanted(image, level, resampling)
        rounding = 2**-11 if dtype == "float16" else 0.0
        error = np.abs(canvas.astype(np.float64) - want)
        assert error.max() <= (2e-5 + rounding) * np.abs(want).max()


def test_bytes_are_rounded_as_on_the_host(device: Device) -> None:
    image = picture(37, 53)
    (found,), _ = place(device, image, LEVELS[:1], "float32", resampling=0, to_bytes=1)
    exact = wanted(image, LEVELS[0], 0) * STD[:, None, None] + MEAN[:, None, None]
    shown = (found * STD[:, None, None] + MEAN[:, None, None]) * 255
    np.testing.assert_allclose(shown, np.rint(shown), atol=1e-3)
    assert np.abs(shown - 255 * exact).max() <= 0.501


@pytest.mark.parametrize(("height", "width"), [(37, 53), (20, 90), (74, 30), (1, 1), (8, 32)])
def test_resized_pictures_equal_the_reference(device: Device, height: int, width: int) -> None:
    image = picture(37, 53)
    for resampling in (0, 1):
        resized = device.empty((height, width, 3), "uint8", "resized")
        device.launch(
            "pyramid_resize",
            picture=device.upload(image, "picture"),
            resized=resized,
            picture_height=37,
            picture_width=53,
            height=height,
            width=width,
            resampling=resampling,
        )
        assert resized.written.all()
        exact = resample(image, height, width, resampling)
        assert np.abs(resized.array - exact).max() <= 0.5 + 2e-5 * 255


def test_a_tile_that_does_not_fit_into_shared_memory_is_read_directly(device: Device) -> None:
    image = picture(100, 90)
    (found,), _ = place(device, image, [(8, 8, 4, 4, 2)], "float32", resampling=0, to_bytes=0)
    want = wanted(image, (8, 8, 4, 4, 2), 0)
    assert np.abs(found - want).max() <= 2e-5 * np.abs(want).max()


def test_the_picture_is_read_and_the_canvases_are_written_little_more_than_once(
    device: Device,
) -> None:
    image = picture(96, 128)
    levels: list[Level] = [(96, 128, 96, 128, 0), (136, 192, 136, 181, 0)]
    found, counters = place(device, image, levels, "float32", resampling=0, to_bytes=0)
    written = sum(canvas.nbytes for canvas in found)
    assert counters.stores.sectors * 32 == written
    assert counters.loads.excess <= 1.25
    assert counters.bytes_read + counters.bytes_written <= 1.25 * (image.nbytes + written)
    # Each level stages the picture once; the table's numbers, the same for a warp, come on top.
    assert counters.loads.sectors * 32 <= 1.5 * (len(levels) * image.nbytes + written)
