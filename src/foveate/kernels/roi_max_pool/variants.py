# SPDX-License-Identifier: Apache-2.0
"""Which way of pooling moves fewer bytes, counted before anything runs.

Direct pooling reads every pixel of every bin. Tables of square windows (2, 4, 8 pixels a side) cost
three passes over the map, and let a bin be read with a few look-ups, but are four times as large as
the map, so that an L2 cache that holds the map may not hold them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

__all__ = ["PooledMap", "bin_lengths", "direct_bytes", "is_direct", "table_bytes"]

_CACHE_SPEED = 4.0  # how many times the bandwidth of the memory that of the L2 cache is, about
_LARGEST_WINDOW = 8


@dataclass(frozen=True, kw_only=True)
class PooledMap:
    """A map and the regions pooled from it.

    Args:
        height: Rows.
        width: Columns.
        channels: Channels.
        itemsize: Bytes of an element.
        bins: Rows and columns of bins of a region.
        rounding: See ``reference.py``.
        cache_bytes: Size of the L2 cache.
    """

    height: int
    width: int
    channels: int
    itemsize: int
    bins: tuple[int, int] = (7, 7)
    rounding: str = "caffe"
    cache_bytes: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel of the map."""
        return self.channels * self.itemsize

    @property
    def map_bytes(self) -> int:
        """Bytes of the map."""
        return self.height * self.width * self.pixel_bytes


def direct_bytes(pooled: PooledMap, regions: Iterable[tuple[int, int]]) -> float:
    """Count the bytes that direct pooling reads from memory, those from the cache at their price.

    Args:
        pooled: The map.
        regions: Rows and columns of each region, in pixels of the map.
    """
    pixels = 0
    for rows, columns in regions:
        heights = bin_lengths(rows, pooled.bins[0], pooled.rounding)
        widths = bin_lengths(columns, pooled.bins[1], pooled.rounding)
        pixels += sum(heights) * sum(widths)
    return _priced(pooled, pixels * pooled.pixel_bytes, pooled.map_bytes)


def table_bytes(pooled: PooledMap, regions: Iterable[tuple[int, int]]) -> float:
    """Count the same for tables: making them, and looking up; see :func:`direct_bytes`."""
    look_ups = 0
    for rows, columns in regions:
        for height in bin_lengths(rows, pooled.bins[0], pooled.rounding):
            for width in bin_lengths(columns, pooled.bins[1], pooled.rounding):
                look_ups += _look_ups(height, width)
    making = 3 * 2 * pooled.map_bytes  # each table is read from the one before, and written
    return making + _priced(pooled, look_ups * pooled.pixel_bytes, 4 * pooled.map_bytes)


def is_direct(pooled: PooledMap, regions: Iterable[tuple[int, int]]) -> bool:
    """Return whether direct pooling moves no more than tables do; see :func:`direct_bytes`."""
    listed = list(regions)
    return direct_bytes(pooled, listed) <= table_bytes(pooled, listed)


def bin_lengths(length: int, bins: int, rounding: str) -> list[int]:
    """Return the pixels of each bin along an axis, before clipping."""
    if rounding == "v2":
        edges = [int(k * length / bins + 0.5) for k in range(bins + 1)]
        return [last - first for first, last in pairwise(edges)]
    return [ceil((k + 1) * length / bins) - k * length // bins for k in range(bins)]


def _look_ups(height: int, width: int) -> int:
    if min(height, width) == 0:
        return 0
    window = 1
    while 2 * window <= min(height, width, _LARGEST_WINDOW):
        window *= 2
    return ceil(height / window) * ceil(width / window)


def _priced(pooled: PooledMap, wanted: int, held: int) -> float:
    """Return what ``wanted`` bytes cost, read from arrays of ``held`` bytes."""
    hit = min(pooled.cache_bytes / held, 1.0) if held else 1.0
    misses = max((1 - hit) * wanted, min(held, wanted))
    return misses + (wanted - misses) / _CACHE_SPEED
