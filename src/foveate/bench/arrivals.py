# SPDX-License-Identifier: Apache-2.0
"""Schedules of arrivals."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np


def poisson_arrivals(rate: float, seed: int) -> Iterator[float]:
    """Yield the moments of a Poisson process, in seconds from its start, without end.

    It has ``rate`` arrivals per second on average; the same seed gives the same moments.
    """
    generator = np.random.default_rng(seed)
    moment = 0.0
    while True:
        moment += float(generator.exponential(1 / rate))
        yield moment


def last_arrival(rate: float, seed: int, count: int) -> float:
    """Return the moment of the last one of ``count`` arrivals, in seconds from the start."""
    return next(islice(poisson_arrivals(rate, seed), count - 1, None))
