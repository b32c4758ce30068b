# SPDX-License-Identifier: Apache-2.0
"""How near a stage comes to what the arithmetic and the memory of the machine allow."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.bench.ceilings import Ceilings
from foveate.bench.work import StageWork


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """The limit of a stage on the machine whose ceilings were measured.

    Args:
        intensity: Operations per byte of weights, inputs and outputs.
        compute_ceiling: Highest rate of the stage's own mix of layers, in FLOP/s; null if the stage
            has no such layers, or the rate of one of its kinds was not measured.
        memory_ceiling: Bandwidth times intensity, in FLOP/s.
        bound: The lower ceiling: "arithmetic" or "memory"; null if the compute ceiling of a stage
            with operations is not known.
        least_seconds: Least time per image that both ceilings allow; null like ``bound``.
        seconds: Measured time per image; null if there is none.
        reached: Rate of the measured time, in FLOP/s.
        ratio: Least time divided by measured time: 1 at the ceiling, above 1 by noise, or where
            tensors between two stages stay in the caches.
    """

    intensity: float
    compute_ceiling: float | None
    memory_ceiling: float
    bound: str | None
    least_seconds: float | None
    seconds: float | None
    reached: float | None
    ratio: float | None


def roofline(work: StageWork, ceilings: Ceilings, seconds: float | None = None) -> Roofline:
    """Return the limit of a stage and, if its time per image is known, how near it comes to it.

    Layers of different kinds follow each other, so that the compute ceiling of a stage is the
    harmonic mean of those of its kinds, weighted by their operations.
    """
    memory = work.bytes / ceilings.bandwidth
    arithmetic = _arithmetic_seconds(work, ceilings)
    bound = least = None
    if arithmetic is not None:
        bound = "arithmetic" if arithmetic >= memory else "memory"
        least = max(arithmetic, memory)
    return Roofline(
        intensity=work.operations / work.bytes,
        compute_ceiling=work.operations / arithmetic if arithmetic else None,
        memory_ceiling=work.operations / memory,
        bound=bound,
        least_seconds=least,
        seconds=seconds,
        reached=None if seconds is None else work.operations / seconds,
        ratio=None if least is None or seconds is None else least / seconds,
    )


def _arithmetic_seconds(work: StageWork, ceilings: Ceilings) -> float | None:
    """Return the least time for the arithmetic, or None if a rate was not measured."""
    total = 0.0
    for (kind, precision), operations in work.operations_by_kind().items():
        rate = ceilings.flops(kind, precision)
        if rate is None:
            return None
        total += operations / rate
    return total
