# SPDX-License-Identifier: Apache-2.0
"""How far two arrays are from each other, summed over the calls of a stage."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from foveate.arrays import Array


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of one output of one stage on one image, over all calls.

    Attributes:
        calls: runs of the stage, one a level of the pyramid.
        values: numbers compared.
        largest: largest absolute value of the reference.
        max_error: largest absolute difference.
        mean_error: mean absolute difference.
        cosine: between both, as vectors; 1 where both are zero.
        not_finite: positions where one is finite and the other is not, or both are but differ.
        misshapen: calls that gave another shape; these are not compared.
    """

    calls: int
    values: int
    largest: float
    max_error: float
    mean_error: float
    cosine: float
    not_finite: int
    misshapen: int

    @property
    def relative(self) -> float:
        """Return the largest difference over max(1, largest value)."""
        return self.max_error / max(1.0, self.largest)


class Tally:
    """Sums for a `Difference`, call by call."""

    def __init__(self) -> None:
        self._calls = self._values = self._not_finite = self._misshapen = 0
        self._largest = self._max = self._sum = 0.0
        self._dot = self._expected = self._found = 0.0

    def add(self, expected: Array, found: Array) -> None:
        """Add a call: arrays of any shape and float type."""
        self._calls += 1
        if expected.shape != found.shape:
            self._misshapen += 1
            return
        one, other = expected.astype(np.float64), found.astype(np.float64)
        finite = np.isfinite(one) & np.isfinite(other)
        if not finite.all():
            same = (one == other) | (np.isnan(one) & np.isnan(other))
            self._not_finite += int((~finite & ~same).sum())
            one, other = one[finite], other[finite]
        error = np.abs(one - other)
        self._values += error.size
        self._largest = max(self._largest, float(np.abs(one).max(initial=0.0)))
        self._max = max(self._max, float(error.max(initial=0.0)))
        self._sum += float(error.sum())
        self._dot += float((one * other).sum())
        self._expected += float((one * one).sum())
        self._found += float((other * other).sum())

    def result(self) -> Difference:
        """Return what was found so far."""
        norms = sqrt(self._expected) * sqrt(self._found)
        alike = 1.0 if self._expected == self._found else 0.0
        return Difference(
            calls=self._calls,
            values=self._values,
            largest=self._largest,
            max_error=self._max,
            mean_error=self._sum / self._values if self._values else 0.0,
            cosine=self._dot / norms if norms else alike,
            not_finite=self._not_finite,
            misshapen=self._misshapen,
        )


def relative_error(expected: Array, found: Array) -> float:
    """Return max|difference| / max(1, max|expected|); infinite for other shapes or values like NaN."""
    tally = Tally()
    tally.add(expected, found)
    result = tally.result()
    return float("inf") if result.not_finite or result.misshapen else result.relative
