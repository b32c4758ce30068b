# SPDX-License-Identifier: Apache-2.0
"""What this machine can do at most: rates of arithmetic in the engine, and of memory.

A rate is an amount of work divided by the time of each of several repetitions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveate.arrays import Float32Array
from foveate.bench.probes import PROBES, Probe
from foveate.bench.work import Kind

_MEASURABLE = ("fp32", "fp16", "int8")
_LEAST, _MOST = 5, 1000  # repetitions
# A virtual machine reports a cache that it shares with others, often of hundreds of megabytes.
_SMALLEST, _LARGEST = 32 << 20, 256 << 20
_BLOCK = 1 << 16  # elements of a block of the triad, which stays in the cache of a core
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A measured rate, with its spread.

    Args:
        name: Kind of arithmetic, or "copy" or "triad".
        precision: Precision of the arithmetic; null for memory.
        workload: What was repeated, such as "3x3, 64 to 64 channels, 120x160".
        unit: "FLOP/s" or "B/s".
        median: Median of the rates of the repetitions.
        low: First quartile.
        high: Third quartile.
        repeats: Number of repetitions.
    """

    name: str
    precision: str | None
    workload: str
    unit: str
    median: float
    low: float
    high: float
    repeats: int


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """Rates that were measured on the CPU of this machine.

    Args:
        threads: Number of threads of every measurement.
        cache_bytes: Bytes of the last-level cache, null where it is unknown.
        array_bytes: Bytes of each array with which the memory was measured.
        arithmetic: Rates of single layers in ONNX Runtime, in FLOP/s.
        memory: Rates of a copy and a triad, in bytes per second.
    """

    threads: int
    cache_bytes: int | None
    array_bytes: int
    arithmetic: tuple[Rate, ...]
    memory: tuple[Rate, ...]

    def flops(self, kind: Kind, precision: str) -> float | None:
        """Return the highest rate of a kind of arithmetic, or None if it was not measured."""
        wanted = (kind, precision)
        found = (one.median for one in self.arithmetic if (one.name, one.precision) == wanted)
        return max(found, default=None)

    @property
    def bandwidth(self) -> float:
        """The higher rate of copy and triad, in bytes per second."""
        return max(rate.median for rate in self.memory)


def measure_ceilings(
    kinds: Iterable[tuple[Kind, str]],
    *,
    threads: int,
    seconds: float = 0.4,
    size: int | None = None,
    probes: Sequence[Probe] = PROBES,
) -> Ceilings:
    """Measure the ceilings of this machine's CPU.

    Args:
        kinds: Kinds of arithmetic and their precisions, such as
            :meth:`foveate.bench.work.StageWork.operations_by_kind` returns. A precision that cannot
            be measured is left out.
        threads: Number of threads, which should be that of the pipeline.
        seconds: Time for each layer, and for copy and triad.
        size: Bytes of each array to measure the memory with; by default those of the last-level
            cache, 32 to 256 MiB.
        probes: Layers to measure.

    Raises:
        BackendError: Memory or threads run out.
    """
    wanted = set(kinds)
    arithmetic = [
        _measure_layer(probe, precision, threads, seconds)
        for probe in probes
        for precision in _MEASURABLE
        if (probe.kind, precision) in wanted
    ]
    cache = last_level_cache()
    size = array_size(cache) if size is None else size
    return Ceilings(
        threads=threads,
        cache_bytes=cache,
        array_bytes=size,
        arithmetic=tuple(arithmetic),
        memory=measure_bandwidth(threads=threads, size=size, seconds=seconds),
    )


def _measure_layer(probe: Probe, precision: str, threads: int, seconds: float) -> Rate:
    with probe.running(precision, threads) as run:
        return measure_rate(
            run,
            probe.operations,
            name=probe.kind,
            precision=precision,
            workload=str(probe),
            seconds=seconds,
        )


def measure_rate(
    run: Callable[[], object],
    amount: float,
    *,
    name: str,
    precision: str | None,
    workload: str,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Rate:
    """Repeat a piece of work, and return its rate.

    The first run is not measured. At least 5 repetitions are, and none begins after ``seconds``
    otherwise.

    Args:
        run: Does the work once.
        amount: Number of operations or, without a precision, of bytes of one repetition.
        name: See :class:`Rate`.
        precision: See there.
        workload: See there.
        seconds: Time after which no repetition begins.
        clock: Returns seconds since any moment.
    """
    run()
    rates: list[float] = []
    start = clock()
    while len(rates) < _LEAST or (clock() - start < seconds and len(rates) < _MOST):
        begin = clock()
        run()
        rates.append(amount / max(clock() - begin, 1e-9))
    low, median, high = (float(one) for one in np.percentile(rates, (25, 50, 75)))
    return Rate(
        name=name,
        precision=precision,
        workload=workload,
        unit="FLOP/s" if precision else "B/s",
        median=median,
        low=low,
        high=high,
        repeats=len(rates),
    )


def measure_bandwidth(
    *, threads: int, size: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> tuple[Rate, ...]:
    """Measure a copy and a triad, ``a = b + 3 * c``, of arrays that no cache can hold.

    Bytes are those of the arrays that are read and of the one that is written, as in the benchmark
    STREAM; what a processor reads because it is about to be overwritten is not counted.

    Args:
        threads: Number of threads, each of which has a part of the arrays.
        size: Bytes of each array, 4 at least per thread.
        seconds: Time for each of the two.
        clock: Returns seconds since any moment.
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
                seconds=seconds,
                clock=clock,
            )

        return rate("copy", 2, np.copyto), rate("triad", 3, _triad)


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


def _triad(target: Float32Array, source: Float32Array, other: Float32Array) -> None:
    """Write ``source + 3 * other`` block by block, so that products do not go through memory."""
    for first in range(0, len(target), _BLOCK):
        part = slice(first, first + _BLOCK)
        np.multiply(other[part], np.float32(3), out=target[part])
        np.add(target[part], source[part], out=target[part])
