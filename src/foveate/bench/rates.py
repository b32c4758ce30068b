# SPDX-License-Identifier: Apache-2.0
"""Rates: an amount of work divided by the time of each of several repetitions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_LEAST, _MOST = 5, 1000  # repetitions

Clock = Callable[[], float]
"""Returns seconds since any moment."""


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


def measure_rate(
    run: Callable[[], object],
    amount: float,
    *,
    name: str,
    precision: str | None,
    workload: str,
    unit: str,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> Rate:
    """Repeat a piece of work, and return its rate.

    The first run is not measured. At least 5 repetitions are, and none begins after ``seconds``
    otherwise.

    Args:
        run: Does the work once.
        amount: Number of operations or bytes of one repetition.
        name: See :class:`Rate`, as for the three following ones.
        precision: See there.
        workload: See there.
        unit: See there.
        seconds: Time after which no repetition begins.
        clock: Clock to read.
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
        unit=unit,
        median=median,
        low=low,
        high=high,
        repeats=len(rates),
    )
