# SPDX-License-Identifier: Apache-2.0
"""The compiled cropping of patches against its reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.running import Array, Inputs
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.kernels.crop_features.op import CROP_FEATURES
from foveate.kernels.crop_features.reference import crop_features

KERNELS = {
    "f32x4": ("f4", 4, 4),
    "f32x1": ("f4", 3, 5),
    "f16x8": ("f2", 2, 4),
    "f16x1": ("f2", 3, 3),
}


def crop(
    gpu: SimulatedGpu, suffix: str, maps: list[Array], indices: Array, size: int, step: int
) -> tuple[Array, Counters]:
    """Maps (1, C, H, W); return patches (K, C, size, size), and the counts."""
    outputs = [((len(indices), maps[0].shape[1], size, size), maps[0].dtype)]
    inputs: Inputs = [maps, indices.astype(np.int32)]
    (patches,), counters = gpu.run(CROP_FEATURES, inputs, outputs, step=step)
    return patches, counters[f"foveate_crop_features_{suffix}"]


@pytest.mark.parametrize("suffix", KERNELS)
def test_patches_equal_the_reference(gpu: SimulatedGpu, suffix: str) -> None:
    dtype, channels, size = KERNELS[suffix]
    generator = np.random.default_rng(0)
    sides = [(9, 13), (size, size), (11, 7)]
    maps = [generator.standard_normal((1, channels, *s)).astype(dtype) for s in sides]
    indices = [[0, 2, 4], [1, 0, 0], [2, 1, 0], [-1, 0, 0], [0, 0, 0], [-1, -1, -1]]
    found, _ = crop(gpu, suffix, maps, np.array(indices), size, 1)
    np.testing.assert_array_equal(found, crop_features(maps, np.array(indices), size, 1))


def test_what_lies_outside_of_a_map_is_zero(gpu: SimulatedGpu) -> None:
    maps = [np.random.default_rng(1).standard_normal((1, 2, 5, 6)).astype(np.float32)]
    indices = np.array([[0, 2, 2], [0, -1, 0], [0, 9, 0], [0, 0, 2**30], [7, 0, 0], [0, 1, -2]])
    found, _ = crop(gpu, "f32x4", maps, indices, 4, 2)
    padded = np.zeros((2, 40, 40), np.float32)
    padded[:, 10:15, 10:16] = maps[0][0]
    for patch, (level, row, column) in zip(found, indices.tolist(), strict=True):
        top, left = 10 + 2 * row, 10 + 2 * column
        near = level == 0 and 0 <= top < 36 and 0 <= left < 36
        want = padded[:, top : top + 4, left : left + 4] if near else np.zeros((2, 4, 4))
        np.testing.assert_array_equal(patch, want)


def test_bits_are_moved_and_not_numbers(gpu: SimulatedGpu) -> None:
    bits = np.array([0x7F800001, 0xFFC12345, 0x80000000, 1], np.uint32)
    maps = [bits.view(np.float32).reshape(1, 1, 2, 2)]
    found, _ = crop(gpu, "f32x4", maps, np.array([[0, 0, 0]]), 2, 1)
    np.testing.assert_array_equal(found.view(np.uint32).ravel(), bits)


def test_patches_are_written_once_in_whole_sectors(gpu: SimulatedGpu) -> None:
    maps = [np.ones((1, 16, 40, 40), np.float32)]
    indices = np.array([[0, i, 2 * i] for i in range(8)])
    found, counters = crop(gpu, "f32x4", maps, indices, 16, 1)
    assert counters.stores.excess == 1
    assert counters.stores.sectors * 32 == found.nbytes == counters.bytes_written
