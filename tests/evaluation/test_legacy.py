# SPDX-License-Identifier: Apache-2.0
"""Windows are chosen as `getTopScores` of facebookresearch/deepmask chooses them."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.arrays import Float32Array, Int32Array
from foveate.evaluation.legacy import LegacyOptions, select_as_original
from foveate.kernels.select_top_k.cpu import windows_of

WINDOWS = {"size": 160, "stride": 16, "padding": 80}
SHIFTED = LegacyOptions(shifted_scores=True)
FILLED = LegacyOptions(filler_rows=True)


def choose(
    legacy: LegacyOptions, grids: list[Float32Array], k: int
) -> tuple[list[tuple[int, ...]], Float32Array, Float32Array]:
    """Return level, row and column of each window; geometry; and logits."""
    picks, geometry = np.empty((k, 3), np.int32), np.empty((k, 4), np.float32)
    scores, count = np.empty(k, np.float32), np.empty(1, np.int32)
    factors = factors_of(grids)
    select_as_original(
        legacy,
        grids,
        picks,
        geometry,
        scores,
        count,
        factors=factors,
        window_nms_iou=1.0,
        top_k=k,
        **WINDOWS,
    )
    found: Int32Array = picks[: count[0]]
    return [tuple(cell) for cell in found.tolist()], geometry[: count[0]], scores[: count[0]]


def factors_of(grids: list[Float32Array]) -> list[tuple[float, float]]:
    return [(4.0 / 2**i, 4.1 / 2**i) for i in range(len(grids))]


def grid(*rows: list[float]) -> Float32Array:
    return np.array(rows, np.float32)[None, None]


def get_top_scores(score: list[Float32Array], np_: int) -> list[tuple[float, int, int, int]]:
    """Say what the Lua does, line by line and counting from 1: probability, scale, x and y."""
    n_scales = len(score)
    row_n = score[-1].shape[2] * score[-1].shape[3]
    sorted_scores = np.zeros((row_n + 1, n_scales + 1))
    sorted_ids = np.zeros((row_n + 1, n_scales + 1), int)
    for s in range(1, n_scales + 1):
        flat = (1 / (1 + np.exp(-score[s - 1].astype(np.float64)))).ravel()
        ids = np.argsort(-flat, kind="stable")
        sorted_scores[1 : len(flat) + 1, s] = flat[ids]
        sorted_ids[1 : len(flat) + 1, s] = ids + 1
    pos = [1] * (n_scales + 1)
    top_scores = [(1.0, 1, 1, 1)] * np_
    for i in range(min(np_, row_n)):
        scale, best = 0, 0.0
        for k in range(1, n_scales + 1):
            if pos[k] <= row_n and sorted_scores[pos[k]][k] > best:
                best, scale = sorted_scores[pos[k]][k], k
        temp = sorted_ids[pos[scale]][scale]
        width = score[scale - 1].shape[3]
        x = math.floor(temp / width)
        y = temp % width + 1
        x, y = max(1, x), max(1, y)
        pos[scale] += 1
        top_scores[i] = (best, scale, x, y)
    return top_scores


def test_a_score_names_the_window_above_to_the_right() -> None:
    scores = grid([0, 0, 0], [0, 0, 0], [9, 0, 0])
    assert choose(SHIFTED, [scores], 1)[0] == [(0, 1, 1)]


def test_a_score_of_the_first_row_names_the_window_to_the_right() -> None:
    assert choose(SHIFTED, [grid([0, 9, 0], [0, 0, 0])], 1)[0] == [(0, 0, 2)]


def test_a_score_of_the_last_column_names_the_first_window_of_its_row() -> None:
    assert choose(SHIFTED, [grid([0, 0, 0], [0, 0, 9])], 1)[0] == [(0, 1, 0)]


def test_the_first_two_rows_name_the_same_windows_and_the_last_row_is_not_named() -> None:
    cells, _, scores = choose(SHIFTED, [grid([6, 5, 4], [3, 2, 1])], 6)
    assert cells == [(0, 0, 1), (0, 0, 2), (0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)]
    assert scores.tolist() == [6, 5, 4, 3, 2, 1]


def test_what_is_asked_for_beyond_the_last_level_is_its_first_window_with_a_score_of_one() -> None:
    small, last = grid([1, 2], [3, 4]), grid([0, 5])
    cells, geometry, scores = choose(FILLED, [small, last], 5)
    assert cells == [(0, 0, 0)] * 3 + [(1, 0, 1), (0, 1, 1)]
    assert geometry[0].tolist() == [-320, -328, 640, 656]
    assert np.float32(1) == (1 / (1 + np.exp(-scores[:3]))).max() == (1 / (1 + np.exp(-scores[0])))
    assert scores[3:].tolist() == [5, 4]


def test_without_quirks_all_windows_are_chosen() -> None:
    cells, *_ = choose(LegacyOptions(), [grid([1, 2]), grid([3])], 5)
    assert cells == [(1, 0, 0), (0, 0, 1), (0, 0, 0)]


@given(
    shapes=st.lists(st.tuples(st.integers(2, 6), st.integers(2, 6)), min_size=1, max_size=4),
    k=st.integers(1, 50),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_the_choice_is_that_of_the_lua_code(
    shapes: list[tuple[int, int]], k: int, seed: int
) -> None:
    shapes.sort(key=math.prod)  # in another order the Lua code fails
    rng = np.random.default_rng(seed)
    grids = [rng.normal(0, 2, (1, 1, *shape)).astype(np.float32) for shape in shapes]
    expected = get_top_scores(grids, k)
    expected.sort(key=lambda row: -row[0])  # COCO's evaluation does; the fillers come first
    cells, geometry, scores = choose(LegacyOptions.original(), grids, k)
    assert cells == [(scale - 1, x - 1, y - 1) for _, scale, x, y in expected]
    assert np.allclose(1 / (1 + np.exp(-scores.astype(np.float64))), [row[0] for row in expected])
    picks = np.array(cells, np.int32)
    assert np.array_equal(geometry, windows_of(picks, factors_of(grids), **WINDOWS))
