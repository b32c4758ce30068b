# SPDX-License-Identifier: Apache-2.0
"""The compiled selection against its reference: the same windows in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.running import Array
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.kernels.select_top_k.op import SELECT_TOP_K
from foveate.kernels.select_top_k.reference import select_top_k

OPTIONS = {"size": 160, "stride": 16, "padding": 32}


def select(
    gpu: SimulatedGpu,
    grids: list[Array],
    factors: list[tuple[float, float]],
    limit: int,
    iou: float,
    room: int | None = None,
) -> tuple[Array, Array, Array, int]:
    """Return indices, windows, scores and count, with room for more windows than ``limit``."""
    numbers = {"factors": factors, "window_nms_iou": iou, "top_k": limit, **OPTIONS}
    limit = limit if room is None else room
    outputs = [
        ((limit, 3), np.int32),
        ((limit, 4), np.float32),
        ((limit,), np.float32),
        ((1,), np.int32),
    ]
    (indices, windows, scores, count), _ = gpu.run(SELECT_TOP_K, [grids], outputs, **numbers)
    return indices, windows, scores, int(count[0])


def levels(seed: int) -> tuple[list[Array], list[tuple[float, float]]]:
    generator = np.random.default_rng(seed)
    sides = [(3, 4), (7, 9), (11, 13)]
    grids = [(generator.integers(-20, 20, (1, 1, *s)) / 4).astype(np.float32) for s in sides]
    return grids, [(2.0, 2.25), (1.0, 1.0), (0.5, 0.53)]


@pytest.mark.parametrize(("limit", "iou"), [(10, 0.9), (40, 0.6), (64, 0.3), (300, 0.9), (7, 1.0)])
def test_windows_equal_the_reference(gpu: SimulatedGpu, limit: int, iou: float) -> None:
    grids, factors = levels(limit)
    want = select_top_k(grids, limit, factors=factors, window_nms_iou=iou, **OPTIONS)
    indices, windows, scores, count = select(gpu, grids, factors, limit, iou)
    assert count == len(want)
    assert indices[:count].tolist() == [list(index) for _, index, _ in want]
    assert scores[:count].tolist() == [score for score, _, _ in want]
    boxes = np.array([box for _, _, box in want]).astype(np.float32)
    np.testing.assert_array_equal(windows[:count], boxes)
    assert (indices[count:, 0] == -1).all()
    assert (windows[count:] == 0).all()
    assert (scores[count:] == -np.inf).all()


def test_scores_of_half_precision_are_taken_as_they_are(gpu: SimulatedGpu) -> None:
    grids, factors = levels(3)
    half = [grid.astype(np.float16) for grid in grids]
    for found, want in zip(
        select(gpu, half, factors, 30, 0.6), select(gpu, grids, factors, 30, 0.6), strict=True
    ):
        np.testing.assert_array_equal(found, want)


def test_more_windows_than_there_are_cells(gpu: SimulatedGpu) -> None:
    grids, factors = levels(1)
    indices, _, _, count = select(gpu, grids[:1], factors[:1], 20, 1.0)
    assert count == 12
    assert sorted(map(tuple, indices[:12].tolist())) == [
        (0, r, c) for r in range(3) for c in range(4)
    ]


def test_room_beyond_the_wanted_windows_is_filled_like_that_of_windows_that_do_not_exist(
    gpu: SimulatedGpu,
) -> None:
    grids, factors = levels(1)
    few = select(gpu, grids, factors, 20, 0.6)
    indices, windows, scores, count = select(gpu, grids, factors, 20, 0.6, room=33)
    assert count == few[3] == 20
    np.testing.assert_array_equal(indices[:20], few[0])
    assert set(map(tuple, indices[20:].tolist())) == {(-1, 0, 0)}
    assert not windows[20:].any()
    assert np.isneginf(scores[20:]).all()


def test_cells_that_fill_the_last_pass_leave_none_to_look_at(gpu: SimulatedGpu) -> None:
    # All of 256 cells are looked at, 256 at a time, and the result is still not full.
    grids = [np.random.default_rng(5).standard_normal((1, 1, 16, 16)).astype(np.float32)]
    want = select_top_k(grids, 256, factors=[(1.0, 1.0)], window_nms_iou=0.5, **OPTIONS)
    indices, _, _, count = select(gpu, grids, [(1.0, 1.0)], 256, 0.5)
    assert indices[:count].tolist() == [list(index) for _, index, _ in want]


def test_blocks_and_atomics_may_run_in_any_order(either_way: SimulatedGpu) -> None:
    grids, factors = levels(2)
    for iou in (0.7, 1.0):
        want = select_top_k(grids, 30, factors=factors, window_nms_iou=iou, **OPTIONS)
        indices, _, _, count = select(either_way, grids, factors, 30, iou)
        assert indices[:count].tolist() == [list(index) for _, index, _ in want]
