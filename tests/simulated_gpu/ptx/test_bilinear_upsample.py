# SPDX-License-Identifier: Apache-2.0
"""The compiled map mode of bilinear upsampling against a float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.upsampling import upsample_plan
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Allocation, Array

from foveate.kernels.plugins.bilinear_upsample.reference import upsample

KERNELS = {"f32x4": "f4", "f32x1": "f4", "f16x8": "f2", "f16x1": "f2"}


def run(
    device: Device,
    suffix: str,
    maps: Array,
    size: tuple[int, int],
    *,
    align_corners: bool = False,
    relu: bool = False,
    second: Array | None = None,
    pyramid: tuple[list[Array], Array, int] | None = None,
) -> tuple[Array, Counters]:
    """Maps (N, C, H, W); `pyramid`: maps, picks and step. Return (N, C, *size), and the counts."""
    count, channels, height, width = maps.shape
    band_rows, stage_rows = upsample_plan(height, width, *size)
    output = device.empty((count, channels, *size), str(maps.dtype), "output")
    places: dict[str, Allocation | None] = dict.fromkeys(("maps", "shapes", "picks"))
    if pyramid is not None:
        shapes = np.array([m.shape[2:] for m in pyramid[0]], np.int32)
        places = {
            "maps": device.pointers([device.upload(m, "level") for m in pyramid[0]]),
            "shapes": device.upload(shapes, "shapes"),
            "picks": device.upload(pyramid[1].astype(np.int32), "picks"),
        }
    counters = device.launch(
        f"upsample_map_{suffix}",
        input=device.upload(maps, "input"),
        second=None if second is None else device.upload(second, "second"),
        **places,
        output=output,
        planes=count * channels,
        channels=channels,
        height=height,
        width=width,
        out_height=size[0],
        out_width=size[1],
        align_corners=int(align_corners),
        relu=int(relu),
        levels=len(pyramid[0]) if pyramid else 0,
        step=pyramid[2] if pyramid else 0,
        band_rows=band_rows,
        stage_rows=stage_rows,
    )
    assert output.written.all()
    assert counters.threads["local load"] == 0
    return output.array, counters


def close(found: Array, want: Array) -> None:
    """Within 2e-5 of the largest value; float16 adds its own rounding."""
    largest = np.abs(want).max()
    rounding = 2**-11 if found.dtype == np.float16 else 0.0
    error = np.abs(found.astype(np.float64) - want)
    assert error.max() <= (2e-5 + rounding) * largest


def drawn(suffix: str, *shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(KERNELS[suffix])


SIZES = {
    "f32x4": [((2, 3, 7, 9), (14, 18)), ((1, 1, 5, 6), (33, 20)), ((1, 2, 9, 8), (4, 3))],
    "f32x1": [
        ((1, 2, 5, 7), (11, 13)),
        ((1, 1, 1, 1), (5, 3)),
        ((1, 1, 4, 1), (1, 7)),
        ((1, 1, 1, 3), (1, 2)),
    ],
    "f16x8": [((1, 3, 6, 8), (12, 16)), ((2, 1, 7, 5), (21, 40))],
    "f16x1": [((1, 2, 5, 7), (11, 13))],
}


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("suffix", KERNELS)
def test_maps_grow_and_shrink_as_in_the_reference(
    device: Device, suffix: str, align_corners: bool
) -> None:
    for shape, size in SIZES[suffix]:
        maps = drawn(suffix, *shape)
        found, _ = run(device, suffix, maps, size, align_corners=align_corners)
        close(found, upsample(maps, *size, align_corners=align_corners))


@pytest.mark.parametrize("suffix", ["f32x4", "f16x8"])
def test_a_second_map_is_added_before_relu(device: Device, suffix: str) -> None:
    maps, second = drawn(suffix, 2, 3, 6, 8), drawn(suffix, 2, 3, 6, 8)[::-1].copy()
    found, _ = run(device, suffix, maps, (12, 16), relu=True, second=second)
    total = maps.astype(np.float32) + second.astype(np.float32)
    close(found, upsample(total, 12, 16, align_corners=False, relu=True))


def test_the_second_map_is_read_in_place_from_a_pyramid(device: Device) -> None:
    maps = drawn("f32x4", 4, 2, 4, 4)
    levels = [drawn("f32x4", 1, 2, *s) for s in ((9, 11), (5, 6))]
    picks = np.array([[0, 1, 2], [1, 0, 1], [-1, 0, 0], [1, 1, 2]])
    found, _ = run(device, "f32x4", maps, (8, 8), relu=True, pyramid=(levels, picks, 2))
    total = maps.copy()
    for patch, (level, row, column) in zip(total, picks.tolist(), strict=True):
        if level >= 0:
            window = levels[level][0][:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            patch[:, : window.shape[1], : window.shape[2]] += window
    close(found, upsample(total, 8, 8, align_corners=False, relu=True))


def test_maps_that_do_not_fit_into_shared_memory_are_read_directly(device: Device) -> None:
    maps = drawn("f32x4", 1, 1, 3, 4096)
    assert upsample_plan(3, 4096, 8, 64)[1] == 0
    found, _ = run(device, "f32x4", maps, (8, 64))
    close(found, upsample(maps, 8, 64, align_corners=False))


@pytest.mark.parametrize("suffix", ["f32x4", "f16x8"])
@pytest.mark.parametrize("side", [28, 56])
def test_upsampling_moves_little_more_than_its_maps(device: Device, suffix: str, side: int) -> None:
    maps = drawn(suffix, 1, 4, side, side)
    found, counters = run(device, suffix, maps, (2 * side, 2 * side))
    moved = (counters.loads.sectors + counters.stores.sectors) * 32
    assert moved <= 1.25 * (maps.nbytes + found.nbytes)
    assert counters.loads.excess <= 1.25
    assert counters.stores.sectors * 32 == found.nbytes
