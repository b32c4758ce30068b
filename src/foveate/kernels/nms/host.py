# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory: one vector operation for each box that is kept."""

from __future__ import annotations

import numpy as np

from foveate.arrays import Array, Floats, Ints, Longs

__all__ = ["nms", "suppress"]

_CHUNK = 1024


def nms(
    boxes: Floats, scores: Floats, count: Ints, kept: Ints, kept_count: Ints, *, iou: float
) -> None:
    """List the boxes that no better box covers, best first.

    Args:
        boxes: (K, 4) xyxy; a box without area is never kept.
        scores: (K,).
        count: (1,): only the first ``count`` boxes exist.
        kept: (R,): indices into ``boxes``; -1 after the end.
        kept_count: (1,).
        iou: A box is dropped if its intersection over union with a better one is larger.
    """
    existing = int(count[0])
    winners = suppress(boxes[:existing], scores[:existing], None, iou, len(kept))
    kept[:] = -1
    kept[: len(winners)] = winners
    kept_count[0] = len(winners)


def suppress(boxes: Floats, scores: Floats, groups: Array | None, iou: float, limit: int) -> Longs:
    """Return the indices of the at most ``limit`` boxes that survive, best first.

    Equal scores keep the order of the boxes. Boxes of different groups do not meet.

    Args:
        boxes: (N, 4) xyxy; a box without area does not survive.
        scores: (N,).
        groups: (N,) integers, or None if all boxes are of one group.
        iou: Largest intersection over union with a better box.
        limit: Largest number of survivors.
    """
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = np.argsort(-scores, kind="stable")
    order = order[solid[order]]
    if iou >= 1.0:
        return order[:limit]
    winners: list[int] = []
    for start in range(0, len(order), _CHUNK):
        _suppress_chunk(boxes, groups, iou, limit, order[start : start + _CHUNK], winners)
        if len(winners) == limit:
            break
    return np.array(winners, np.int64)


def _suppress_chunk(
    boxes: Floats, groups: Array | None, iou: float, limit: int, chunk: Longs, winners: list[int]
) -> None:
    """Extend ``winners`` by the survivors of ``chunk``, which is sorted."""
    corners = boxes[chunk].astype(np.float64)
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    alive = np.ones(len(chunk), bool)
    for index in winners:
        alive &= ~_covered(boxes, groups, iou, index, chunk, corners, areas)
    position = 0
    while len(winners) < limit:
        ahead = int(np.argmax(alive[position:])) if position < len(chunk) else 0
        position += ahead
        if position >= len(chunk) or not alive[position]:
            return
        index = int(chunk[position])
        winners.append(index)
        position += 1
        rest = slice(position, None)
        alive[rest] &= ~_covered(boxes, groups, iou, index, chunk[rest], corners[rest], areas[rest])


def _covered(
    boxes: Floats,
    groups: Array | None,
    iou: float,
    index: int,
    others: Longs,
    corners: Array,
    areas: Array,
) -> Array:
    """Return which of the others overlap the box ``index`` too much."""
    x0, y0, x1, y1 = boxes[index].tolist()
    width = np.minimum(corners[:, 2], x1) - np.maximum(corners[:, 0], x0)
    height = np.minimum(corners[:, 3], y1) - np.maximum(corners[:, 1], y0)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    covered: Array = shared > iou * ((x1 - x0) * (y1 - y0) + areas - shared)
    if groups is not None:
        covered &= groups[others] == groups[index]
    return covered
