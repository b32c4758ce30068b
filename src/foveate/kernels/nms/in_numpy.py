# SPDX-License-Identifier: Apache-2.0
"""Greedy suppression in numpy.

NOTE: Boxes that lie on top of each other are soon suppressed by a few; boxes that do not are hardly
suppressed at all, and then nearly all pairs are far apart. So the best boxes are compared with all
others, tile by tile, while that drops many; what is left is sorted along an axis, where a box meets
only those that begin before it has become too short for the overlap that is asked for.

Overlaps decide in float64, as those of the reference do; see overlap.cuh. Where the best are
compared with all, float32 is twice as fast, and float64 decides only what it leaves in doubt.
"""

from __future__ import annotations

import numpy as np

from foveate.arrays import Array, BoolArray, Float32Array, Int64Array

_LEAST_TILE, _TILE = 16, 64
_SORTED_TILE = 128
_SLACK = 1e-6  # relative, above what float32 gets wrong in an overlap: a few 2^-24
_EXPONENTS = -20, 50  # of coordinates whose areas and overlaps float32 can hold


def suppress_sorted(
    boxes: Float32Array, groups: Array | None, iou: float, limit: int
) -> Int64Array:
    """Return the indices of the at most ``limit`` boxes that survive.

    Args:
        boxes: (N, 4) xyxy with areas, best first.
        groups: (N,) integers, or None: boxes of different groups do not meet.
        iou: Largest intersection over union with a better box, less than 1.
        limit: Largest number of survivors.
    """
    kept = np.empty(0, np.int64)
    best = _LEAST_TILE
    with np.errstate(invalid="ignore"):  # infinite boxes cover nothing
        left = _Left(boxes, groups, iou)
        while len(left.index) and len(kept) < limit:
            others = len(left.index) - best
            stay = _survivors(left.covered_by_best(best))
            kept = np.concatenate([kept, left.index[:best][stay[:best]]])
            left.keep(best + np.flatnonzero(stay[best:]))
            few = (others - len(left.index)) * 8 * _TILE < others * best
            if few and len(left.index) and limit - len(kept) > _TILE:
                row = _Row(boxes[left.index], None if groups is None else groups[left.index], iou)
                if row.meetings < 0.15 * len(left.index) ** 2:
                    kept = np.concatenate([kept, left.index[row.survivors()]])
                    break
            best = min(2 * best, _TILE)
    return kept[:limit]


class _Left:
    """The boxes of which it is not known yet whether they survive; ``index`` (N,) says which."""

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
        """Forget all but some."""
        self.index, self._columns = self.index[places], self._columns[:, places]

    def covered_by_best(self, count: int) -> BoolArray:
        """Return (B, N): whether one of the best ``count`` boxes covers one after it."""
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
    """Return float32 if no area, overlap or share of one leaves its range, else float64."""
    least, most = np.exp2(_EXPONENTS)
    sizes = np.abs(boxes)
    held = np.all((sizes == 0) | ((sizes > least) & (sizes < most)))
    return np.float32 if held and (iou == 0 or iou > _SLACK) else np.float64


def _survivors(covered: BoolArray) -> BoolArray:
    """Return (N,): which boxes survive what the best of them, (B, N), cover."""
    stay = np.ones(covered.shape[1], bool)
    for best in np.flatnonzero(covered.any(axis=1)):
        if stay[best]:
            stay &= ~covered[best]
    return stay


class _Row:
    """Boxes sorted by where they begin on the axis on which fewer of them meet.

    ``meetings`` counts the pairs that share enough of their sides on this axis.
    """

    def __init__(self, boxes: Float32Array, groups: Array | None, iou: float) -> None:
        near, far = boxes.T.reshape(2, 2, -1).astype(np.float64, order="C")
        # What begins later than here shares too little of this box's side.
        reach = near + (far - near) * (1 - iou + _SLACK)
        orders = np.argsort(near, axis=1)
        ends = [np.searchsorted(near[a, orders[a]], reach[a, orders[a]]) for a in (0, 1)]
        axis = int(ends[1].sum() < ends[0].sum())
        self._order, self._end = orders[axis], ends[axis]
        self.meetings = int(np.sum(self._end - np.arange(len(boxes))))
        along = [axis, 1 - axis]
        # float32 holds where boxes begin, and their reach rounded up, and is compared faster.
        far_enough = np.nextafter(reach.astype(np.float32), np.float32(np.inf))
        self._near = near.astype(np.float32)[along][:, self._order]
        self._reach = far_enough[along][:, self._order]
        self._boxes, self._groups, self._iou = boxes, groups, iou

    def survivors(self) -> BoolArray:
        """Return (N,): which boxes survive."""
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
        """Return (2, P): the pairs that overlap too much of a tile and what comes after it."""
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
    """Return (P,): whether boxes share more than ``iou`` of their union, as the reference says."""
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
