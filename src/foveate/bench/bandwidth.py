# SPDX-License-Identifier: Apache-2.0
"""Bandwidth of the memory of the CPU, by arrays that its caches cannot hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from foveate.arrays import Float32Array
from foveate.bench.rates import Clock, Rate, measure_rate

# A virtual machine reports a cache that it shares with others, often of hundreds of megabytes.
_SMALLEST, _LARGEST = 32 << 20, 256 << 20
_BLOCK = 1 << 16  # elements of a block of the triad, which stays in the cache of a core
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def last_level_cache(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int | None:
    """Return the bytes of the largest cache of the first core, or None where it is unknown."""
    sizes = []
    for file in root.glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        sizes.append(int(text.rstrip("KMG")) * _UNITS.get(text[-1:], 1))
    return max(sizes, default=None)


def array_size(cache: int | None) -> int:
    """Return the bytes of each array to measure with: those of the cache, 32 to 256 MiB."""
    return min(max(cache or _SMALLEST, _SMALLEST), _LARGEST)


def measure_bandwidth(
    *, threads: int, size: int, seconds: float, clock: Clock = time.perf_counter
) -> tuple[Rate, ...]:
    """Measure a copy and a triad, ``a = b + 3 * c``.

    Bytes are those of the arrays that are read and of the one that is written, as in the benchmark
    STREAM; what a processor reads because it is about to be overwritten is not counted.

    Args:
        threads: Number of threads, each of which has a part of the arrays.
        size: Bytes of each array, 4 at least per thread.
        seconds: Time for each of the two.
        clock: Clock to read.
    """
    count = size // 4
    source, other = np.ones(count, np.float32), np.ones(count, np.float32)
    target = np.zeros(count, np.float32)
    parts = [np.array_split(one, threads) for one in (target, source, other)]
    with ThreadPoolExecutor(threads) as pool:

        def rate(name: str, arrays: int, work: Callable[..., None]) -> Rate:
            return measure_rate(
                lambda: list(pool.map(work, *parts[:arrays])),
                4 * count * arrays,
                name=name,
                precision=None,
                workload=f"{arrays} arrays of {size >> 20} MiB",
                unit="B/s",
                seconds=seconds,
                clock=clock,
            )

        return rate("copy", 2, np.copyto), rate("triad", 3, _triad)


def _triad(target: Float32Array, source: Float32Array, other: Float32Array) -> None:
    """Write ``source + 3 * other`` block by block, so that products do not go through memory."""
    for first in range(0, len(target), _BLOCK):
        part = slice(first, first + _BLOCK)
        np.multiply(other[part], np.float32(3), out=target[part])
        np.add(target[part], source[part], out=target[part])
