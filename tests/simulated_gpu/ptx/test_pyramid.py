# SPDX-License-Identifier: Apache-2.0
"""The compiled pyramid against a float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Array

from foveate.kernels.plugins.bilinear_upsample.reference import corner_weights
from foveate.kernels.pyramid.reference import axis_weights

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Level = tuple[int, int, int, int, int]  # canvas height and width, height and width, border


def image(height: int, width: int) -> Array:
    drawn = np.random.default_rng(height).integers(0, 256, (height, width, 3))
    return drawn.astype(np.uint8)


def resample(original: Array, height: int, width: int, resampling: int) -> Array:
    weights = corner_weights if resampling else axis_weights
    rows, columns = weights(original.shape[0], height), weights(original.shape[1], width)
    return np.asarray(np.einsum("ih,hwc,jw->ijc", rows, original.astype(np.float64), columns))


def place(
    device: Device,
    original: Array,
    levels: list[Level],
    dtype: str,
    *,
    resampling: int,
    to_bytes: int,
) -> tuple[list[Array], Counters]:
    """Return the canvases (3, H, W), and the counts."""
    table = ((np.arange(256) / 255 - MEAN[:, None]) / STD[:, None]).astype(np.float32)
    canvases = [
        device.empty((3, *level[:2]), dtype, f"canvas {i}") for i, level in enumerate(levels)
    ]
    blocks = [-(-level[0] // 64) * -(-level[1] // 64) for level in levels]
    starts = np.cumsum([0, *blocks])
    plan = [[*level, int(start)] for level, start in zip(levels, starts[:-1], strict=True)]
    counters = device.launch(
        f"pyramid_place_{'f16' if dtype == 'float16' else 'f32'}",
        image=device.upload(original, "image"),
        canvases=device.pointers(canvases),
        plan=device.upload(np.array(plan, np.int32), "plan"),
        table=device.upload(table, "table"),
        image_height=original.shape[0],
        image_width=original.shape[1],
        levels=len(levels),
        blocks=int(starts[-1]),
        resampling=resampling,
        to_bytes=to_bytes,
        fill=104,
    )
    assert all(canvas.written.all() for canvas in canvases)
    assert counters.threads["local load"] == 0
    return [canvas.array for canvas in canvases], counters


def wanted(original: Array, level: Level, resampling: int) -> Array:
    canvas = np.full((level[0], level[1], 3), 104.0)
    border = level[4]
    resized = resample(original, level[2], level[3], resampling)
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
    original = image(37, 53)
    found, _ = place(device, original, LEVELS, dtype, resampling=resampling, to_bytes=0)
    for canvas, level in zip(found, LEVELS, strict=True):
        want = wanted(original, level, resampling)
        rounding = 2**-11 if dtype == "float16" else 0.0
        error = np.abs(canvas.astype(np.float64) - want)
        assert error.max() <= (2e-5 + rounding) * np.abs(want).max()


def test_bytes_are_rounded_as_on_the_host(device: Device) -> None:
    original = image(37, 53)
    (found,), _ = place(device, original, LEVELS[:1], "float32", resampling=0, to_bytes=1)
    exact = wanted(original, LEVELS[0], 0) * STD[:, None, None] + MEAN[:, None, None]
    shown = (found * STD[:, None, None] + MEAN[:, None, None]) * 255
    np.testing.assert_allclose(shown, np.rint(shown), atol=1e-3)
    assert np.abs(shown - 255 * exact).max() <= 0.501


def resize(
    device: Device, original: Array, size: tuple[int, int], resampling: int, shift: int = 0
) -> tuple[Array, Counters]:
    """Return the resized image, and the counts; `shift`: see `Memory.upload`."""
    resized = device.empty((*size, 3), "uint8", "resized")
    counters = device.launch(
        "pyramid_resize",
        image=device.upload(original, "image", shift),
        resized=resized,
        image_height=original.shape[0],
        image_width=original.shape[1],
        height=size[0],
        width=size[1],
        resampling=resampling,
    )
    assert resized.written.all()
    return resized.array, counters


@pytest.mark.parametrize("size", [(37, 53), (20, 90), (74, 30), (1, 1), (8, 32), (70, 131)])
def test_resized_images_equal_the_reference(device: Device, size: tuple[int, int]) -> None:
    original = image(37, 53)
    for resampling in (0, 1):
        found, _ = resize(device, original, size, resampling)
        assert np.abs(found - resample(original, *size, resampling)).max() <= 0.5 + 2e-5 * 255


def test_a_row_stays_one(device: Device) -> None:
    original = image(1, 9)
    for resampling in (0, 1):
        found, _ = resize(device, original, (1, 5), resampling)
        assert np.abs(found - resample(original, 1, 5, resampling)).max() <= 0.5 + 2e-5 * 255


@pytest.mark.parametrize("shift", [1, 6, 15])
def test_an_image_may_lie_at_any_address(device: Device, shift: int) -> None:
    original = image(9, 23)
    found, _ = resize(device, original, (11, 30), 0, shift)
    assert np.abs(found - resample(original, 11, 30, 0)).max() <= 0.5 + 2e-5 * 255


def test_a_row_that_does_not_fit_into_shared_memory_is_read_directly(device: Device) -> None:
    original = image(2, 7001)
    (found,), _ = place(device, original, [(8, 8, 4, 4, 2)], "float32", resampling=1, to_bytes=0)
    want = wanted(original, (8, 8, 4, 4, 2), 1)
    assert np.abs(found - want).max() <= 2e-5 * np.abs(want).max()


@pytest.mark.parametrize("to_bytes", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_launch_moves_little_more_than_the_image_a_level_and_the_canvases(
    device: Device, dtype: str, to_bytes: int
) -> None:
    original = image(127, 159)
    levels: list[Level] = [(192, 256, 179, 224, 4), (128, 160, 127, 159, 0), (64, 96, 60, 80, 2)]
    found, counters = place(device, original, levels, dtype, resampling=0, to_bytes=to_bytes)
    written = sum(canvas.nbytes for canvas in found)
    assert counters.stores.sectors * 32 == written
    assert counters.loads.excess <= 1.25
    assert counters.bytes_read + counters.bytes_written <= 1.25 * (original.nbytes + written)
    moved = (counters.loads.sectors + counters.stores.sectors) * 32
    assert moved <= 1.25 * (len(levels) * original.nbytes + written)


@pytest.mark.parametrize(
    ("size", "most"), [((64, 96), 1.25), ((128, 160), 1.25), ((64, 95), 1.4), ((128, 191), 1.4)]
)
def test_resizing_moves_little_more_than_both_images(
    device: Device, size: tuple[int, int], most: float
) -> None:
    original = image(128, 160)
    found, counters = resize(device, original, size, 0)
    moved = (counters.loads.sectors + counters.stores.sectors) * 32
    # Rows of a width that is no multiple of 32 start and end within a sector.
    assert moved <= most * (original.nbytes + found.nbytes)
