# SPDX-License-Identifier: Apache-2.0
"""The outline of a mask, as polygons along the edges of its pixels."""

from __future__ import annotations

import numpy as np

from foveate.arrays import Int64Array


def outline_runs(columns: Int64Array, starts: Int64Array, ends: Int64Array) -> list[Int64Array]:
    """Return the outline of a mask, without painting it.

    Args:
        columns: (R,) column of each run of foreground. Runs are sorted by column, then by row; they
            do not overlap but may touch.
        starts: (R,) first row of each run.
        ends: (R,) row after the last row of each run.

    Returns:
        Closed polygons, (V, 2) int64 each: x, y of corners of pixels, in pixels of the image. Edges
        are horizontal and vertical in turns. A point is in the mask if it is inside of an odd number
        of polygons: holes are polygons of their own.
    """
    if not len(columns):
        return []
    # A run that touches the one above it continues it.
    apart = (columns[1:] != columns[:-1]) | (starts[1:] != ends[:-1])
    first, last = np.append(True, apart), np.append(apart, True)
    columns, starts, ends = columns[first], starts[first], ends[last]
    # Each run has two horizontal edges. All their ends are at the left or the right of a column, and
    # there, in the order of the rows, a vertical edge joins the first to the second, the third to
    # the fourth, and so on. So each corner has one horizontal and one vertical edge.
    x = np.stack([columns, columns + 1, columns, columns + 1], 1).reshape(-1)
    y = np.stack([starts, starts, ends, ends], 1).reshape(-1)
    # Of two edges that meet, the one that ends a run comes first, so that pixels that touch only at
    # a corner have polygons of their own.
    ending = np.tile([False, False, True, True], len(columns))
    order = np.lexsort((~ending, y, x))
    vertical = np.empty(len(x), np.int64)
    vertical[order[0::2]], vertical[order[1::2]] = order[1::2], order[0::2]
    points = np.stack([x, y], 1)
    return [_corners(points[cycle]) for cycle in _cycles(vertical)]


def _cycles(vertical: Int64Array) -> list[list[int]]:
    """Follow horizontal and vertical edges in turns, and return the points of each closed path."""
    partner = vertical.tolist()
    unseen = bytearray(b"\1") * len(partner)
    cycles = []
    for first in range(len(partner)):
        if not unseen[first]:
            continue
        cycle, point = [], first
        while unseen[point]:
            other = point ^ 1  # the other end of its horizontal edge
            unseen[point] = unseen[other] = 0
            cycle += [point, other]
            point = partner[other]
        cycles.append(cycle)
    return cycles


def _corners(polygon: Int64Array) -> Int64Array:
    """Leave out the points of a closed rectilinear polygon at which it goes straight on."""
    before, after = np.roll(polygon, 1, 0), np.roll(polygon, -1, 0)
    straight = ((before == polygon) & (polygon == after)).any(1)
    corners: Int64Array = polygon[~straight]
    return corners
