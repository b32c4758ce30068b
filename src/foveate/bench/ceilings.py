# SPDX-License-Identifier: Apache-2.0
"""What this machine can do at most: rates of arithmetic in the engine, and of memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foveate.bench.bandwidth import array_size, last_level_cache, measure_bandwidth
from foveate.bench.probes import PROBES, Probe
from foveate.bench.rates import Rate, measure_rate
from foveate.bench.work import Kind

_MEASURABLE = ("fp32", "fp16", "int8")


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
        found = (
            rate.median
            for rate in self.arithmetic
            if (rate.name, rate.precision) == (kind, precision)
        )
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
        _measure(probe, precision, threads, seconds)
        for probe in probes
        for precision in _MEASURABLE
        if (probe.kind, precision) in wanted
    ]
    cache = last_level_cache()
    size = array_size(cache) if size is None else size
    memory = measure_bandwidth(threads=threads, size=size, seconds=seconds)
    return Ceilings(
        threads=threads,
        cache_bytes=cache,
        array_bytes=size,
        arithmetic=tuple(arithmetic),
        memory=memory,
    )


def _measure(probe: Probe, precision: str, threads: int, seconds: float) -> Rate:
    with probe.running(precision, threads) as run:
        return measure_rate(
            run,
            probe.operations,
            name=probe.kind,
            precision=precision,
            workload=str(probe),
            unit="FLOP/s",
            seconds=seconds,
        )
