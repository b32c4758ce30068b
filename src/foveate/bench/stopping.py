# SPDX-License-Identifier: Apache-2.0
"""When enough images were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foveate.bench.percentiles import fewest_runs, percentile, relative_width

if TYPE_CHECKING:
    from foveate.bench.options import BenchOptions
    from foveate.tracing.clock import Clock

# The interval is computed again when the number of images has grown by this factor.
_GROWTH = 1.1


class Stopping:
    """Ends a run when the chosen percentile is stable, or when the time is over.

    If the options have a number of images, that number alone ends the run.

    The percentile is stable when its interval is narrow. That does not end a schedule: a queue that
    grows steadily has narrow intervals too. The time counts from the creation of this object.

    Attributes:
        reason: What ended the run: "stable", "seconds" or "count".
    """

    def __init__(self, options: BenchOptions, clock: Clock) -> None:
        self.reason = "seconds" if options.count is None else "count"
        self._count = options.count
        self._percent, self._tolerance = options.percentile, options.tolerance
        self._settles = options.tolerance > 0
        self._end = clock.now() + options.time_limit
        self._clock = clock
        self._latencies: list[float] = []
        self._refused = 0
        self._next = fewest_runs(options.percentile)

    def note(self, latency: float | None) -> None:
        """Note the latency of an image, or None for a refusal."""
        if latency is None:
            self._refused += 1
        else:
            self._latencies.append(latency)

    def is_over(self) -> bool:
        """Return whether the percentile is stable, or the time is over."""
        count = len(self._latencies)
        if self._count is not None:
            return count + self._refused >= self._count
        if self.reason == "stable" or self._clock.now() >= self._end:
            return True
        if not self._settles or count < self._next:
            return False
        self._next = int(count * _GROWTH) + 1
        found = percentile(np.sort(self._latencies), self._percent)
        if relative_width(found) <= self._tolerance:
            self.reason = "stable"
        return self.reason == "stable"
