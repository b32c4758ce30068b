# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.host_build.driver import host_device
from tests.kernels.running import Array, run

from foveate.kernels.postprocess import reference
from foveate.kernels.postprocess.op import POSTPROCESS

HEIGHT, WIDTH = 240, 320


@dataclass(frozen=True, kw_only=True)
class Case:
    """Outputs of the classifier for some proposals, and the options."""

    probabilities: Array
    deltas: Array
    boxes: Array
    scores: Array
    keep: Array
    count: int
    limit: int
    mean: tuple[float, float, float, float] = (0.0, 0.01, -0.02, 0.03)
    std: tuple[float, float, float, float] = (0.1, 0.11, 0.2, 0.21)
    calibration: tuple[float, float, float] = (-0.3, 0.9, 0.2)
    score_threshold: float = 0.2
    iou: float = 0.4
    height: int = HEIGHT
    width: int = WIDTH


def random_case(seed: int, most: int = 9, dtype: Any = np.float32) -> Case:
    rng = np.random.default_rng(seed)
    rows, classes, capacity = (int(rng.integers(0, most)), int(rng.integers(1, 5)), most + 2)
    corners = rng.uniform(-20, 200, (capacity, 2))
    sides = rng.uniform(0, 150, (capacity, 2))
    probabilities = rng.choice([0, 0.1, 0.5, 0.5, 0.9, 1], (rows, classes + 1))
    if seed % 2:
        probabilities = rng.uniform(0, 1, (rows, classes + 1))
    deltas = rng.normal(0, rng.choice([0.1, 2]), (rows, classes + 1, 4))
    return Case(
        probabilities=probabilities.astype(dtype),
        deltas=deltas.astype(dtype),
        boxes=np.concatenate([corners, corners + sides], 1).astype(np.float32),
        scores=rng.normal(0, 3, capacity).astype(np.float32),
        keep=rng.permutation(capacity)[:rows].astype(np.int32),
        count=int(rng.integers(0, rows + 1)),
        limit=int(rng.integers(0, most + 5)),
        calibration=(float(rng.normal()), float(rng.uniform(0.5, 2)), float(rng.normal(0, 0.3))),
        score_threshold=float(rng.choice([0.0, 0.05, 0.3, 0.6, 1.1])),
        iou=float(rng.choice([0.0, 0.3, 0.5, 1.0])),
    )


def postprocess(case: Case) -> list[reference.Detection]:
    """Run the operation; check the rows after the end; return the detections."""
    inputs = [case.probabilities, case.deltas, case.boxes, case.scores, case.keep]
    outputs: list[Any] = [
        ((case.limit, 4), np.float32),
        ((case.limit,), np.float32),
        ((case.limit,), np.int64),
        ((case.limit,), np.int32),
        ((1,), np.int32),
    ]
    boxes, scores, labels, rows, count = run(
        host_device(),
        POSTPROCESS,
        [*inputs, np.array([case.count], np.int32)],
        outputs,
        poison=False,
        mean=case.mean,
        std=case.std,
        calibration=case.calibration,
        score_threshold=case.score_threshold,
        iou=case.iou,
        height=case.height,
        width=case.width,
    )
    end = int(count[0])
    assert not boxes[end:].any()
    assert not scores[end:].any()
    assert (labels[end:] == -1).all()
    assert (rows[end:] == -1).all()
    columns = (boxes.tolist(), scores.tolist(), labels.tolist(), rows.tolist())
    listed = zip(*(column[:end] for column in columns), strict=True)
    return [(tuple(box), score, label, row) for box, score, label, row in listed]


def expected(case: Case) -> list[reference.Detection]:
    found = reference.postprocess(
        case.probabilities,
        case.deltas,
        case.boxes,
        case.scores,
        case.keep[: case.count].tolist(),
        case.limit,
        mean=case.mean,
        std=case.std,
        calibration=case.calibration,
        score_threshold=case.score_threshold,
        iou=case.iou,
        height=case.height,
        width=case.width,
    )
    boxes = np.array([detection[0] for detection in found], np.float32).reshape(-1, 4)
    rest = [detection[1:] for detection in found]
    return [
        ((x0, y0, x1, y1), *one) for (x0, y0, x1, y1), one in zip(boxes.tolist(), rest, strict=True)
    ]


def test_random_cases_are_bit_equal() -> None:
    detections = 0
    for seed in range(125):
        case = random_case(seed)
        found = postprocess(case)
        assert found == expected(case), seed
        detections += len(found)
    assert detections > 250


@pytest.mark.parametrize("seed", range(4))
def test_many_rows_are_bit_equal(seed: int) -> None:
    case = random_case(seed, most=400)
    assert postprocess(case) == expected(case)


def test_random_cases_of_half_precision_are_bit_equal() -> None:
    for seed in range(60):
        case = random_case(seed, dtype=np.float16)
        assert postprocess(case) == expected(case), seed


