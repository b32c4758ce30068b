# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.library import launch

from foveate.kernels.plugins.roi_max_pool.reference import ROUNDINGS, roi_max_pool

Arrays = np.ndarray[Any, Any]


def pool(
    features: Arrays,
    rois: Arrays,
    size: tuple[int, int],
    scale: float,
    rounding: str,
    tables: bool = False,
) -> Arrays:
    """Pool (N, C, H, W) features by the launcher; the result is (R, C, rows, columns)."""
    last = np.ascontiguousarray(features.transpose(0, 2, 3, 1))
    pooled = np.full((len(rois), *size, last.shape[3]), np.nan, features.dtype)
    kind = int(features.dtype == np.float16)
    numbers = (*last.shape, len(rois), *size, scale, ROUNDINGS.index(rounding), kind)
    maps = [last]
    for half in (1, 2, 4) if tables else ():
        maps.append(np.full_like(last, np.nan))
        status = launch(
            "roi_max_pool",
            "foveate_launch_square_table",
            maps[-2],
            maps[-1],
            *last.shape,
            half,
            kind,
        )
        assert status == 0
    name = "foveate_launch_roi_max_pool" + ("_tables" if tables else "")
    assert launch("roi_max_pool", name, *maps, rois, pooled, *numbers) == 0
    return pooled.transpose(0, 3, 1, 2)


def check(
    features: Arrays, rois: Arrays, size: tuple[int, int], scale: float, rounding: str, tables: bool
) -> None:
    expected = roi_max_pool(features, rois, size, scale, rounding)
    found = pool(features, rois, size, scale, rounding, tables)
    assert np.array_equal(found, expected, equal_nan=True)


def features_of(rng: np.random.Generator, channels: int, dtype: Any) -> Arrays:
    shape = (rng.integers(1, 3), channels, rng.integers(1, 17), rng.integers(1, 19))
    return rng.standard_normal(shape).astype(dtype)


def rois_of(rng: np.random.Generator, count: int, scale: float, reach: float) -> Arrays:
    corners = rng.uniform(-0.4 * reach, 1.2 * reach, (count, 2)) / scale
    sides = rng.uniform(-2, 0.8 * reach, (count, 2)) / scale
    rois = np.concatenate([rng.integers(0, 2, (count, 1)), corners, corners + sides], 1)
    rois[::3, 1:] = np.round(rois[::3, 1:] * scale * 2) / (2 * scale)  # exactly halfway
    return rois.astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_random_cases_are_bit_equal(rounding: str, tables: bool, dtype: Any) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        channels = int(rng.choice([1, 3, 4, 5, 8, 16, 12]))
        scale = float(np.float32(rng.choice([1.0, 0.25, 1 / 16, 0.3])))
        size = (int(rng.integers(1, 8)), int(rng.integers(1, 8)))
        features = features_of(rng, channels, dtype)
        rois = rois_of(rng, int(rng.integers(1, 6)), scale, 20)
        check(features, rois, size, scale, rounding, tables)


edges = st.floats(width=32) | st.sampled_from([0.5, -0.5, 1.5, 8.0, 1e30, -1e30, 2.0**28])


@given(
    roi=st.tuples(st.sampled_from([0.0, 1.0, 2.0, -1.0, 0.5, -0.5, np.nan, np.inf]), *[edges] * 4),
    rounding=st.sampled_from(ROUNDINGS),
    tables=st.booleans(),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
@settings(max_examples=100)
def test_any_number_in_a_roi_has_a_defined_result(
    roi: tuple[float, ...], rounding: str, tables: bool, size: tuple[int, int]
) -> None:
    features = np.arange(2 * 4 * 5 * 6, dtype=np.float32).reshape(2, 4, 5, 6)
    check(features, np.array([roi], np.float32), size, 1.0, rounding, tables)


@pytest.mark.parametrize("tables", [False, True])
def test_a_nan_of_the_map_stays_in_its_bin(tables: bool) -> None:
    features = np.ones((1, 4, 8, 8), np.float32)
    features[0, 1, 2, 3] = np.nan
    rois = np.array([[0, 0, 0, 7, 7], [0, 4, 4, 7, 7]], np.float32)
    check(features, rois, (2, 2), 1.0, "caffe", tables)


def test_all_of_a_bin_may_be_minus_infinity() -> None:
    features = np.full((1, 1, 4, 4), -np.inf, np.float32)
    check(features, np.array([[0, 0, 0, 3, 3]], np.float32), (2, 2), 1.0, "caffe", False)


NUMBERS = (1, 4, 4, 4, 2, 2, 2, 1.0, 0, 0)  # N, H, W, C, rois, rows, columns, scale, rounding, type


def status(position: int | None = None, value: float = 0, *, arrays: bool = True) -> int:
    numbers: list[float] = list(NUMBERS)
    if position is not None:
        numbers[position] = value
    given = (np.zeros(64, np.float32), np.zeros(10, np.float32), np.zeros(32, np.float32))
    return launch(
        "roi_max_pool", "foveate_launch_roi_max_pool", *(given if arrays else (None,) * 3), *numbers
    )


@pytest.mark.parametrize("position", [3, 4, 5, 6])
def test_nothing_to_write_launches_nothing_and_needs_no_arrays(position: int) -> None:
    assert status(position, 0, arrays=False) == 0


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_map_without_pixels_pools_to_zero(position: int) -> None:
    numbers: list[float] = list(NUMBERS)
    numbers[position] = 0
    pooled = np.full(32, np.nan, np.float32)
    rois = np.array([[0, 0, 0, 3, 3]] * 2, np.float32)
    name = "foveate_launch_roi_max_pool"
    assert launch("roi_max_pool", name, None, rois, pooled, *numbers) == 0
    assert not pooled.any()


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [
        *((position, -1, -2) for position in range(7)),
        (7, 0.0, -3),
        (7, float("nan"), -3),
        (7, float("inf"), -3),
        (8, 2, -3),
        (8, -1, -3),
        (9, 2, -3),
        (3, 2**31 - 1, -4),
        (5, 2**31 - 1, -4),
    ],
)
def test_bad_numbers_are_refused(position: int, value: float, expected: int) -> None:
    found = status(position, value, arrays=True)
    assert found == expected


def test_null_arrays_are_refused() -> None:
    assert status(arrays=False) == -1
