# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version."""

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Array, Float32Array


def covers(first: Sequence[float], second: Sequence[float], iou: float) -> bool:
    """Return whether two xyxy boxes share more than ``iou`` of their union."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared > iou * (areas[0] + areas[1] - shared)


def nms(
    boxes: Float32Array, scores: Float32Array, groups: Array | None, iou: float, limit: int
) -> list[int]:
    """Return the indices of the survivors, best first; see the CPU version."""
    keep: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i)):
        box = boxes[index].tolist()
        if not (box[2] > box[0] and box[3] > box[1]) or len(keep) == limit:
            continue
        rivals = [k for k in keep if groups is None or groups[k] == groups[index]]
        if not any(covers(boxes[k].tolist(), box, iou) for k in rivals):
            keep.append(index)
    return keep


def gather_boxes(
    boxes: Sequence[Sequence[float]],
    keep: Sequence[int],
    horizontal: float,
    vertical: float,
    offset: float,
) -> list[list[float]]:
    """Return the boxes of the indices, scaled and moved; zeros for a negative index."""
    factors = (horizontal, vertical, horizontal, vertical)
    return [
        [
            float(np.float32(value * factor) + np.float32(offset))
            for value, factor in zip(boxes[index], factors, strict=True)
        ]
        if index >= 0
        else [0.0, 0.0, 0.0, 0.0]
        for index in keep
    ]
