# SPDX-License-Identifier: Apache-2.0
"""Production version for NumPy memory."""

import numpy as np

from foveate.arrays import Array, BoolArray, Float32Array, Int32Array, Int64Array

_SEEN = 4  # ratio of the boxes in the first pass to the limit, and of each later pass to the last
_LEAST_TILE, _TILE = 16, 64
_SORTED_TILE = 128
_SLACK = 1e-6  # relative; more than the error of an overlap in float32, which is a few times 2^-24
_EXPONENTS = -20, 50  # of coordinates whose areas and overlaps lie in the range of float32


def nms(
    boxes: Float32Array,
    scores: Float32Array,
    count: Int32Array,
    keep: Int32Array,
    keep_count: Int32Array,
    *,
    iou: float,
) -> None:
    """List the boxes that no better box covers, best first.

    Args:
        boxes: Boxes (K, 4) xyxy; one without area is never kept.
        scores: Scores (K,).
        count: Number of boxes that exist, (1,); they come first.
        keep: Indices (R,) into ``boxes``; -1 after the end.
        keep_count: Number of indices, (1,).
        iou: Largest intersection over union with a better box.
    """
    existing = int(count[0])
    winners = suppress(boxes[:existing], scores[:existing], None, iou, len(keep))
    keep[:] = -1
    keep[: len(winners)] = winners
    keep_count[0] = len(winners)


def gather_boxes(
    boxes: Float32Array,
    keep: Int32Array,
    gathered: Float32Array,
    *,
    horizontal: float,
    vertical: float,
    offset: float,
) -> None:
    """Gather boxes, scale them and move them.

    Args:
        boxes: Boxes (K, 4) xyxy.
        keep: Indices (R,) into ``boxes``; -1 for none.
        gathered: Boxes (R, 4) times the factors, plus the offset; zeros where there is none.
        horizontal: Factor of x.
        vertical: Factor of y.
        offset: Added to x and y.
    """
    factors = np.array([horizontal, vertical, horizontal, vertical], np.float32)
    np.multiply(boxes[keep], factors, out=gathered)
    gathered += np.float32(offset)
    gathered[keep < 0] = 0


