# SPDX-License-Identifier: Apache-2.0
"""The search for the highest rate of arrivals that holds a bound of the 99th percentile."""

from __future__ import annotations

from collections.abc import Callable

from foveate.bench.figures import RateSearch, RateTrial

# Factor between rates until one is held and one is not, and their ratio at which the search ends.
_STEP, _RESOLUTION = 1.5, 1.05
_MOST_TRIALS = 20


def search_rate(try_rate: Callable[[float], RateTrial], bound: float, first: float) -> RateSearch:
    """Search the highest rate that holds a bound, to within 5 %.

    Args:
        try_rate: Measures a rate.
        bound: The bound, in seconds.
        first: The first rate that is tried, in images per second.
    """
    trials: list[RateTrial] = []
    held, missed = 0.0, float("inf")
    rate = first
    while len(trials) < _MOST_TRIALS and missed > held * _RESOLUTION:
        trials.append(try_rate(rate))
        if trials[-1].held:
            held = max(held, rate)
        else:
            missed = min(missed, rate)
        if missed == float("inf"):
            rate = held * _STEP
        elif not held:
            rate = missed / _STEP
        else:
            rate = (held * missed) ** 0.5
    return RateSearch(bound=bound, rate=held or None, trials=tuple(trials))
