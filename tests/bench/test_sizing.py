# SPDX-License-Identifier: Apache-2.0
"""Replicas for a rate, and their price."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.bench.simulated import noisy, simulated_record

from foveate.arrays import Float64Array
from foveate.bench.figures import RateSearch, RateTrial
from foveate.bench.options import BenchOptions
from foveate.bench.rate_search import search_rate
from foveate.bench.record import Record
from foveate.bench.sizing import size, size_all
from foveate.errors import OptionError

OFFLINE = BenchOptions(scenario="offline", seconds=10, warm_up=0, tolerance=0)


def searched(rate: float | None, bound: float = 0.5) -> Record:
    search = RateSearch(bound=bound, rate=rate, trials=())
    return replace(simulated_record(noisy(0), OFFLINE), search=search)


def test_replicas_follow_from_the_highest_rate_that_held_the_bound() -> None:
    found = size(searched(8.0), rate=100.0, price_per_hour=None)
    assert (found.capacity, found.p99, found.replicas) == (8.0, 0.5, 13)
    assert found.utilization == pytest.approx(100 / 104)
    assert found.cost_per_hour is None
    assert found.cost_per_million is None


def test_a_rate_of_whole_replicas_needs_no_further_one() -> None:
    assert size(searched(0.7), rate=4.9, price_per_hour=None).replicas == 7  # 4.9 / 0.7 > 7
    assert size(searched(0.7), rate=4.901, price_per_hour=None).replicas == 8


def test_a_million_images_cost_what_all_replicas_cost_meanwhile() -> None:
    found = size(searched(8.0), rate=100.0, price_per_hour=0.9)
    assert found.cost_per_hour == pytest.approx(13 * 0.9)
    # A million images at 100 per second take 10,000 seconds.
    assert found.cost_per_million == pytest.approx(13 * 0.9 * 10_000 / 3600)


def test_without_a_rate_one_replica_is_described() -> None:
    found = size(searched(8.0), rate=None, price_per_hour=0.9)
    assert (found.rate, found.replicas, found.utilization) == (None, 1, 1.0)
    assert found.cost_per_million == pytest.approx(0.9 * 125_000 / 3600)


def test_batches_are_sized_by_the_throughput() -> None:
    record = simulated_record(noisy(0), OFFLINE)
    found = size(record, rate=95.0, price_per_hour=None)
    assert found.p99 is None
    assert found.capacity == record.outcome.throughput
    assert found.replicas == 10  # an image takes 0.1 s


def test_random_balancing_over_the_replicas_holds_the_bound() -> None:
    """Found by the search on one simulated replica, for twenty images per second on several."""
    generator, bound = np.random.default_rng(0), 1.5

    def attempt(rate: float) -> RateTrial:
        p99 = float(np.quantile(latencies(rate, 100_000, generator), 0.99))
        return RateTrial(rate=rate, images=100_000, p99=p99, low=p99, high=p99, held=p99 <= bound)

    *_, search = search_rate(attempt, bound, 1.0)
    found = size(replace(searched(None), search=search), rate=20.0, price_per_hour=None)
    # 5 % of room for the chance in both simulations.
    assert balanced_p99(20.0, found.replicas, generator) <= 1.05 * bound
    # The mean time of an image, 0.2 s, would ask for four replicas, whose queues grow.
    assert found.replicas > 4
    assert balanced_p99(20.0, 4, generator) > 2 * bound


def latencies(rate: float, count: int, generator: np.random.Generator) -> Float64Array:
    """Return the latencies of a replica that takes one image at a time, by Lindley's recursion."""
    gaps = generator.exponential(1 / rate, count)
    times = generator.lognormal(np.log(0.2), 0.3, count)
    waiting, found = 0.0, np.empty(count)
    for index, (gap, time) in enumerate(zip(gaps, times, strict=True)):
        waiting = max(0.0, waiting - gap)
        waiting += time
        found[index] = waiting
    return found


def balanced_p99(rate: float, replicas: int, generator: np.random.Generator) -> float:
    arrivals = np.cumsum(generator.exponential(1 / rate, 200_000))
    choice = generator.integers(0, replicas, arrivals.size)
    times = generator.lognormal(np.log(0.2), 0.3, arrivals.size)
    free, found = np.zeros(replicas), np.empty(arrivals.size)
    for index, (arrival, one, time) in enumerate(zip(arrivals, choice, times, strict=True)):
        free[one] = max(free[one], arrival) + time
        found[index] = free[one] - arrival
    return float(np.quantile(found, 0.99))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            searched(None, bound=0.25),
            r"no rate held a 99th percentile of 0\.25 s when simulated .*: measure with a larger",
        ),
        (
            simulated_record(noisy(0), BenchOptions(count=40, warm_up=0)),
            r"in the scenario single-stream has no highest rate: measure with `--scenario server",
        ),
        (
            simulated_record(noisy(0), BenchOptions(scenario="server", rate=5, warm_up=0)),
            r"in the scenario server has no highest rate: measure with `--scenario server --p99",
        ),
    ],
)
def test_a_record_without_a_capacity_is_refused(record: Record, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        size(record, rate=None, price_per_hour=None)


def test_a_run_without_an_image_is_refused() -> None:
    record = simulated_record(noisy(0), OFFLINE)
    empty = replace(record, outcome=replace(record.outcome, throughput=None))
    with pytest.raises(OptionError, match="no image was finished when simulated fp32"):
        size(empty, rate=None, price_per_hour=None)


def test_the_smallest_rate_needs_a_replica() -> None:
    sizing = size(searched(8.0), rate=1e-300, price_per_hour=None)
    assert (sizing.replicas, sizing.utilization) == (1, 1.25e-301)


@pytest.mark.parametrize(
    ("rate", "price"), [(0.0, None), (math.nan, None), (math.inf, None), (None, -1.0)]
)
def test_rates_and_prices_are_above_0(rate: float | None, price: float | None) -> None:
    with pytest.raises(
        OptionError, match=r"--(rate|price-per-hour) must be above 0 and finite, found"
    ):
        size(searched(8.0), rate=rate, price_per_hour=price)


def test_prices_belong_to_the_records_in_their_order() -> None:
    records = [searched(8.0), searched(2.0)]
    for prices, expected in (((), [None, None]), ((3.0,), [3.0, 3.0]), ((1.0, 2.0), [1.0, 2.0])):
        found = size_all(records, rate=None, prices=prices)
        assert [one.cost_per_hour for one in found] == expected
    with pytest.raises(OptionError, match="is given 3 times for 2 records: pass it once, or once"):
        size_all(records, rate=None, prices=(1.0, 2.0, 3.0))
