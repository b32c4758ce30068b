# SPDX-License-Identifier: Apache-2.0
"""The ratio of the highest rates that two searches found.

NOTE: A highest rate has no confidence interval. The range here is the resolution of the searches, and
no verdict follows from it: of 16 searches of one simulated pipeline with the same arrivals, the
highest rates differed by up to 15 %, and of four pairs three had ranges apart from each other. The
intervals of the rates that were tried do not help, since images in one queue depend on each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.bench.comparison import Ratio
from foveate.bench.percentiles import fewest_runs
from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.bench.record import Record

HIGHEST_RATE = "highest rate"


def ratio_of_rates(baseline: Record, candidate: Record) -> Ratio:
    """Return the highest rate of the candidate divided by that of the baseline, above 1 if higher.

    Raises:
        InputError: The searches had other bounds or other numbers of images per rate, or one has no
            highest rate.
    """
    one, two = baseline.scenario, candidate.scenario
    if one.p99 != two.p99:
        raise InputError(
            f"the bounds of the 99th percentile differ: {one.p99:g} and {two.p99:g} s",
            remedy="measure both with the same --p99",
        )
    counts = [scenario.count or fewest_runs(99) for scenario in (one, two)]
    if counts[0] != counts[1]:
        raise InputError(
            f"the numbers of images per rate differ, and so does what holds the bound: {counts[0]:,} "
            f"and {counts[1]:,}",
            remedy="measure both with the same --count",
        )
    held, missed = _range(baseline)
    other_held, other_missed = _range(candidate)
    return Ratio(
        name=HIGHEST_RATE,
        baseline=held,
        candidate=other_held,
        value=other_held / held,
        low=other_held / missed,
        high=other_missed / held,
    )


def _range(record: Record) -> tuple[float, float]:
    """Return the highest rate that held the bound, and the lowest one above it that did not."""
    name, search = record.subject.label, record.search
    if search is None or not search.complete:
        raise InputError(
            f"the search of {name} was interrupted, so that a higher rate may hold the bound",
            remedy="measure it again to its end",
        )
    held = search.rate
    if held is None:
        raise InputError(
            f"no rate held a 99th percentile of {search.bound:g} s when {name} was measured",
            remedy="measure both with a larger --p99",
        )
    missed = [one.rate for one in search.trials if one.held is False and one.rate > held]
    if not missed:
        raise InputError(
            f"all rates that were tried up to {held:.3g} images per second held the bound when {name} "
            "was measured",
            remedy="measure it again with a higher --rate, which is tried first",
        )
    return held, min(missed)
