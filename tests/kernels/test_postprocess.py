# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.kernels.postprocess import cpu, reference

MEAN, STD = (0.01, -0.02, 0.1, 0.0), (0.1, 0.1, 0.2, 0.2)


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(-5, 60, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(1, 40, (count, 2))], 1).astype(np.float32)


def test_decode_agrees_with_reference() -> None:
    rng = np.random.default_rng(0)
    boxes, deltas = boxes_of(rng, 20), rng.normal(0, 8, (20, 3, 4)).astype(np.float32)
    found = cpu.decode_boxes(boxes, deltas, mean=MEAN, std=STD, height=50, width=70)
    for r in range(20):
        for c in range(3):
            expected = reference.decode_box(boxes[r], deltas[r, c], MEAN, STD, 50, 70)
            assert found[r, c] == pytest.approx(expected, abs=1e-3)


def test_decode_limits_growth() -> None:
    boxes = np.array([[100, 100, 116, 116]], np.float32)
    deltas = np.array([[[0, 0, 1e9, 1e9]]], np.float32)
    found = cpu.decode_boxes(
        boxes, deltas, mean=(0, 0, 0, 0), std=(1, 1, 1, 1), height=5000, width=5000
    )
    assert found[0, 0] == pytest.approx((0, 0, 608, 608), abs=0.01)  # 1000 px around 108


@given(
    seed=st.integers(0, 999),
    count=st.integers(0, 8),
    score_threshold=st.sampled_from([0.0, 0.3]),
    iou=st.sampled_from([0.3, 0.6]),
    limit=st.sampled_from([3, 50]),
)
@settings(max_examples=60)
def test_agrees_with_reference(
    seed: int, count: int, score_threshold: float, iou: float, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = boxes_of(rng, 10), rng.normal(0, 2, 10).astype(np.float32)
    logits = rng.normal(0, 2, (8, 4))
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    deltas = rng.normal(0, 1, (8, 4, 4)).astype(np.float32)
    keep = rng.permutation(10)[:8].astype(np.int32)
    options: dict[str, Any] = {
        "mean": MEAN,
        "std": STD,
        "calibration": (0.2, 0.9, 0.3),
        "score_threshold": score_threshold,
        "iou": iou,
        "height": 60,
        "width": 80,
    }
    out = (
        np.full((limit, 4), np.nan, np.float32),
        np.full(limit, np.nan, np.float32),
        np.full(limit, 99, np.int64),
        np.full(limit, 99, np.int32),
        np.full(1, 99, np.int32),
    )
    cpu.postprocess(
        probabilities, deltas, boxes, scores, keep, np.array([count], np.int32), *out, **options
    )
    expected = reference.postprocess(
        probabilities, deltas, boxes, scores, keep[:count].tolist(), limit, **options
    )
    found = int(out[4][0])
    assert found == len(expected)
    assert out[2][:found].tolist() == [label for _, _, label, _ in expected]
    assert out[3][:found].tolist() == [row for *_, row in expected]
    assert out[1][:found] == pytest.approx([score for _, score, *_ in expected], abs=1e-6)
    assert np.allclose(
        out[0][:found], np.array([b for b, *_ in expected]).reshape(-1, 4), atol=1e-3
    )
    assert not out[0][found:].any()
    assert (out[2][found:] == -1).all()


def test_outputs_of_half_precision_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(5)
    boxes, scores = boxes_of(rng, 6), rng.normal(0, 2, 6).astype(np.float32)
    halves = [rng.uniform(0, 1, (6, 4)), rng.normal(0, 1, (6, 4, 4))]
    results = []
    for dtype in (np.float16, np.float32):
        probabilities, deltas = (half.astype(np.float16).astype(dtype) for half in halves)
        shapes: list[tuple[int, ...]] = [(9, 4), (9,), (9,), (9,), (1,)]
        kinds = (np.float32, np.float32, np.int64, np.int32, np.int32)
        out: list[Any] = [np.empty(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]
        keep, count = np.arange(6, dtype=np.int32), np.array([6], np.int32)
        given: list[Any] = [probabilities, deltas, boxes, scores, keep, count]
        cpu.postprocess(
            *given,
            *out,
            mean=MEAN,
            std=STD,
            calibration=(0.2, 0.9, 0.3),
            score_threshold=0.3,
            iou=0.5,
            height=60,
            width=80,
        )
        results.append(out)
    assert results[0][4][0] > 4
    for found, want in zip(*results, strict=True):
        np.testing.assert_array_equal(found, want)


def test_calibration_of_certain_probabilities_stays_finite() -> None:
    scores = cpu.calibrate(
        np.array([[0.0, 1.0]], np.float32), np.array([0.0], np.float32), (0.0, 1.0, 0.0)
    )
    assert scores[0] == pytest.approx([0, 1], abs=1e-6)
