# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.driver import host_device
from tests.kernels.running import Array, Inputs, run

from foveate.kernels.crop_features import reference
from foveate.kernels.crop_features.op import CROP_FEATURES


def crop(maps: list[Array], indices: Array, size: int, step: int) -> Array:
    outputs = [((len(indices), maps[0].shape[1], size, size), maps[0].dtype)]
    inputs: Inputs = [maps, indices]
    (patches,) = run(host_device(), CROP_FEATURES, inputs, outputs, poison=False, step=step)
    return patches


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_random_cases_are_bit_equal(dtype: Any) -> None:
    for seed in range(150):
        rng = np.random.default_rng(seed)
        channels, size, step = (int(rng.integers(1, n)) for n in (10, 8, 4))
        grids = rng.integers(1, 5, (int(rng.integers(1, 5)), 2))
        maps = [
            rng.standard_normal((1, channels, (h - 1) * step + size, (w - 1) * step + size)).astype(
                dtype
            )
            for h, w in grids
        ]
        levels = rng.integers(-1, len(maps), int(rng.integers(1, 7)))
        indices = np.array(
            [
                (level, rng.integers(grids[level][0]), rng.integers(grids[level][1]))
                for level in levels
            ],
            np.int32,
        )
        expected = reference.crop_features(maps, indices, size, step).astype(dtype)
        assert np.array_equal(crop(maps, indices, size, step), expected)


extremes = st.integers(-5, 8) | st.sampled_from([2**31 - 1, -(2**31)])


@given(
    index=st.tuples(extremes, extremes, extremes), size=st.integers(1, 5), step=st.integers(0, 3)
)
@settings(max_examples=100)
def test_any_index_gives_what_exists_and_zeros(
    index: tuple[int, int, int], size: int, step: int
) -> None:
    maps = [np.arange(1, 61, dtype=np.float32).reshape(1, 3, 4, 5) + 100 * i for i in range(2)]
    patch = crop(maps, np.array([index], np.int32), size, step)[0]
    level, top, left = index[0], index[1] * step, index[2] * step
    for i in range(size):
        for j in range(size):
            y, x = top + i, left + j
            inside = 0 <= level < 2 and 0 <= y < 4 and 0 <= x < 5
            expected = maps[level][0, :, y, x] if inside else np.zeros(3)
            assert np.array_equal(patch[:, i, j], expected)


def test_a_nan_keeps_its_bits() -> None:
    bits = np.array([0x7F800001, 0xFFC12345, 0x80000000, 1], np.uint32)
    found = crop([bits.view(np.float32).reshape(1, 1, 2, 2)], np.zeros((1, 3), np.int32), 2, 1)
    assert np.array_equal(found.view(np.uint32).ravel(), bits)


def test_a_map_without_pixels_gives_zeros() -> None:
    maps = [np.ones((1, 2, *side), np.float32) for side in ((0, 3), (4, 0), (3, 3))]
    indices = np.array([(0, 0, 0), (1, 0, 0), (2, 0, 0)], np.int32)
    patches = crop(maps, indices, 2, 1)
    assert not patches[:2].any()
    assert patches[2].all()
