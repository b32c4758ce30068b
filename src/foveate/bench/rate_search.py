# SPDX-License-Identifier: Apache-2.0
"""The search for the highest rate of arrivals that holds a bound of the 99th percentile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING

from foveate.bench.figures import RateSearch, RateTrial
from foveate.bench.percentiles import distribution

if TYPE_CHECKING:
    from foveate.bench.benchmark import Benchmark

# Factor between rates until one is held and one is not, and their ratio at which the search ends.
_STEP, _RESOLUTION = 1.5, 1.05
_MOST_TRIALS = 20


def search_rate(
    try_rate: Callable[[float], RateTrial], bound: float, first: float
) -> Iterator[RateSearch]:
    """Search the highest rate that holds a bound in seconds, to within 5 %, starting at ``first``.

    Yields:
        The search so far, after each rate.
    """
    trials: list[RateTrial] = []
    rate: float | None = first
    while rate is not None:
        trials.append(try_rate(rate))
        held = max((one.rate for one in trials if one.held), default=None)
        rate = _next_rate(trials)
        yield RateSearch(bound=bound, rate=held, trials=tuple(trials), complete=rate is None)


def judge(run: Benchmark, bound: float) -> RateTrial:
    """Compare the latency of a run at a rate with the bound, in seconds.

    Images that were refused, or never started, count as slower than all others.
    """
    rate, rows = run.options.rate, run.collection.measured
    assert rate is not None
    p99 = distribution([one.sample.latency for one in rows], unstarted=run.lost).percentile(99)
    return RateTrial(
        rate=rate,
        images=len(rows),
        p99=p99.value,
        low=p99.low,
        high=p99.high,
        held=run.kept_up and p99.high is not None and p99.high <= bound,
    )


def _next_rate(trials: Sequence[RateTrial]) -> float | None:
    """Return the rate to try next; None if the search is over.

    Below a rate that has too few images there is none with enough, so that the search goes on above
    it, as it does above one that was held.
    """
    low = max((one.rate for one in trials if one.held is not False), default=0.0)
    high = min((one.rate for one in trials if one.held is False), default=inf)
    if len(trials) == _MOST_TRIALS or high <= low * _RESOLUTION:
        return None
    if high == inf:
        return low * _STEP
    return (low * high) ** 0.5 if low else high / _STEP
