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
CANDIDATES, GATHER = "foveate_postprocess_candidates", "foveate_postprocess_gather"


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


@pytest.mark.parametrize("score_threshold", [0.0, 0.9])
def test_candidates_and_detections_move_little_more_than_they_must(
    gpu: SimulatedGpu, score_threshold: float
) -> None:
    rows, classes, limit = 60, 40, 100
    given = classified(rows, classes, 4)
    found, counters = postprocess(
        gpu, given, rows, limit, score_threshold=score_threshold, calibration=(0.0, 1.0, 0.0)
    )
    decoded = int(np.count_nonzero(given[0][:, 1:] >= score_threshold))
    read = rows * (classes + 1) * 4 + decoded * 16 + rows * (4 + 4 + 16)
    candidates = counters[CANDIDATES]
    assert candidates.stores.excess == 1
    assert candidates.bytes_moved <= 1.25 * (read + rows * classes * (16 + 4 + 4))
    # A gathered box is half a sector, and a score an eighth.
    written = sum(array.nbytes for array in found[:4])
    assert counters[GATHER].bytes_moved <= 2 * (limit * (4 + 16 + 4 + 4) + written)
    assert counters[GATHER].stores.sectors * 32 <= 1.25 * written + 128
