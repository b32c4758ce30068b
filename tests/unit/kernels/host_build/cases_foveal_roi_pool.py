# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.kernels.host_build.library import launch

from foveate.kernels.foveal_boxes import FOVEAL_SCALES
from foveate.kernels.foveal_roi_pool import NORMALISATIONS, PAIRS, reference
from foveate.kernels.roi_max_pool import ROUNDINGS

Arrays = np.ndarray[Any, Any]
NAME = "foveate_launch_foveal_roi_pool"
STRIDES = (16, 8, 4)


def pool(
    maps: list[Arrays], boxes: Arrays, size: tuple[int, int], rounding: str, normalisation: str
) -> list[Arrays]:
    """Pool (1, C, H, W) maps; the results are (R, C, rows, columns)."""
    last = [np.ascontiguousarray(m[0].transpose(1, 2, 0)) for m in maps]
    shapes, pairs = np.array([m.shape for m in last], np.int32), np.array(PAIRS, np.int32)
    dtype = maps[0].dtype
    results = [np.full((len(boxes), *size, last[m].shape[2]), np.nan, dtype) for _, m in PAIRS]
    arrays = (
        *(last, shapes, shapes, np.array([1 / s for s in STRIDES], np.float32), boxes),
        *(np.array(FOVEAL_SCALES), pairs, pairs, results),
    )
    choices = (ROUNDINGS.index(rounding), NORMALISATIONS.index(normalisation), 1000.0)
    numbers = (len(maps), len(FOVEAL_SCALES), len(boxes), len(PAIRS), *size, *choices)
    assert launch("foveal_roi_pool", NAME, *arrays, *numbers, int(dtype == np.float16)) == 0
    return [result.transpose(0, 3, 1, 2) for result in results]


def check(
    maps: list[Arrays], boxes: Arrays, size: tuple[int, int], rounding: str, normalisation: str
) -> None:
    found = pool(maps, boxes, size, rounding, normalisation)
    expected = reference.foveal_roi_pool(
        maps,
        [float(np.float32(1 / stride)) for stride in STRIDES],
        boxes,
        FOVEAL_SCALES,
        PAIRS,
        size,
        rounding=rounding,
        normalisation=normalisation,
        gain=1000.0,
    )
    precision = 2e-6 if maps[0].dtype == np.float32 else 2**-11 + 2e-6
    for mine, theirs in zip(found, expected, strict=True):
        assert np.allclose(mine.astype(np.float64), theirs, rtol=precision, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_random_boxes_agree(normalisation: str, dtype: Any) -> None:
    for seed in range(19):  # with nine pairs of one or two boxes each, over 1,000 in all
        rng = np.random.default_rng(seed)
        height, width = (int(n) for n in rng.integers(1, 5, 2))
        channels = (int(n) for n in rng.choice([8, 16, 24], 3))
        maps = [
            (rng.standard_normal((1, c, height * f, width * f)) * 0.05).astype(dtype)
            for c, f in zip(channels, (1, 2, 4), strict=True)
        ]
        corners = rng.uniform(-20, 60, (int(rng.integers(1, 3)), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(0, 50, corners.shape)], 1)
        size = (int(rng.integers(1, 8)), int(rng.integers(1, 8)))
        check(maps, boxes.astype(np.float32), size, ROUNDINGS[seed % 2], normalisation)


def test_the_full_size_fills_every_register() -> None:
    rng = np.random.default_rng(0)
    maps = [
        rng.standard_normal((1, c, 3 * f, 4 * f)).astype(np.float32)
        for c, f in ((512, 1), (512, 2), (256, 4))
    ]
    check(maps, np.array([[3, 5, 40, 37]], np.float32), (7, 7), "v2", "l2")


@given(box=st.tuples(*[st.floats(width=32)] * 4), rounding=st.sampled_from(ROUNDINGS))
@settings(max_examples=50, deadline=None)
def test_any_number_in_a_box_has_the_result_of_the_reference(
    box: tuple[float, ...], rounding: str
) -> None:
    maps = [np.arange(4 * 6, dtype=np.float32).reshape(1, 4, 2, 3) + 1 for _ in STRIDES]
    with np.errstate(all="ignore"):
        check(maps, np.array([box], np.float32), (2, 2), rounding, "none")


def test_a_region_of_zeros_stays_zero() -> None:
    maps = [np.zeros((1, 4, 2, 3), np.float32) for _ in STRIDES]
    for normalisation in NORMALISATIONS:
        for result in pool(
            maps, np.array([[0, 0, 9, 9]], np.float32), (2, 2), "caffe", normalisation
        ):
            assert not result.any()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_a_map_without_pixels_pools_to_zero(shape: tuple[int, int]) -> None:
    maps = [np.ones((1, 4, *side), np.float32) for side in (shape, (2, 3), (2, 3))]
    boxes = np.array([[0, 0, 9, 9], [-1e30, 3, 1e30, np.inf]], np.float32)
    for (_, level), result in zip(PAIRS, pool(maps, boxes, (2, 2), "caffe", "l2"), strict=True):
        assert result[0].any() == (level != 0)


def status(
    *, shape: tuple[int, int, int] = (2, 2, 4), pair: tuple[int, int] = (0, 0), **changes: float
) -> int:
    numbers: dict[str, float] = {
        "maps": 1,
        "regions": 1,
        "boxes": 1,
        "pairs": 1,
        "rows": 1,
        "columns": 1,
        "rounding": 0,
        "normalisation": 0,
        "gain": 1.0,
        "type": 0,
    } | changes
    shapes, pairs = np.array([shape], np.int32), np.array([pair], np.int32)
    floats, result = np.ones(16, np.float32), np.zeros(4, np.float32)
    arrays = ([floats], shapes, shapes, floats, floats, np.ones(1), pairs, pairs, [result])
    return launch("foveal_roi_pool", NAME, *arrays, *numbers.values())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0),
        *(({name: -1}, -2) for name in ("maps", "regions", "boxes", "pairs", "rows", "columns")),
        ({"rounding": 2}, -3),
        ({"normalisation": 3}, -3),
        ({"gain": float("nan")}, -3),
        ({"type": 2}, -3),
        ({"pair": (1, 0)}, -3),
        ({"pair": (0, 1)}, -3),
        ({"pair": (-1, 0)}, -3),
        ({"shape": (2, 2, 3)}, -2),
        ({"shape": (-1, 2, 4)}, -2),
        ({"rows": 7000}, -4),
    ],
)
def test_bad_numbers_are_refused(changes: dict[str, Any], expected: int) -> None:
    assert status(**changes) == expected


def test_no_boxes_need_no_arrays() -> None:
    assert launch("foveal_roi_pool", NAME, *[None] * 9, 1, 1, 0, 1, 1, 1, 0, 0, 1.0, 0) == 0
    assert launch("foveal_roi_pool", NAME, *[None] * 9, 1, 1, 1, 1, 1, 1, 0, 0, 1.0, 0) == -1
