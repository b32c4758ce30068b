# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.kernels.select_top_k import cpu, reference

WINDOWS: dict[str, Any] = {"size": 160, "stride": 16, "padding": 80}


def run(grids: list[np.ndarray], k: int, **options: Any) -> tuple[np.ndarray, ...]:
    indices, windows = np.empty((k, 3), np.int32), np.empty((k, 4), np.float32)
    scores, count = np.empty(k, np.float32), np.empty(1, np.int32)
    cpu.select_top_k(grids, indices, windows, scores, count, top_k=k, **WINDOWS, **options)
    return indices, windows, scores, count


@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    k=st.integers(1, 40),
    window_nms_iou=st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_agrees_with_reference(
    shapes: list[tuple[int, int]], k: int, window_nms_iou: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    grids = [rng.integers(-3, 4, (1, 1, *shape)).astype(np.float32) for shape in shapes]
    factors = [(2.0**-i * 1.25, 2.0**-i) for i in range(len(shapes))]
    expected = reference.select_top_k(
        grids, k, factors=factors, window_nms_iou=window_nms_iou, **WINDOWS
    )
    indices, windows, scores, count = run(grids, k, factors=factors, window_nms_iou=window_nms_iou)
    found = int(count[0])
    assert found == len(expected)
    assert indices[:found].tolist() == [list(cell) for _, cell, _ in expected]
    assert np.array_equal(windows[:found], np.array([w for *_, w in expected], np.float32))
    assert scores[:found].tolist() == [score for score, *_ in expected]


def test_scores_of_half_precision_are_taken_as_they_are() -> None:
    half = np.random.default_rng(2).standard_normal((1, 1, 5, 7)).astype(np.float16)
    single = half.astype(np.float32)
    options = {"factors": [(1.25, 1.0)], "window_nms_iou": 0.7}
    for found, want in zip(run([half], 9, **options), run([single], 9, **options), strict=True):
        np.testing.assert_array_equal(found, want)


def test_rows_after_the_count_are_padding() -> None:
    grids = [np.zeros((1, 1, 1, 2), np.float32)]
    indices, windows, scores, count = run(grids, 4, factors=[(1.0, 1.0)], window_nms_iou=1.0)
    assert count.tolist() == [2]
    assert indices[2:].tolist() == [[-1, 0, 0]] * 2
    assert not windows[2:].any()
    assert np.isneginf(scores[2:]).all()


def test_cell_zero_looks_at_the_corner_of_the_image() -> None:
    grids = [np.array([[[[1.0, 0.0]]]], np.float32)]
    _, windows, *_ = run(grids, 2, factors=[(2.0, 4.0)], window_nms_iou=1.0)
    assert windows.tolist() == [[-160, -320, 320, 640], [-128, -320, 320, 640]]


def test_room_beyond_the_wanted_windows_is_filled_like_that_of_windows_that_do_not_exist() -> None:
    grids = [np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)]
    options: dict[str, Any] = {"factors": [(1.0, 1.0)], "window_nms_iou": 1.0}
    given: dict[str, Any] = {"top_k": 5, **WINDOWS, **options}
    indices, windows = np.empty((8, 3), np.int32), np.empty((8, 4), np.float32)
    scores, count = np.empty(8, np.float32), np.empty(1, np.int32)
    cpu.select_top_k(grids, indices, windows, scores, count, **given)
    assert count[0] == 5
    for array, want in zip((indices, windows, scores), run(grids, 5, **options), strict=False):
        np.testing.assert_array_equal(array[:5], want)
    assert indices[5:].tolist() == [[-1, 0, 0]] * 3
    assert not windows[5:].any()
    assert np.isneginf(scores[5:]).all()