def test_a_score_of_exactly_the_smallest_is_a_detection() -> None:
    one = random_case(1)
    case = Case(
        probabilities=np.array([[0.2, 0.75]], np.float32),
        deltas=np.zeros((1, 2, 4), np.float32),
        boxes=one.boxes,
        scores=one.scores,
        keep=np.array([3], np.int32),
        count=1,
        limit=2,
        score_threshold=0.0,
    )
    ((_, score, _, _),) = postprocess(case)
    above = float(np.nextafter(np.float32(score), np.float32(1)))
    assert len(postprocess(_with(case, score_threshold=score))) == 1
    assert postprocess(_with(case, score_threshold=above)) == []


def _with(case: Case, **changes: Any) -> Case:
    return Case(**{**vars(case), **changes})


def test_the_logarithm_is_exact_to_float32_over_all_probabilities() -> None:
    probabilities = np.concatenate(
        [np.geomspace(1e-9, 0.5, 2000), 1 - np.geomspace(1e-9, 0.5, 2000)]
    )
    column = probabilities.astype(np.float32)[:, None]
    found = {row: score for _, score, _, row in postprocess(one_class(column, np.zeros((4000, 4))))}
    # Without a calibration a score is its probability again.
    clipped = np.clip(column[:, 0].astype(np.float64), 1e-7, 1 - 1e-7).astype(np.float32)
    assert [found[row] for row in range(4000)] == clipped.tolist()


def one_class(probabilities: Array, deltas: Array, **changes: Any) -> Case:
    """Return rows (R, 1) of one class, all of a box around the origin; nothing is suppressed."""
    rows = len(probabilities)
    plain: dict[str, Any] = {
        "probabilities": np.concatenate([np.zeros_like(probabilities), probabilities], 1),
        "deltas": np.stack([np.zeros((rows, 4)), deltas], 1).astype(np.float32),
        "boxes": np.array([[-1, -1, 1, 1]] * rows, np.float32),
        "scores": np.zeros(rows, np.float32),
        "keep": np.arange(rows, dtype=np.int32),
        "count": rows,
        "limit": rows,
        "mean": (0.0,) * 4,
        "std": (1.0,) * 4,
        "calibration": (0.0, 1.0, 0.0),
        "score_threshold": 0.0,
        "iou": 1.0,
    }
    return Case(**{**plain, **changes})


def test_the_exponential_is_exact_to_float32_over_its_range() -> None:
    growth = np.linspace(-60, 4.5, 4096, dtype=np.float32)
    deltas = np.zeros((4096, 4), np.float32)
    deltas[:, 2], deltas[:, 3] = growth, growth[::-1]
    case = one_class(np.full((4096, 1), 0.5, np.float32), deltas)
    found = postprocess(case)
    boxes = [
        reference.decode_box([-1, -1, 1, 1], delta, [0] * 4, [1] * 4, HEIGHT, WIDTH)
        for delta in deltas.tolist()
    ]
    assert np.array_equal([box for box, *_ in found], np.array(boxes, np.float32))


@given(
    box=st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 4),
    delta=st.tuples(*[st.floats(width=32)] * 4),
)
@settings(max_examples=100)
def test_any_delta_has_the_result_of_the_reference(
    box: tuple[float, ...], delta: tuple[float, ...]
) -> None:
    half = np.full((1, 1), 0.5, np.float32)
    case = one_class(half, np.array([delta], np.float32), boxes=np.array([box], np.float32))
    found = postprocess(case)
    wanted = expected(case)
    assert [one[1:] for one in found] == [one[1:] for one in wanted]
    assert [one[0] for one in found] == [one[0] for one in wanted]


@given(
    probability=st.floats(width=32),
    score=st.floats(width=32),
    delta=st.tuples(*[st.floats(width=32)] * 4),
    box=st.tuples(*[st.floats(width=32)] * 4),
    keep=st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1]),
    count=st.integers(-3, 5),
)
@settings(max_examples=100)
def test_any_number_has_a_defined_result(
    probability: float,
    score: float,
    delta: tuple[float, ...],
    box: tuple[float, ...],
    keep: int,
    count: int,
) -> None:
    case = Case(
        probabilities=np.array([[0.5, probability]], np.float32),
        deltas=np.array([[(0, 0, 0, 0), delta]], np.float32),
        boxes=np.array([box], np.float32),
        scores=np.array([score], np.float32),
        keep=np.array([keep], np.int32),
        count=count,
        limit=2,
        score_threshold=0.0,
    )
    found = postprocess(case)
    for found_box, found_score, label, row in found:
        assert (keep, label, row) == (0, 0, 0)
        assert count > 0
        assert 0 <= found_score <= 1
        assert np.isfinite(found_box).all()
    if np.isnan(probability) or np.isnan(score):
        assert found == []


@pytest.mark.parametrize(("rows", "classes"), [(0, 3), (5, 0)])
def test_without_candidates_nothing_is_detected(rows: int, classes: int) -> None:
    case = random_case(1)
    empty: dict[str, Any] = {
        "probabilities": np.zeros((rows, classes + 1), np.float32),
        "deltas": np.zeros((rows, classes + 1, 4), np.float32),
        "keep": np.zeros(rows, np.int32),
        "count": rows,
        "limit": 2,
    }
    assert postprocess(_with(case, **empty)) == []
