# SPDX-License-Identifier: Apache-2.0
"""The compiled gathering of patches against its reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Array

from foveate.kernels.gather_windows.reference import gather_windows

KERNELS = {
    "f32x4": ("f4", 4, 4),
    "f32x1": ("f4", 3, 5),
    "f16x8": ("f2", 2, 4),
    "f16x1": ("f2", 3, 3),
}


def gather(
    device: Device, suffix: str, maps: list[Array], picks: Array, size: int, step: int
) -> tuple[Array, Counters]:
    """Maps (1, C, H, W); return patches (K, C, size, size), and the counts."""
    channels = maps[0].shape[1]
    patches = device.empty((len(picks), channels, size, size), str(maps[0].dtype), "patches")
    shapes = np.array([m.shape[2:] for m in maps], np.int32)
    counters = device.launch(
        f"gather_windows_{suffix}",
        maps=device.pointers([device.upload(m, f"map {i}") for i, m in enumerate(maps)]),
        shapes=device.upload(shapes, "shapes"),
        picks=device.upload(picks.astype(np.int32), "picks"),
        patches=patches,
        count=len(picks),
        levels=len(maps),
        channels=channels,
        size=size,
        step=step,
    )
    assert patches.written.all()
    assert counters.threads["local load"] == 0
    return patches.array, counters


@pytest.mark.parametrize("suffix", KERNELS)
def test_patches_equal_the_reference(device: Device, suffix: str) -> None:
    dtype, channels, size = KERNELS[suffix]
    generator = np.random.default_rng(0)
    sides = [(9, 13), (size, size), (11, 7)]
    maps = [generator.standard_normal((1, channels, *s)).astype(dtype) for s in sides]
    picks = [[0, 2, 4], [1, 0, 0], [2, 1, 0], [-1, 0, 0], [0, 0, 0], [-1, -1, -1]]
    found, _ = gather(device, suffix, maps, np.array(picks), size, 1)
    np.testing.assert_array_equal(found, gather_windows(maps, np.array(picks), size, 1))


def test_what_lies_outside_of_a_map_is_zero(device: Device) -> None:
    maps = [np.random.default_rng(1).standard_normal((1, 2, 5, 6)).astype(np.float32)]
    picks = np.array([[0, 2, 2], [0, -1, 0], [0, 9, 0], [0, 0, 2**30], [7, 0, 0], [0, 1, -2]])
    found, _ = gather(device, "f32x4", maps, picks, 4, 2)
    padded = np.zeros((2, 40, 40), np.float32)
    padded[:, 10:15, 10:16] = maps[0][0]
    for patch, (level, row, column) in zip(found, picks.tolist(), strict=True):
        top, left = 10 + 2 * row, 10 + 2 * column
        near = level == 0 and 0 <= top < 36 and 0 <= left < 36
        want = padded[:, top : top + 4, left : left + 4] if near else np.zeros((2, 4, 4))
        np.testing.assert_array_equal(patch, want)


def test_bits_are_moved_and_not_numbers(device: Device) -> None:
    bits = np.array([0x7F800001, 0xFFC12345, 0x80000000, 1], np.uint32)
    maps = [bits.view(np.float32).reshape(1, 1, 2, 2)]
    found, _ = gather(device, "f32x4", maps, np.array([[0, 0, 0]]), 2, 1)
    np.testing.assert_array_equal(found.view(np.uint32).ravel(), bits)


def test_patches_are_written_once_in_whole_sectors(device: Device) -> None:
    maps = [np.ones((1, 16, 40, 40), np.float32)]
    picks = np.array([[0, i, 2 * i] for i in range(8)])
    found, counters = gather(device, "f32x4", maps, picks, 16, 1)
    assert counters.stores.excess == 1
    assert counters.stores.sectors * 32 == found.nbytes == counters.bytes_written
