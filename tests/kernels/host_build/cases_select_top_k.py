# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.driver import host_device
from tests.kernels.running import Array, run

from foveate.kernels.select_top_k import cpu, reference
from foveate.kernels.select_top_k.op import SELECT_TOP_K


def outputs(limit: int) -> list[tuple[tuple[int, ...], type[np.generic]]]:
    return [
        ((limit, 3), np.int32),
        ((limit, 4), np.float32),
        ((limit,), np.float32),
        ((1,), np.int32),
    ]


def select(
    grids: list[Array], limit: int, factors: list[tuple[float, float]], size: int, iou: float
) -> list[Array]:
    numbers: dict[str, Any] = {"factors": factors, "size": size, "stride": 2, "padding": 3}
    numbers |= {"window_nms_iou": iou, "top_k": limit}
    room = limit + limit % 3  # some of it stays empty
    return run(host_device(), SELECT_TOP_K, [grids], outputs(room), poison=False, **numbers)


def select_on_cpu(
    grids: list[Array], limit: int, factors: list[tuple[float, float]], size: int, iou: float
) -> list[Array]:
    room = limit + limit % 3
    found: list[Any] = [np.full(shape, 77, dtype) for shape, dtype in outputs(room)]
    numbers: dict[str, Any] = {"factors": factors, "size": size, "stride": 2, "padding": 3}
    cpu.select_top_k(grids, *found, window_nms_iou=iou, top_k=limit, **numbers)
    return found


def case(rng: np.random.Generator) -> tuple[list[Array], list[tuple[float, float]], int, int]:
    grids = [
        rng.standard_normal((1, 1, *rng.integers(1, 9, 2))).astype(np.float32)
        for _ in range(int(rng.integers(1, 5)))
    ]
    if rng.random() < 0.5:
        grids = [np.round(grid) for grid in grids]  # many ties
    factors = [(float(f), float(f) * 1.01) for f in rng.uniform(0.3, 4, len(grids))]
    return grids, factors, int(rng.integers(1, 40)), int(rng.integers(3, 20))


def test_random_cases_are_bit_equal() -> None:
    for seed in range(150):
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
        indices, windows, scores, count = select(grids, limit, factors, size, iou)
        expected = reference.select_top_k(grids, limit, **options)
        found = int(count[0])
        assert found == len(expected)
        assert indices[:found].tolist() == [list(index) for _, index, _ in expected]
        assert np.array_equal(scores[:found], np.array([s for s, *_ in expected], np.float32))
        wanted = np.array([g for *_, g in expected], np.float64).reshape(-1, 4)
        assert np.array_equal(windows[:found], wanted.astype(np.float32))
        assert (indices[found:] == (-1, 0, 0)).all()
        assert not windows[found:].any()
        assert np.isneginf(scores[found:]).all()


def test_several_chunks_of_the_order_equal_the_cpu() -> None:
    rng = np.random.default_rng(5)
    grids = [rng.standard_normal((1, 1, h, h)).astype(np.float32) for h in (29, 13, 7)]
    factors = [(1.0, 1.0), (2.1, 2.05), (4.3, 4.1)]
    found = select(grids, 100, factors, 24, 0.2)
    wanted = select_on_cpu(grids, 100, factors, 24, 0.2)
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.array_equal(mine, theirs)


@given(
    scores=st.lists(st.floats(width=32), min_size=1, max_size=12),
    limit=st.integers(0, 20),
    iou=st.sampled_from([0.4321, 1.0]),
)
@settings(max_examples=100)
def test_any_score_has_a_place(scores: list[float], limit: int, iou: float) -> None:
    grid = np.array(scores, np.float32).reshape(1, 1, 1, -1)
    found = select([grid], limit, [(1.0, 1.0)], 9, iou)
    wanted = select_on_cpu([grid], limit, [(1.0, 1.0)], 9, iou)
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.array_equal(mine, theirs, equal_nan=mine.dtype == np.float32)


def test_a_level_without_cells_and_more_windows_than_cells() -> None:
    rng = np.random.default_rng(6)
    sides = ((0, 4), (2, 3), (5, 0))
    grids = [rng.standard_normal((1, 1, *side)).astype(np.float32) for side in sides]
    factors = [(1.0, 1.0)] * 3
    indices, _, scores, count = select(grids, 20, factors, 9, 1.0)
    assert count[0] == 6
    assert (indices[:6, 0] == 1).all()
    assert np.array_equal(scores[:6], np.sort(grids[1].ravel())[::-1])
    assert (indices[6:] == (-1, 0, 0)).all()


@pytest.mark.parametrize("grids", [[], [np.zeros((1, 1, 0, 5), np.float32)]])
def test_no_cells_give_an_empty_selection(grids: list[Array]) -> None:
    indices, windows, _, count = select(grids, 3, [(1.0, 1.0)] * len(grids), 9, 1.0)
    assert count[0] == 0
    assert not windows.any()
    assert (indices == (-1, 0, 0)).all()
