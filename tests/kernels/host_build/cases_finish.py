# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.library import launch

from foveate.kernels.finish import reference

Arrays = np.ndarray[Any, Any]
CANDIDATES, GATHER = "foveate_launch_finish_candidates", "foveate_launch_finish_gather"
HEIGHT, WIDTH = 240, 320


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the classifier says of some proposals, and what is asked."""

    probabilities: Arrays
    deltas: Arrays
    boxes: Arrays
    scores: Arrays
    kept: Arrays
    count: int
    limit: int
    mean: tuple[float, ...] = (0.0, 0.01, -0.02, 0.03)
    std: tuple[float, ...] = (0.1, 0.11, 0.2, 0.21)
    calibration: tuple[float, float, float] = (-0.3, 0.9, 0.2)
    score_threshold: float = 0.2
    iou: float = 0.4


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    rows, classes, capacity = (int(rng.integers(0, 9)), int(rng.integers(1, 5)), 11)
    corners = rng.uniform(-20, 200, (capacity, 2))
    sides = rng.uniform(0, 150, (capacity, 2))
    probabilities = rng.choice([0, 0.1, 0.5, 0.5, 0.9, 1], (rows, classes + 1))
    if seed % 2:
        probabilities = rng.uniform(0, 1, (rows, classes + 1))
    deltas = rng.normal(0, rng.choice([0.1, 2]), (rows, classes + 1, 4))
    return Case(
        probabilities=probabilities.astype(np.float32),
        deltas=deltas.astype(np.float32),
        boxes=np.concatenate([corners, corners + sides], 1).astype(np.float32),
        scores=rng.normal(0, 3, capacity).astype(np.float32),
        kept=rng.permutation(capacity)[:rows].astype(np.int32),
        count=int(rng.integers(0, rows + 1)),
        limit=int(rng.integers(0, 14)),
        calibration=(float(rng.normal()), float(rng.uniform(0.5, 2)), float(rng.normal(0, 0.3))),
        score_threshold=float(rng.choice([0.0, 0.05, 0.3, 0.6, 1.1])),
        iou=float(rng.choice([0.0, 0.3, 0.5, 1.0])),
    )


def finish(case: Case) -> list[reference.Detection]:
    """Run the three launchers; check what is behind the end; return the detections."""
    rows, classes = case.probabilities.shape[0], case.probabilities.shape[1] - 1
    doubles = [np.float64(value) for value in (*case.mean, *case.std, *case.calibration)]
    boxes = np.full((rows * classes, 4), np.nan, np.float32)
    scores, labels = np.full(len(boxes), np.nan, np.float32), np.full(len(boxes), 77, np.int32)
    asked = (case.probabilities, case.deltas, case.boxes, case.scores, case.kept)
    count = np.array([case.count], np.int32)
    sizes = (rows, classes, len(case.boxes))
    numbers = (*sizes, *doubles, float(case.score_threshold), HEIGHT, WIDTH)
    assert launch("finish", CANDIDATES, *asked, count, boxes, scores, labels, *numbers) == 0
    words = -(-len(boxes) // 32)
    winners, found = np.full(case.limit, 77, np.int32), np.full(1, 77, np.int32)
    scratch = np.full(len(boxes) * (2 + words), 0x5A5A5A5A, np.uint32)
    arrays = (boxes, scores, labels, None, winners, found, scratch)
    suppressed = (len(boxes), case.limit, np.float64(case.iou))
    assert launch("nms", "foveate_launch_nms", *arrays, *suppressed) == 0
    found_boxes = np.full((case.limit, 4), np.nan, np.float32)
    found_scores = np.full(case.limit, np.nan, np.float32)
    found_labels, found_rows = np.full(case.limit, 77, np.int64), np.full(case.limit, 77, np.int32)
    results = (found_boxes, found_scores, found_labels, found_rows)
    gathered = (winners, boxes, scores, case.kept, *results, rows, classes, case.limit)
    assert launch("finish", GATHER, *gathered) == 0
    end = int(found[0])
    assert not found_boxes[end:].any()
    assert not found_scores[end:].any()
    assert (found_labels[end:] == -1).all()
    assert (found_rows[end:] == -1).all()
    columns = (found_boxes.tolist(), found_scores.tolist(), found_labels, found_rows)
    listed = list(zip(*(column[:end] for column in columns), strict=True))
    return [(tuple(box), score, int(label), int(row)) for box, score, label, row in listed]


def expected(case: Case) -> list[reference.Detection]:
    found = reference.finish(
        case.probabilities,
        case.deltas,
        case.boxes,
        case.scores,
        case.kept[: case.count].tolist(),
        case.limit,
        mean=case.mean,  # type: ignore[arg-type]  # four of them
        std=case.std,  # type: ignore[arg-type]  # a tuple of four
        calibration=case.calibration,
        score_threshold=case.score_threshold,
        iou=case.iou,
        height=HEIGHT,
        width=WIDTH,
    )
    boxes = np.array([detection[0] for detection in found], np.float32).reshape(-1, 4)
    rest = [detection[1:] for detection in found]
    return [
        ((x0, y0, x1, y1), *one) for (x0, y0, x1, y1), one in zip(boxes.tolist(), rest, strict=True)
    ]


def test_random_cases_are_bit_equal() -> None:
    detections = 0
    for seed in range(250):
        case = random_case(seed)
        found = finish(case)
        assert found == expected(case), seed
        detections += len(found)
    assert detections > 250


def test_a_score_of_exactly_the_smallest_is_a_detection() -> None:
    one = random_case(1)
    case = Case(
        probabilities=np.array([[0.2, 0.75]], np.float32),
        deltas=np.zeros((1, 2, 4), np.float32),
        boxes=one.boxes,
        scores=one.scores,
        kept=np.array([3], np.int32),
        count=1,
        limit=2,
        score_threshold=0.0,
    )
    ((_, score, _, _),) = finish(case)
    above = float(np.nextafter(np.float32(score), np.float32(1)))
    assert len(finish(_with(case, score_threshold=score))) == 1
    assert finish(_with(case, score_threshold=above)) == []


def _with(case: Case, **changes: Any) -> Case:
    return Case(**{**vars(case), **changes})


def test_the_logarithm_is_exact_to_float32_over_all_probabilities() -> None:
    probabilities = np.concatenate(
        [np.geomspace(1e-9, 0.5, 2000), 1 - np.geomspace(1e-9, 0.5, 2000)]
    )
    rows = probabilities.astype(np.float32)[None]
    boxes, scores = np.full((4000, 4), np.nan, np.float32), np.full(4000, np.nan, np.float32)
    asked = (np.concatenate([rows[:, :1], rows], 1), np.zeros((1, 4001, 4), np.float32))
    proposed = (np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    doubles = [np.float64(v) for v in (*[0.0] * 4, *[1.0] * 4, 0.0, 1.0, 0.0)]
    arrays = (*asked, *proposed, np.ones(1, np.int32), boxes, scores, np.zeros(4000, np.int32))
    assert launch("finish", CANDIDATES, *arrays, 1, 4000, 1, *doubles, 0.0, 9, 9) == 0
    # Without a calibration a score is its probability again.
    clipped = np.clip(rows[0].astype(np.float64), 1e-7, 1 - 1e-7)
    assert np.array_equal(scores, clipped.astype(np.float32))


@given(
    probability=st.floats(width=32),
    score=st.floats(width=32),
    delta=st.tuples(*[st.floats(width=32)] * 4),
    box=st.tuples(*[st.floats(width=32)] * 4),
    kept=st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1]),
    count=st.integers(-3, 5),
)
@settings(max_examples=300, deadline=None)
def test_any_number_has_a_defined_result(
    probability: float,
    score: float,
    delta: tuple[float, ...],
    box: tuple[float, ...],
    kept: int,
    count: int,
) -> None:
    case = Case(
        probabilities=np.array([[0.5, probability]], np.float32),
        deltas=np.array([[(0, 0, 0, 0), delta]], np.float32),
        boxes=np.array([box], np.float32),
        scores=np.array([score], np.float32),
        kept=np.array([kept], np.int32),
        count=count,
        limit=2,
        score_threshold=0.0,
    )
    found = finish(case)
    for found_box, found_score, label, row in found:
        assert (kept, label, row) == (0, 0, 0)
        assert count > 0
        assert 0 <= found_score <= 1
        assert np.isfinite(found_box).all()
    if np.isnan(probability) or np.isnan(score):
        assert found == []


@pytest.mark.parametrize(
    ("position", "value", "status"),
    [
        *((i, -1, -2) for i in (0, 1, 2, 15, 16)),
        (14, float("nan"), -3),
        (0, 0, 0),
        (1, 0, 0),
        (2, 0, -1),
        (0, 1, -1),
    ],
)
def test_bad_numbers_and_null_arrays_before_the_suppression(
    position: int, value: float, status: int
) -> None:
    numbers: list[Any] = [1, 1, 1, *map(np.float64, [0.0] * 4 + [1.0] * 7), 0.5, 9, 9]
    numbers[position] = value
    assert launch("finish", CANDIDATES, *[None] * 9, *numbers) == status


def test_more_candidates_than_are_suppressed_together_are_refused() -> None:
    doubles = [np.float64(1.0)] * 11
    some, ints = np.zeros((1, 4), np.float32), np.zeros(4, np.int32)
    arrays = (some, some, some, some, ints, ints, some, some, ints)
    assert launch("finish", CANDIDATES, *arrays, 4096, 17, 1, *doubles, 0.5, 9, 9) == -4


@pytest.mark.parametrize(
    ("sizes", "status"),
    [((-1, 1, 1), -2), ((1, -1, 1), -2), ((1, 1, -1), -2), ((1, 1, 0), 0), ((1, 1, 1), -1)],
)
def test_bad_numbers_and_null_arrays_after_the_suppression(
    sizes: tuple[int, ...], status: int
) -> None:
    assert launch("finish", GATHER, *[None] * 8, *sizes) == status


def test_without_candidates_nothing_is_gathered() -> None:
    results = (np.ones((2, 4), np.float32), np.ones(2, np.float32))
    indices = (np.ones(2, np.int64), np.ones(2, np.int32))
    winners = np.full(2, -1, np.int32)
    assert launch("finish", GATHER, winners, None, None, None, *results, *indices, 0, 0, 2) == 0
    assert not results[0].any()
    assert indices[0].tolist() == indices[1].tolist() == [-1, -1]
