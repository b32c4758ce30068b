# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.library import launch

from foveate.kernels.gather_windows import reference

Arrays = np.ndarray[Any, Any]


def gather(maps: list[Arrays], picks: Arrays, size: int, step: int) -> Arrays:
    channels, dtype = maps[0].shape[1], maps[0].dtype
    patches = np.full((len(picks), channels, size, size), np.nan, dtype)
    shapes = np.array([m.shape[2:] for m in maps], np.int32)
    numbers = (len(picks), len(maps), channels, size, step, int(dtype == np.float16))
    name = "foveate_launch_gather_windows"
    assert launch("gather_windows", name, maps, shapes, picks, patches, *numbers) == 0
    return patches


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_random_cases_are_bit_equal(dtype: Any) -> None:
    for seed in range(500):
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
        picks = np.array(
            [
                (level, rng.integers(grids[level][0]), rng.integers(grids[level][1]))
                for level in levels
            ],
            np.int32,
        )
        expected = reference.gather_windows(maps, picks, size, step).astype(dtype)
        assert np.array_equal(gather(maps, picks, size, step), expected)


extremes = st.integers(-5, 8) | st.sampled_from([2**31 - 1, -(2**31)])


@given(pick=st.tuples(extremes, extremes, extremes), size=st.integers(1, 5), step=st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_any_pick_gives_what_exists_and_zeros(
    pick: tuple[int, int, int], size: int, step: int
) -> None:
    maps = [np.arange(1, 61, dtype=np.float32).reshape(1, 3, 4, 5) + 100 * i for i in range(2)]
    patch = gather(maps, np.array([pick], np.int32), size, step)[0]
    level, top, left = pick[0], pick[1] * step, pick[2] * step
    for i in range(size):
        for j in range(size):
            y, x = top + i, left + j
            inside = 0 <= level < 2 and 0 <= y < 4 and 0 <= x < 5
            expected = maps[level][0, :, y, x] if inside else np.zeros(3)
            assert np.array_equal(patch[:, i, j], expected)


def test_a_nan_keeps_its_bits() -> None:
    bits = np.array([0x7F800001, 0xFFC12345, 0x80000000, 1], np.uint32)
    found = gather([bits.view(np.float32).reshape(1, 1, 2, 2)], np.zeros((1, 3), np.int32), 2, 1)
    assert np.array_equal(found.view(np.uint32).ravel(), bits)


def test_a_map_without_pixels_gives_zeros() -> None:
    maps = [np.ones((1, 2, *side), np.float32) for side in ((0, 3), (4, 0), (3, 3))]
    picks = np.array([(0, 0, 0), (1, 0, 0), (2, 0, 0)], np.int32)
    patches = gather(maps, picks, 2, 1)
    assert not patches[:2].any()
    assert patches[2].all()


NAME = "foveate_launch_gather_windows"


@pytest.mark.parametrize("numbers", [(0, 1, 1, 1, 1, 0), (1, 1, 0, 1, 1, 0), (1, 1, 1, 0, 1, 0)])
def test_nothing_to_write_needs_no_arrays(numbers: tuple[int, ...]) -> None:
    assert launch("gather_windows", NAME, None, None, None, None, *numbers) == 0


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [
        *((i, -1, -2) for i in range(5)),
        (5, 2, -3),
        (0, 65536, -4),
        (2, 2**31 - 1, -4),
        (3, 2**16, -4),
    ],
)
def test_bad_numbers_are_refused(position: int, value: int, expected: int) -> None:
    numbers = [1, 1, 1, 1, 1, 0]
    numbers[position] = value
    arrays = (
        [np.zeros(1, np.float32)],
        np.ones(2, np.int32),
        np.zeros(3, np.int32),
        np.zeros(1, np.float32),
    )
    assert launch("gather_windows", NAME, *arrays, *numbers) == expected


def test_null_arrays_are_refused() -> None:
    assert launch("gather_windows", NAME, None, None, None, None, 1, 1, 1, 1, 1, 0) == -1
