# SPDX-License-Identifier: Apache-2.0
"""The compiled postprocessing against its reference, bit for bit in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.running import Array
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.kernels.postprocess import reference
from foveate.kernels.postprocess.op import POSTPROCESS

OPTIONS: dict[str, Any] = {
    "mean": (0.0, 0.01, -0.02, 0.03),
    "std": (0.1, 0.11, 0.2, 0.21),
    "calibration": (-0.3, 0.9, 0.2),
    "height": 240,
    "width": 320,
}
CLASSES, DETECTIONS = "foveate_postprocess_classes_f32", "foveate_postprocess_detections"


def classified(rows: int, classes: int, seed: int) -> tuple[Array, Array, Array, Array, Array]:
    """Return probabilities, deltas, boxes, scores and keep of more proposals than rows."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-20, 200, (rows + 3, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(0, 150, (rows + 3, 2))], axis=1)
    return (
        generator.uniform(0, 1, (rows, classes + 1)).astype(np.float32),
        generator.normal(0, 1, (rows, classes + 1, 4)).astype(np.float32),
        boxes.astype(np.float32),
        generator.normal(0, 3, rows + 3).astype(np.float32),
        generator.permutation(rows + 3)[:rows].astype(np.int32),
    )


def postprocess(
    gpu: SimulatedGpu, given: tuple[Array, ...], count: int, limit: int = 30, **options: Any
) -> tuple[list[Array], dict[str, Counters]]:
    """Return boxes, scores, labels, rows and count of the detections, and the counts of kernels."""
    outputs: list[Any] = [
        ((limit, 4), np.float32),
        ((limit,), np.float32),
        ((limit,), np.int64),
        ((limit,), np.int32),
        ((1,), np.int32),
    ]
    inputs = [*given, np.array([count], np.int32)]
    return gpu.run(POSTPROCESS, inputs, outputs, **{"iou": 0.4, **OPTIONS, **options})


def check(
    gpu: SimulatedGpu, given: tuple[Array, ...], count: int, limit: int = 30, **options: Any
) -> int:
    """Compare everything with the reference; return the number of detections."""
    found, _ = postprocess(gpu, given, count, limit, **options)
    rows = given[4][:count].tolist()
    numbers = {"iou": 0.4, **OPTIONS, **options}
    want = reference.postprocess(given[0], given[1], given[2], given[3], rows, limit, **numbers)
    rest = limit - len(want)
    listed = [*want, *[((0.0, 0.0, 0.0, 0.0), 0.0, -1, -1)] * rest]
    for column, values in zip(found, zip(*listed, strict=True), strict=False):
        np.testing.assert_array_equal(column, np.array(values, column.dtype))
    assert found[4].tolist() == [len(want)]
    return len(want)


def test_detections_equal_the_reference_bit_for_bit(gpu: SimulatedGpu) -> None:
    given = classified(11, 13, 0)
    assert 0 < check(gpu, given, 9, score_threshold=0.8) < 30
    assert check(gpu, given, 11, score_threshold=0.05) == 30


def test_extreme_probabilities_and_logits_have_their_scores(gpu: SimulatedGpu) -> None:
    given = classified(2, 6, 1)
    given[0][:] = [0, 0, 1, 1e-7, 0.5, 1 - 2**-24, np.nan]
    given[3][:] = [1e38, -1e38, 3.0, np.nan, 0.0]
    check(gpu, given, 2, score_threshold=0.0)


