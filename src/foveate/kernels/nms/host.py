# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory."""

from __future__ import annotations

import numpy as np

from foveate.arrays import Array, Float32Array, Int32Array, Int64Array
from foveate.kernels.nms.in_numpy import suppress_sorted

_SEEN = 4
"""Boxes that are looked at first, times those that may survive; and times as many after that."""


def nms(
    boxes: Float32Array,
    scores: Float32Array,
    count: Int32Array,
    kept: Int32Array,
    kept_count: Int32Array,
    *,
    iou: float,
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


def suppress(
    boxes: Float32Array, scores: Float32Array, groups: Array | None, iou: float, limit: int
) -> Int64Array:
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
    seen = min(len(order), _SEEN * limit)
    while True:
        # What survives among the best survives among all, and 100 of 10,000 are among the best.
        best = order[:seen]
        among = None if groups is None else groups[best]
        kept = best[suppress_sorted(boxes[best], among, iou, limit)]
        if len(kept) == limit or seen == len(order):
            return kept
        seen = min(len(order), _SEEN * seen)
