# SPDX-License-Identifier: Apache-2.0
"""The compiled suppression against its reference: the same boxes in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Array

from foveate.kernels.nms.reference import nms


def suppress(
    device: Device,
    boxes: Array,
    scores: Array,
    groups: Array | None,
    iou: float,
    limit: int,
    count: int | None = None,
) -> tuple[list[int], list[Counters]]:
    """Return the survivors, best first, and the counts of the four kernels."""
    capacity, words = len(boxes), -(-len(boxes) // 32)
    uploaded = device.upload(boxes.astype(np.float32), "boxes")
    asked = None if groups is None else device.upload(groups.astype(np.int32), "groups")
    keys, order = (
        device.empty((capacity,), "uint32", "keys"),
        device.empty((capacity,), "int32", "order"),
    )
    masks = device.empty((capacity, words), "uint32", "masks")
    kept, kept_count = device.empty((limit,), "int32", "kept"), device.empty((1,), "int32", "count")
    counters = [
        device.launch(
            "nms_keys",
            boxes=uploaded,
            scores=device.upload(scores.astype(np.float32), "scores"),
            count=None if count is None else device.upload(np.array([count], np.int32), "count"),
            keys=keys,
            capacity=capacity,
        ),
        device.launch("nms_order", keys=keys, order=order, capacity=capacity),
        device.launch(
            "nms_masks",
            boxes=uploaded,
            groups=asked,
            order=order,
            masks=masks,
            capacity=capacity,
            words=words,
            iou=float(iou),
        ),
        device.launch(
            "nms_scan",
            order=order,
            masks=masks,
            kept=kept,
            kept_count=kept_count,
            capacity=capacity,
            limit=limit,
        ),
    ]
    found = int(kept_count.array[0])
    assert (kept.array[found:] == -1).all()
    assert all(c.threads["local load"] == 0 for c in counters)
    return kept.array[:found].tolist(), counters


def clusters(count: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    centres = generator.integers(0, 12, (count, 2)) * 10.0
    corners = centres + generator.integers(0, 5, (count, 2))
    boxes = np.concatenate([corners, corners + generator.integers(0, 14, (count, 2))], axis=1)
    return boxes.astype(np.float32), generator.integers(-40, 40, count).astype(np.float32) / 8


@pytest.mark.parametrize("count", [1, 31, 33, 100, 260])
def test_survivors_equal_the_reference(device: Device, count: int) -> None:
    boxes, scores = clusters(count, count)
    for iou, limit in ((0.5, count), (0.0, 7), (0.3, count + 5)):
        found, _ = suppress(device, boxes, scores, None, iou, limit)
        assert found == nms(boxes, scores, None, iou, limit)


def test_blocks_may_run_in_any_order(either_way: Device) -> None:
    boxes, scores = clusters(270, 5)
    found, _ = suppress(either_way, boxes, scores, None, 0.4, 100)
    assert found == nms(boxes, scores, None, 0.4, 100)


def test_groups_do_not_meet(device: Device) -> None:
    boxes, scores = clusters(150, 2)
    groups = np.random.default_rng(3).integers(0, 4, 150)
    found, _ = suppress(device, boxes, scores, groups, 0.2, 150)
    assert found == nms(boxes, scores, groups, 0.2, 150)


def test_overlaps_at_the_threshold_are_kept(device: Device) -> None:
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1], [0, 0, 3, 3], [0, 0, 3, 1]], np.float32)
    scores = np.array([4, 3, 2, 1], np.float32)
    for iou in (1 / 3, 1 / 3 - 1e-9, 2 / 3, 2 / 9, 0.99, 1.0, 2.0):
        found, _ = suppress(device, boxes, scores, None, iou, 4)
        assert found == nms(boxes, scores, None, iou, 4)


def test_only_the_boxes_that_exist_compete(device: Device) -> None:
    boxes, scores = clusters(80, 4)
    for count in (0, 1, 50):
        found, _ = suppress(device, boxes, scores, None, 0.5, 80, count)
        assert found == nms(boxes[:count], scores[:count], None, 0.5, 80)


def test_equal_and_strange_scores_keep_their_order(device: Device) -> None:
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(8)], np.float32)
    scores = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1, 1, -1], np.float32)
    found, _ = suppress(device, boxes, scores, None, 0.5, 8)
    assert found == [3, 5, 6, 0, 1, 7, 4, 2]


def test_masks_are_all_that_much_memory_is_used_for(device: Device) -> None:
    boxes, scores = clusters(256, 6)
    _, counters = suppress(device, boxes, scores, None, 0.5, 256)
    assert counters[3].barriers == 1 + 2 * 8
    assert counters[2].bytes_written <= 256 * 256 // 8
    assert counters[1].loads.excess <= 1.25
