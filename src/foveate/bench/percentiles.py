# SPDX-License-Identifier: Apache-2.0
"""Percentiles with confidence intervals by order statistics, which assume no distribution.

The number of values below the true percentile has a binomial distribution. So the values of two
ranks enclose the percentile with a probability that depends on the ranks and the count only. Where
no ranks of the sample reach the confidence, there are not enough runs, and there is no percentile.
"""

from __future__ import annotations

from math import inf, isfinite, log, log1p, nan
from typing import TYPE_CHECKING

import numpy as np

from foveate.bench.figures import Distribution, Percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.arrays import Float64Array

CONFIDENCE = 0.95
PERCENTS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


def distribution(values: Sequence[float], *, unstarted: int = 0) -> Distribution:
    """Return the figures of a sample.

    Args:
        values: Times in seconds, in any order.
        unstarted: Number of further times that are only known to be larger than all others.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    known = ordered.size > 0 and not unstarted
    ordered = np.append(ordered, [inf] * unstarted)
    return Distribution(
        count=ordered.size,
        mean=float(ordered.mean()) if known else None,
        deviation=float(ordered.std(ddof=1)) if known and ordered.size > 1 else None,
        smallest=_finite(ordered[0]) if ordered.size else None,
        largest=_finite(ordered[-1]) if ordered.size else None,
        percentiles=tuple(percentile(ordered, percent) for percent in PERCENTS),
    )


def percentile(ordered: Float64Array, percent: float) -> Percentile:
    """Return a percentile of sorted values with its interval."""
    ranks = interval_ranks(ordered.size, percent / 100)
    if ranks is None:
        return Percentile(percent=percent, value=None, low=None, high=None)
    low, high = (_finite(ordered[rank]) for rank in ranks)
    value = _finite(quantile(ordered, percent))
    return Percentile(percent=percent, value=value, low=low, high=high)


def quantile(ordered: Float64Array, percent: float) -> float:
    """Return the smallest of sorted values that at least ``percent`` of them do not exceed."""
    rank = int(np.ceil(ordered.size * percent / 100 - 1e-9)) - 1
    return float(ordered[max(0, rank)])


def interval_ranks(count: int, share: float) -> tuple[int, int] | None:
    """Return the ranks, from 0, of the sorted values that enclose a quantile; None if none do.

    Each end is exceeded with a probability of at most half of what the confidence leaves.
    """
    below = _binomial_distribution(count, share)
    tail = (1 - CONFIDENCE) / 2
    # P(quantile < value of rank r) = P(at most r values below it) = below[r].
    low = int(np.searchsorted(below, tail, side="right")) - 1
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return (low, high) if low >= 0 and high < count else None


def fewest_runs(percent: float) -> int:
    """Return the smallest count of values that supports a percentile."""
    share = percent / 100
    extreme = max(share, 1 - share)
    return int(np.ceil(log((1 - CONFIDENCE) / 2) / log(extreme)))


def relative_width(one: Percentile) -> float:
    """Return the width of an interval as a share of its percentile, infinity if there is none."""
    if one.value is None or one.low is None or one.high is None:
        return inf
    return (one.high - one.low) / one.value if one.value > 0 else nan


def _binomial_distribution(count: int, share: float) -> Float64Array:
    """Return (count + 1,) probabilities of at most k of ``count`` events, for k = 0 ... count."""
    k = np.arange(count, dtype=np.float64)
    steps = np.log((count - k) / (k + 1)) + log(share) - log1p(-share)
    logarithms = np.concatenate([[0.0], np.cumsum(steps)]) + count * log1p(-share)
    cumulative: Float64Array = np.cumsum(np.exp(logarithms))
    return cumulative


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None
