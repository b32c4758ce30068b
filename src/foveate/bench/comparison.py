# SPDX-License-Identifier: Apache-2.0
"""The comparison of two benchmarks, as it is recorded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A figure of the candidate divided by that of the baseline.

    Args:
        name: Name of the figure: a time in seconds, or "highest rate" in images per second.
        baseline: The figure of the baseline.
        candidate: The figure of the candidate.
        value: Their ratio; the median of the ratios of neighbors if both were measured in turns.
        low: Lower end of its interval, or of the range of the highest rate.
        high: Upper end of it.
    """

    name: str
    baseline: float
    candidate: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a candidate compares with a baseline.

    Args:
        baseline: Name of the baseline.
        candidate: Name of the candidate.
        paired: Whether both were measured in turns.
        confidence: Confidence of the intervals, 0 to 1; null for the range of a rate, which has none.
        tolerance: Change of the decisive ratio, as a share, that does not count.
        decisive: Name of the ratio that decides.
        verdict: "slower", "faster" or "no difference shown"; "not decided" for highest rates.
        ratios: All ratios.
        warnings: Why the comparison may mislead.
    """

    baseline: str
    candidate: str
    paired: bool
    confidence: float | None
    tolerance: float
    decisive: str
    verdict: str
    ratios: tuple[Ratio, ...]
    warnings: tuple[str, ...]
