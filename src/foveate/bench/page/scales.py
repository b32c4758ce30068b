# SPDX-License-Identifier: Apache-2.0
"""Scales: where a value lies on an axis, and which values are labeled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log10

from foveate.bench.percentiles import PERCENTS

_NOISE = 1e-9  # of a division, in steps


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An axis.

    Args:
        low: Value at its start.
        high: Value at its end.
        ticks: Values that are labeled, from low to high.
        transform: Increasing function of the values that the axis is linear in.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    transform: Callable[[float], float] = float

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 at the start to 1 at the end; others are clipped."""
        start, end = self.transform(self.low), self.transform(self.high)
        inside = min(max(value, self.low), self.high)
        return (self.transform(inside) - start) / (end - start)


def linear_scale(high: float, *, low: float = 0.0, rounded: bool = False) -> Scale:
    """Return a linear scale with at most six ticks.

    Args:
        high: Largest value; if it is ``low``, the scale is 1 long.
        low: Smallest value.
        rounded: Whether the scale extends to the next tick.
    """
    high = high if high > low else low + 1.0
    step = _step((high - low) / 5)
    first = ceil(low / step - _NOISE)
    last = ceil(high / step - _NOISE) if rounded else floor(high / step + _NOISE)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Scale(low=low, high=ticks[-1] if rounded else high, ticks=ticks)


def logarithmic_scale(low: float, high: float, *, most: int) -> Scale:
    """Return a logarithmic scale.

    Args:
        low: Value above 0.
        high: A larger value.
        most: Largest number of ticks, unless there are more powers of ten.
    """
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    ticks: tuple[float, ...] = ()
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = (factor * 10.0**power for power in powers for factor in factors)
        ticks = tuple(value for value in values if low <= value <= high)
        if len(ticks) <= most:
            break
    return Scale(low=low, high=high, ticks=ticks, transform=log10)


def percentile_scale(count: int) -> Scale:
    """Return a scale of percentiles on which the 90th, 99th and 99.9th are equally far apart.

    Args:
        count: Number of values, of which the largest is at the end of the scale.
    """
    high = 100 * (1 - 0.5 / max(count, 2))
    ticks = [percent for percent in PERCENTS if percent <= high]
    if high > 99.9:  # the ticks would stand too close together
        ticks = [percent for percent in ticks if percent not in (75, 95)]
    return Scale(low=0.0, high=high, ticks=(0.0, *ticks), transform=_nines)


def _nines(percent: float) -> float:
    return -log10(1 - percent / 100)


def _step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is at least a value."""
    power = 10.0 ** floor(log10(least))
    return next(
        factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - _NOISE)
    )