def suppress(
    boxes: Float32Array, scores: Float32Array, groups: Array | None, iou: float, limit: int
) -> Int64Array:
    """Return the indices of the at most ``limit`` boxes that survive, best first.

    Equal scores keep the order of the boxes. Boxes of different groups do not meet.

    Args:
        boxes: Boxes (N, 4) xyxy; one without area does not survive.
        scores: Scores (N,).
        groups: Groups (N,) as integers, or None if all boxes are of one group.
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
        # A box that survives among the best survives among all, and these usually fill the limit.
        best = order[:seen]
        among = None if groups is None else groups[best]
        keep = best[suppress_sorted(boxes[best], among, iou, limit)]
        if len(keep) == limit or seen == len(order):
            return keep
        seen = min(len(order), _SEEN * seen)


def suppress_sorted(
    boxes: Float32Array, groups: Array | None, iou: float, limit: int
) -> Int64Array:
    """Return the indices of the at most ``limit`` boxes that survive.

    Args:
        boxes: Boxes (N, 4) xyxy with areas, best first.
        groups: Groups (N,) as integers, or None if all boxes are of one group.
        iou: Largest intersection over union with a better box, less than 1.
        limit: Largest number of survivors.
    """
    # Boxes that lie on top of each other are soon suppressed by a few; boxes that do not are hardly
    # suppressed at all, and then nearly all pairs are far apart. So the best boxes are compared with
    # all others, tile by tile, while that drops many; the rest is sorted along an axis, where a box
    # is compared only with those that begin early enough on its side for a sufficient overlap.
    keep = np.empty(0, np.int64)
    best = _LEAST_TILE
    with np.errstate(invalid="ignore"):  # infinite boxes cover nothing
        left = _Left(boxes, groups, iou)
        while len(left.index) and len(keep) < limit:
            others = len(left.index) - best
            stay = _survivors(left.covered_by_best(best))
            keep = np.concatenate([keep, left.index[:best][stay[:best]]])
            left.keep(best + np.flatnonzero(stay[best:]))
            few = (others - len(left.index)) * 8 * _TILE < others * best
            if few and len(left.index) and limit - len(keep) > _TILE:
                row = _Row(boxes[left.index], None if groups is None else groups[left.index], iou)
                if row.meetings < 0.15 * len(left.index) ** 2:
                    keep = np.concatenate([keep, left.index[row.survivors()]])
                    break
            best = min(2 * best, _TILE)
    return keep[:limit]


class _Left:
    """Boxes whose survival is undecided; ``index`` (N,) lists them.

    Overlaps are computed in float64, as in the reference. Where the best boxes are compared with
    all others, float32 is twice as fast, and float64 decides only the pairs within its error.
    """

    def __init__(self, boxes: Float32Array, groups: Array | None, iou: float) -> None:
        kind = _kind(boxes, iou)
        self.index = np.arange(len(boxes))
        self._boxes, self._groups, self._iou = boxes, groups, iou
        x0, y0, x1, y1 = boxes.T.astype(np.float64)
        # shared > iou (a + b - shared), solved for shared: more than a part of each area.
        parts = (x1 - x0) * (y1 - y0) * (iou / (1 + iou) * (1 - _SLACK))
        self._columns = np.stack([x0, y0, x1, y1, parts]).astype(kind)
        self._memory = np.empty((4, _TILE * len(boxes)), kind)
        self._later = np.tri(_TILE, k=-1, dtype=bool).T

    def keep(self, places: Int64Array) -> None:
        """Drop all boxes except those at ``places``."""
        self.index, self._columns = self.index[places], self._columns[:, places]

    def covered_by_best(self, count: int) -> BoolArray:
        """Return whether each of the best ``count`` boxes covers each box after it, (B, N)."""
        size = len(self.index)
        count = min(count, size)
        low, high = self._memory[:, : count * size].reshape(2, 2, count, size)
        near, far, parts = self._columns[:2], self._columns[2:4], self._columns[4]
        np.maximum(near[:, :count, None], near[:, None], out=low)
        np.minimum(far[:, :count, None], far[:, None], out=high)
        sides = np.subtract(np.maximum(high, low, out=high), low, out=high)
        shared = np.multiply(sides[0], sides[1], out=sides[0])
        bound = np.add(parts[:count, None], parts, out=low[0])
        covered: BoolArray = shared > bound
        covered[:, :count] &= self._later[:count, :count]
        if self._groups is not None:
            groups = self._groups[self.index]
            covered &= groups[:count, None] == groups
        pairs = np.flatnonzero(covered)
        doubtful = pairs[shared.ravel()[pairs] <= bound.ravel()[pairs] * (1 + 2 * _SLACK)]
        better, other = np.divmod(doubtful, size)
        covered[better, other] = _covers(
            self._boxes, self.index[better], self.index[other], self._iou
        )
        return covered


def _kind(boxes: Float32Array, iou: float) -> type[np.floating]:
    """Return float32 if it can hold all areas, overlaps and shares of them, otherwise float64."""
    least, most = np.exp2(_EXPONENTS)
    sizes = np.abs(boxes)
    held = np.all((sizes == 0) | ((sizes > least) & (sizes < most)))
    return np.float32 if held and (iou == 0 or iou > _SLACK) else np.float64


def _survivors(covered: BoolArray) -> BoolArray:
    """Return which of the N boxes survive, given which boxes each of the best covers, (B, N)."""
    stay = np.ones(covered.shape[1], bool)
    for best in np.flatnonzero(covered.any(axis=1)):
        if stay[best]:
            stay &= ~covered[best]
    return stay


class _Row:
    """Boxes sorted by their start on the axis along which fewer pairs of them overlap.

    ``meetings`` counts the pairs that share enough of their sides on this axis.
    """

    def __init__(self, boxes: Float32Array, groups: Array | None, iou: float) -> None:
        near, far = boxes.T.reshape(2, 2, -1).astype(np.float64, order="C")
        # A box that begins after this point shares too little of this box's side.
        reach = near + (far - near) * (1 - iou + _SLACK)
        orders = np.argsort(near, axis=1)
        ends = [np.searchsorted(near[a, orders[a]], reach[a, orders[a]]) for a in (0, 1)]
        axis = int(ends[1].sum() < ends[0].sum())
        self._order, self._end = orders[axis], ends[axis]
        self.meetings = int(np.sum(self._end - np.arange(len(boxes))))
        along = [axis, 1 - axis]
        # Starts are exact in float32, reaches are rounded up, and float32 is compared faster.
        far_enough = np.nextafter(reach.astype(np.float32), np.float32(np.inf))
        self._near = near.astype(np.float32)[along][:, self._order]
        self._reach = far_enough[along][:, self._order]
        self._boxes, self._groups, self._iou = boxes, groups, iou

    def survivors(self) -> BoolArray:
        """Return which boxes (N,) survive."""
        tiles = range(0, len(self._order), _SORTED_TILE)
        pairs = np.concatenate([self._covering_pairs(first) for first in tiles], axis=1)
        better, worse = pairs.min(axis=0), pairs.max(axis=0)
        order = np.argsort(better)
        stay = [True] * len(self._order)
        for winner, loser in zip(better[order].tolist(), worse[order].tolist(), strict=True):
            if stay[winner]:
                stay[loser] = False
        return np.array(stay)

    def _covering_pairs(self, first: int) -> Int64Array:
        """Return the pairs (2, P) of a box of a tile and a later one that overlap too much."""
        tile = slice(first, first + _SORTED_TILE)
        others = slice(first, self._end[tile].max())
        meet = self._near[0, others] < self._reach[0, tile, None]
        meet &= self._near[1, others] < self._reach[1, tile, None]
        meet &= self._near[1, tile, None] < self._reach[1, others]
        order = self._order
        if self._groups is not None:
            meet &= self._groups[order[tile], None] == self._groups[order[others]]
        one, other = np.divmod(np.flatnonzero(meet), meet.shape[1])
        pairs: Int64Array = order[first + np.stack([one, other])[:, one < other]]
        found: Int64Array = pairs[:, _covers(self._boxes, pairs[0], pairs[1], self._iou)]
        return found


def _covers(boxes: Float32Array, one: Int64Array, other: Int64Array, iou: float) -> BoolArray:
    """Return whether pairs of boxes share more than ``iou`` of their union, as in the reference."""
    columns = boxes.T.astype(np.float64, order="C")
    areas = (columns[2] - columns[0]) * (columns[3] - columns[1])
    x0, y0, x1, y1 = columns[:, one]
    left, top, right, bottom = columns[:, other]
    width = np.minimum(x1, right) - np.maximum(x0, left)
    height = np.minimum(y1, bottom) - np.maximum(y0, top)
    # Two negative sides would make a positive product.
    shared = width * np.maximum(height, 0)
    both = areas[one] + areas[other]
    covers: BoolArray = shared > iou * (both - shared)
    return covers
