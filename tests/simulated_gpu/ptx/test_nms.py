# SPDX-License-Identifier: Apache-2.0
"""The compiled suppression against its reference: the same boxes in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.running import Array
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.kernels.nms.op import GATHER_BOXES, NMS
from foveate.kernels.nms.reference import nms


def suppress(
    gpu: SimulatedGpu, boxes: Array, scores: Array, iou: float, limit: int, count: int | None = None
) -> list[int]:
    """Return the survivors, best first."""
    existing = np.array([len(boxes) if count is None else count], np.int32)
    outputs = [((limit,), np.int32), ((1,), np.int32)]
    (keep, found), _ = gpu.run(NMS, [boxes, scores, existing], outputs, iou=iou)
    assert (keep[found[0] :] == -1).all()
    survivors: list[int] = keep[: found[0]].tolist()
    return survivors


def clusters(count: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    centers = generator.integers(0, 12, (count, 2)) * 10.0
    corners = centers + generator.integers(0, 5, (count, 2))
    boxes = np.concatenate([corners, corners + generator.integers(0, 14, (count, 2))], axis=1)
    return boxes.astype(np.float32), generator.integers(-40, 40, count).astype(np.float32) / 8


@pytest.mark.parametrize("count", [1, 31, 33, 100, 260])
def test_survivors_equal_the_reference(gpu: SimulatedGpu, count: int) -> None:
    boxes, scores = clusters(count, count)
    for iou, limit in ((0.5, count), (0.0, 7), (0.3, count + 5)):
        found = suppress(gpu, boxes, scores, iou, limit)
        assert found == nms(boxes, scores, None, iou, limit)


def test_blocks_may_run_in_any_order(either_way: SimulatedGpu) -> None:
    boxes, scores = clusters(270, 5)
    found = suppress(either_way, boxes, scores, 0.4, 100)
    assert found == nms(boxes, scores, None, 0.4, 100)


def test_overlaps_at_the_threshold_are_kept(gpu: SimulatedGpu) -> None:
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1], [0, 0, 3, 3], [0, 0, 3, 1]], np.float32)
    scores = np.array([4, 3, 2, 1], np.float32)
    for iou in (1 / 3, 1 / 3 - 1e-9, 2 / 3, 2 / 9, 0.99, 1.0, 2.0):
        found = suppress(gpu, boxes, scores, iou, 4)
        assert found == nms(boxes, scores, None, iou, 4)


def test_only_the_boxes_that_exist_compete(gpu: SimulatedGpu) -> None:
    boxes, scores = clusters(80, 4)
    for count in (0, 1, 50):
        found = suppress(gpu, boxes, scores, 0.5, 80, count)
        assert found == nms(boxes[:count], scores[:count], None, 0.5, 80)


def test_equal_and_strange_scores_keep_their_order(gpu: SimulatedGpu) -> None:
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(8)], np.float32)
    scores = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1, 1, -1], np.float32)
    found = suppress(gpu, boxes, scores, 0.5, 8)
    assert found == [3, 5, 6, 0, 1, 7, 4, 2]


def test_a_few_barriers_are_met_for_each_256_boxes(gpu: SimulatedGpu) -> None:
    boxes, scores = clusters(300, 6)
    existing = np.array([300], np.int32)
    outputs = [((300,), np.int32), ((1,), np.int32)]
    _, counters = gpu.run(NMS, [boxes, scores, existing], outputs, iou=0.5)
    # Two for each 256 keys that each 256 boxes are compared with; two for each warp of 256 boxes.
    assert counters["foveate_nms"].barriers == 2 * 2 * 2 + 1 + 2 * 8 * 2


def boxes_of(count: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-20, 600, (count, 2))
    sides = np.exp(generator.uniform(0, 6, (count, 2)))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def gather(gpu: SimulatedGpu, boxes: Array, keep: Array) -> tuple[Array, Counters]:
    inputs = [boxes, keep.astype(np.int32)]
    outputs = [((len(keep), 4), np.float32)]
    frame = {"horizontal": 0.3, "vertical": 1.7, "offset": 80.0}
    (found,), counters = gpu.run(GATHER_BOXES, inputs, outputs, **frame)
    assert counters["foveate_gather_boxes"].stores.excess == 1
    return found, counters["foveate_gather_boxes"]


def test_boxes_are_gathered_scaled_and_moved(gpu: SimulatedGpu) -> None:
    boxes = boxes_of(20, 3)
    keep = np.random.default_rng(4).integers(-1, 20, 140)
    keep[:4] = [20, -7, 2**31 - 1, 19]  # three that name no box
    found, _ = gather(gpu, boxes, keep)
    factors = np.array([0.3, 1.7, 0.3, 1.7], np.float32)
    exists = (keep >= 0) & (keep < 20)
    moved = boxes[np.where(exists, keep, 0)] * factors + np.float32(80)
    want = np.where(exists[:, None], moved, np.float32(0))
    np.testing.assert_array_equal(found, want)


def test_boxes_gathered_in_order_are_moved_once(gpu: SimulatedGpu) -> None:
    _, counters = gather(gpu, boxes_of(1000, 0), np.arange(1000))
    assert counters.bytes_moved <= 1.25 * 1000 * (4 + 16 + 16)
    assert counters.loads.excess <= 1.25


def test_boxes_in_any_order_cost_a_sector_each_and_are_read_once(gpu: SimulatedGpu) -> None:
    # A box is half a sector: what is gathered from any place costs up to two for each of its own.
    keep = np.random.default_rng(1).permutation(1000)
    _, counters = gather(gpu, boxes_of(1000, 0), keep)
    assert counters.bytes_moved <= 1000 * (4 + 32 + 16) + 32
    assert counters.bytes_read + counters.bytes_written <= 1.25 * 1000 * (4 + 16 + 16)
