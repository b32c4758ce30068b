# SPDX-License-Identifier: Apache-2.0
"""The compiled map mode of bilinear upsampling against a float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.plugin_ops import UPSAMPLE_MAP, upsample_bands
from tests.kernels.running import Array
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.kernels.plugins.bilinear_upsample.reference import upsample

KERNELS = {"f32x4": "f4", "f32x1": "f4", "f16x8": "f2", "f16x1": "f2"}


def run(
    gpu: SimulatedGpu,
    suffix: str,
    maps: Array,
    size: tuple[int, int],
    *,
    align_corners: bool = False,
    relu: bool = False,
    second: Array | None = None,
) -> tuple[Array, Counters]:
    """Upsample maps (N, C, H, W). Return maps (N, C, *size), and the counts."""
    inputs, numbers = [maps, second], {"align_corners": align_corners, "relu": relu}
    outputs = [((*maps.shape[:2], *size), maps.dtype)]
    (grown,), counters = gpu.run(UPSAMPLE_MAP, inputs, outputs, **numbers)
    return grown, counters[f"foveate_upsample_map_{suffix}"]


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
    gpu: SimulatedGpu, suffix: str, align_corners: bool
) -> None:
    for shape, size in SIZES[suffix]:
        maps = drawn(suffix, *shape)
        found, _ = run(gpu, suffix, maps, size, align_corners=align_corners)
        close(found, upsample(maps, *size, align_corners=align_corners))


@pytest.mark.parametrize("suffix", ["f32x4", "f16x8"])
def test_a_second_map_is_added_before_relu(gpu: SimulatedGpu, suffix: str) -> None:
    maps, second = drawn(suffix, 2, 3, 6, 8), drawn(suffix, 2, 3, 6, 8)[::-1].copy()
    found, _ = run(gpu, suffix, maps, (12, 16), relu=True, second=second)
    total = maps.astype(np.float32) + second.astype(np.float32)
    close(found, upsample(total, 12, 16, align_corners=False, relu=True))


def test_maps_that_do_not_fit_into_shared_memory_are_read_directly(gpu: SimulatedGpu) -> None:
    maps = drawn("f32x4", 1, 1, 3, 4096)
    assert upsample_bands(3, 4096, 8, 64)[1] == 0
    found, _ = run(gpu, "f32x4", maps, (8, 64))
    close(found, upsample(maps, 8, 64, align_corners=False))


@pytest.mark.parametrize("suffix", ["f32x4", "f16x8"])
@pytest.mark.parametrize("side", [28, 56])
def test_upsampling_moves_little_more_than_its_maps(
    gpu: SimulatedGpu, suffix: str, side: int
) -> None:
    maps = drawn(suffix, 1, 4, side, side)
    found, counters = run(gpu, suffix, maps, (2 * side, 2 * side))
    assert counters.bytes_moved <= 1.25 * (maps.nbytes + found.nbytes)
    assert counters.loads.excess <= 1.25
    assert counters.stores.sectors * 32 == found.nbytes
