# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.library import launch

from foveate.kernels.select_top_k import host, reference

Arrays = np.ndarray[Any, Any]
NAME = "foveate_launch_select_top_k"


def outputs(limit: int) -> tuple[Arrays, Arrays, Arrays, Arrays]:
    return (
        np.full((limit, 3), 77, np.int32),
        np.full((limit, 4), np.nan, np.float32),
        np.full(limit, np.nan, np.float32),
        np.full(1, 77, np.int32),
    )


def select(
    grids: list[Arrays], limit: int, factors: list[tuple[float, float]], size: int, iou: float
) -> tuple[Arrays, Arrays, Arrays, Arrays]:
    shapes = np.array([g.shape[2:] for g in grids], np.int32).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum([g.size for g in grids])]).astype(np.int32)
    cells, found = int(starts[-1]), outputs(limit)
    scratch = np.full(6 * cells, 0xA5A5A5A5, np.uint32)
    arrays = (grids, shapes, starts, np.array(factors, np.float64), *found, scratch)
    numbers = (len(grids), cells, limit, size, 2, 3, np.float64(iou))
    assert launch("select_top_k", NAME, *arrays, *numbers) == 0
    return found


def case(rng: np.random.Generator) -> tuple[list[Arrays], list[tuple[float, float]], int, int]:
    grids = [
        rng.standard_normal((1, 1, *rng.integers(1, 9, 2))).astype(np.float32)
        for _ in range(int(rng.integers(1, 5)))
    ]
    if rng.random() < 0.5:
        grids = [np.round(grid) for grid in grids]  # many ties
    factors = [(float(f), float(f) * 1.01) for f in rng.uniform(0.3, 4, len(grids))]
    return grids, factors, int(rng.integers(1, 40)), int(rng.integers(3, 20))


def test_random_cases_are_bit_equal() -> None:
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        grids, factors, limit, size = case(rng)
        # Not a fraction that overlapping windows of a grid meet exactly.
        iou = float(rng.choice([0.1234, 0.4321, 0.8765, 1.0]))
        options: dict[str, Any] = {
            "factors": factors,
            "size": size,
            "stride": 2,
            "padding": 3,
            "window_nms_iou": iou,
        }
        picks, geometry, scores, count = select(grids, limit, factors, size, iou)
        expected = reference.select_top_k(grids, limit, **options)
        found = int(count[0])
        assert found == len(expected)
        assert picks[:found].tolist() == [list(pick) for _, pick, _ in expected]
        assert np.array_equal(scores[:found], np.array([s for s, *_ in expected], np.float32))
        wanted = np.array([g for *_, g in expected], np.float64).reshape(-1, 4)
        assert np.array_equal(geometry[:found], wanted.astype(np.float32))
        assert (picks[found:] == (-1, 0, 0)).all()
        assert not geometry[found:].any()
        assert np.isneginf(scores[found:]).all()


def test_several_chunks_of_the_order_equal_the_host() -> None:
    rng = np.random.default_rng(5)
    grids = [rng.standard_normal((1, 1, h, h)).astype(np.float32) for h in (29, 13, 7)]
    factors = [(1.0, 1.0), (2.1, 2.05), (4.3, 4.1)]
    found, wanted = select(grids, 100, factors, 24, 0.2), outputs(100)
    host.select_top_k(
        grids, *wanted, factors=factors, size=24, stride=2, padding=3, window_nms_iou=0.2
    )
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.array_equal(mine, theirs)


@given(
    scores=st.lists(st.floats(width=32), min_size=1, max_size=12),
    limit=st.integers(0, 20),
    iou=st.sampled_from([0.4321, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_any_score_has_a_place(scores: list[float], limit: int, iou: float) -> None:
    grid = np.array(scores, np.float32).reshape(1, 1, 1, -1)
    found, wanted = select([grid], limit, [(1.0, 1.0)], 9, iou), outputs(limit)
    host.select_top_k(
        [grid], *wanted, factors=[(1.0, 1.0)], size=9, stride=2, padding=3, window_nms_iou=iou
    )
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.array_equal(mine, theirs, equal_nan=mine.dtype == np.float32)


def test_a_level_without_cells_and_more_windows_than_cells() -> None:
    rng = np.random.default_rng(6)
    sides = ((0, 4), (2, 3), (5, 0))
    grids = [rng.standard_normal((1, 1, *side)).astype(np.float32) for side in sides]
    factors = [(1.0, 1.0)] * 3
    picks, _, scores, count = select(grids, 20, factors, 9, 1.0)
    assert count[0] == 6
    assert (picks[:6, 0] == 1).all()
    assert np.array_equal(scores[:6], np.sort(grids[1].ravel())[::-1])
    assert (picks[6:] == (-1, 0, 0)).all()


def test_no_cells_give_an_empty_selection() -> None:
    found = outputs(3)
    arrays = (None, None, None, None, *found, None)
    assert launch("select_top_k", NAME, *arrays, 0, 0, 3, 9, 2, 3, np.float64(1)) == 0
    assert found[3][0] == 0
    assert (found[0] == (-1, 0, 0)).all()


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [
        (0, -1, -2),
        (0, 0, -2),
        (1, -1, -2),
        (2, -1, -2),
        (3, -1, -3),
        (4, -1, -3),
        (6, np.float64(-0.5), -3),
        (6, np.float64(np.nan), -3),
        (1, 65537, -4),
        (2, 2049, -4),
    ],
)
def test_bad_numbers_are_refused(position: int, value: Any, expected: int) -> None:
    numbers: list[Any] = [1, 1, 1, 9, 2, 3, np.float64(1)]
    numbers[position] = value
    ints = np.zeros(8, np.int32)
    grid = np.zeros((1, 1, 1, 1), np.float32)
    arrays = ([grid], ints, ints, np.zeros(2), *outputs(1), np.zeros(8, np.uint32))
    assert launch("select_top_k", NAME, *arrays, *numbers) == expected


def test_null_arrays_are_refused() -> None:
    numbers = (1, 1, 1, 9, 2, 3, np.float64(1))
    assert launch("select_top_k", NAME, *[None] * 9, *numbers) == -1
