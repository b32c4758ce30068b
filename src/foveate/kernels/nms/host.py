# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory: compiled, or overlaps in tiles and then bit masks."""

from __future__ import annotations

from ctypes import CDLL, c_double, c_longlong, c_void_p

import numpy as np

from foveate.arrays import Array, Bools, Floats, Ints, Longs
from foveate.kernels.host_library import host_library

__all__ = ["nms", "suppress"]

_TILE = 112


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
    library = host_library()
    if library is None:
        return _suppress_in_numpy(boxes, groups, iou, limit, order)
    return _suppress_compiled(library, boxes, groups, iou, limit, order)


def _suppress_compiled(
    library: CDLL, boxes: Floats, groups: Array | None, iou: float, limit: int, order: Longs
) -> Longs:
    """Return the survivors among the boxes of ``order``, best first."""
    sorted_boxes = np.ascontiguousarray(boxes[order], np.float32)
    sorted_groups = None if groups is None else np.ascontiguousarray(groups[order], np.int32)
    winners = np.empty(len(order), np.int64)
    found = library.foveate_host_suppress(
        c_void_p(sorted_boxes.ctypes.data),
        None if sorted_groups is None else c_void_p(sorted_groups.ctypes.data),
        c_longlong(len(order)),
        c_double(iou),
        c_longlong(limit),
        c_void_p(winners.ctypes.data),
    )
    return order[winners[:found]]


def _suppress_in_numpy(
    boxes: Floats, groups: Array | None, iou: float, limit: int, order: Longs
) -> Longs:
    """Return the same."""
    winners = order[:0]
    for start in range(0, len(order), _TILE):
        tile = order[start : start + _TILE]
        for first in range(0, len(winners), _TILE):
            better = winners[first : first + _TILE]
            tile = tile[~np.any(_covered(boxes, groups, iou, better, tile), axis=0)]
        fresh = tile[_survivors(_covered(boxes, groups, iou, tile, tile))]
        winners = np.concatenate([winners, fresh])[:limit]
        if len(winners) == limit:
            break
    return winners


def _covered(
    boxes: Floats, groups: Array | None, iou: float, better: Longs, others: Longs
) -> Bools:
    """Return (B, O): whether a better box overlaps another one too much."""
    x0, y0, x1, y1 = boxes[better].astype(np.float64).T[:, :, None]
    left, top, right, bottom = boxes[others].astype(np.float64).T
    with np.errstate(invalid="ignore"):  # infinite boxes cover nothing
        shared = np.minimum(x1, right)
        shared -= np.maximum(x0, left)
        height = np.minimum(y1, bottom)
        height -= np.maximum(y0, top)
        # Two negative sides would make a positive product.
        shared *= np.maximum(height, 0, out=height)
        union = (x1 - x0) * (y1 - y0) + (right - left) * (bottom - top)
        union -= shared
        union *= iou
        covered: Bools = shared > union
    if groups is not None:
        covered &= groups[better][:, None] == groups[others]
    return covered


def _survivors(covered: Bools) -> list[int]:
    """Return which of N boxes survive, best first, by what each covers: (N, N).

    A row is one integer of N bits, so that one operation drops all that a survivor covers.
    """
    rows = np.packbits(covered, axis=1, bitorder="little")
    dropped, survivors = 0, []
    for index, row in enumerate(rows):
        if not dropped >> index & 1:
            survivors.append(index)
            dropped |= int.from_bytes(row.tobytes(), "little")
    return survivors