def test_growth_is_limited_and_shrinking_is_not(gpu: SimulatedGpu) -> None:
    growths = [-1e4, -7100.0, -100.0, 0.0, 20.5, 20.7, 20.9, 1e4]
    given = classified(2, len(growths), 4)
    given[1][:] = 0
    given[1][:, 1:, 2] = given[1][:, 1:, 3] = growths
    given[2][:] = [[4000, 4000, 4010, 4020]] * 4 + [[-5, -5, 5, 15]]
    given[4][:] = [0, 4]
    numbers: dict[str, Any] = {
        "score_threshold": 0.0,
        "height": 1 << 14,
        "width": 1 << 14,
        "iou": 1.0,
    }
    assert check(gpu, given, 2, **numbers) > len(growths)
    (boxes, *_), _ = postprocess(gpu, given, 2, **numbers)
    assert (boxes[:, 2] - boxes[:, 0]).max() == pytest.approx(625, rel=0.02)


def test_rows_without_a_proposal_have_no_detections(gpu: SimulatedGpu) -> None:
    given = classified(4, 2, 2)
    given[4][:] = [-1, 7, 2**31 - 1, 0]
    (_, scores, _, rows, count), _ = postprocess(gpu, given, 4, score_threshold=0.0, iou=1.0)
    assert count[0] == 2
    assert rows[:2].tolist() == [0, 0]
    assert (scores[:2] > 0).all()


def test_a_negative_count_leaves_nothing(gpu: SimulatedGpu) -> None:
    (boxes, scores, labels, _, count), _ = postprocess(
        gpu, classified(3, 2, 3), -1, score_threshold=0.0
    )
    assert count[0] == 0
    assert not boxes.any()
    assert not scores.any()
    assert (labels == -1).all()


def tied(rows: int, classes: int, seed: int) -> tuple[Array, Array, Array, Array, Array]:
    """Return boxes that hardly move, and probabilities many of which are equal."""
    given = classified(rows, classes, seed)
    generator = np.random.default_rng(seed)
    given[0][:] = generator.integers(1, 9, given[0].shape) / 10
    given[1][:] *= np.float32(0.1)
    given[3][:] = 0.5
    return given


def test_equal_scores_have_the_order_of_rows_then_of_labels(either_way: SimulatedGpu) -> None:
    given = tied(20, 7, 6)
    for iou in (0.2, 1.0):
        assert check(either_way, given, 20, 25, score_threshold=0.3, iou=iou) == 25


@pytest.mark.parametrize("limit", [5, 40, 900])
def test_a_class_may_have_more_rows_than_a_block_has_threads(gpu: SimulatedGpu, limit: int) -> None:
    found = check(gpu, tied(290, 3, 7), 280, limit, score_threshold=0.2)
    assert found == limit or 40 < found < 840


def test_outputs_of_half_precision_are_read_as_they_are(gpu: SimulatedGpu) -> None:
    given = classified(9, 5, 8)
    half = (given[0].astype(np.float16), given[1].astype(np.float16), *given[2:])
    assert 0 < check(gpu, half, 9, score_threshold=0.4) < 30
    _, counters = postprocess(gpu, half, 9, score_threshold=0.4)
    assert set(counters) == {"foveate_postprocess_classes_f16", DETECTIONS}


@pytest.mark.parametrize("score_threshold", [0.0, 0.9])
def test_little_more_is_touched_than_candidates_and_survivors(
    gpu: SimulatedGpu, score_threshold: float
) -> None:
    rows, classes, limit = 60, 40, 100
    given = classified(rows, classes, 4)
    found, counters = postprocess(
        gpu, given, rows, limit, score_threshold=score_threshold, calibration=(0.0, 1.0, 0.0)
    )
    decoded = int(np.count_nonzero(given[0][:, 1:] >= score_threshold))
    scores, survivors = classes * rows * (4 + 4), min(decoded, classes * rows) * (4 + 16)
    read = rows * (classes + 1) * 4 + decoded * 16 + rows * (4 + 4 + 16)
    assert counters[CLASSES].bytes_written <= 1.25 * (scores + survivors + classes * 4) + 32
    # A box that is decoded, and one that survives, are half a sector.
    assert counters[CLASSES].bytes_read <= 2 * (read + scores + survivors)
    assert counters[DETECTIONS].bytes_written <= 1.25 * sum(array.nbytes for array in found)
