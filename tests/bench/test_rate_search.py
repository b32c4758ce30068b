# SPDX-License-Identifier: Apache-2.0
"""The search for the highest rate that holds a bound, on a simulated clock."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from tests.bench.simulated import (
    SimulatedClock,
    SimulatedSystem,
    inputs,
    noisy,
    run_benchmark,
    subject,
)

from foveate.bench.benchmark import Benchmark
from foveate.bench.building import Surroundings
from foveate.bench.figures import RateSearch, RateTrial
from foveate.bench.json_schema import record_schema
from foveate.bench.measurement import Measurement
from foveate.bench.options import BenchOptions
from foveate.bench.rate_search import judge, search_rate
from foveate.bench.record_file import record_text


class SimulatedMeasurement(Measurement):
    """The measurement of a system that takes a known time for each image."""

    def null_system(self) -> SimulatedSystem:
        assert isinstance(self._clock, SimulatedClock)
        return SimulatedSystem(self._clock, lambda _: 0.0)

    def surroundings(self) -> Surroundings:
        return Surroundings(subject=subject(), inputs=self._inputs)


def measuring(
    seconds: Callable[[int], float], options: BenchOptions
) -> tuple[SimulatedMeasurement, list[tuple[str, int, int]]]:
    """Return a measurement, and the list of the progress that it reports."""
    reports: list[tuple[str, int, int]] = []
    clock = SimulatedClock()
    measurement = SimulatedMeasurement(
        SimulatedSystem(clock, seconds),
        options,
        inputs=inputs(1),
        in_flight=1,
        clock=clock,
        progress=lambda task, done, total, *_: reports.append((task, done, total)),
    )
    return measurement, reports


def searching(*, p99: float, **values: Any) -> BenchOptions:
    return BenchOptions(scenario="server", p99=p99, warm_up=0, **values)


def trial(rate: float, *, held: bool | None) -> RateTrial:
    return RateTrial(rate=rate, images=1, p99=1.0, low=1.0, high=1.0, held=held)


def result_of(held: Callable[[float], bool | None]) -> RateSearch:
    *_, found = search_rate(lambda rate: trial(rate, held=held(rate)), 2.0, 3.0)
    assert found.complete
    return found


@pytest.mark.parametrize("limit", [0.3, 4.0, 170.0])
def test_the_search_finds_the_highest_rate_that_holds_the_bound(limit: float) -> None:
    found = result_of(lambda rate: rate <= limit)
    assert found.rate is not None
    assert limit / 1.05 <= found.rate <= limit
    assert len(found.trials) <= 16


def test_the_search_gives_up_where_no_rate_holds_the_bound() -> None:
    found = result_of(lambda _: False)
    assert found.rate is None
    assert len(found.trials) == 20


def test_rates_with_too_few_images_end_the_search_downwards() -> None:
    found = result_of(lambda rate: False if rate >= 1.2 else None)
    assert found.rate is None
    missed = min(one.rate for one in found.trials if one.held is False)
    assert 1.2 <= missed <= 1.2 * 1.05


def test_a_first_rate_with_too_few_images_is_followed_by_higher_ones() -> None:
    found = result_of(lambda rate: None if rate < 10 else rate <= 40)
    assert found.trials[0].held is None
    assert found.rate is not None
    assert 40 / 1.05 <= found.rate <= 40


def test_each_rate_has_as_many_images_as_its_percentile_needs() -> None:
    measurement, _ = measuring(lambda _: 0.1, searching(p99=0.5))
    measurement.run()
    record = measurement.record()
    assert record.search is not None
    assert record.search.rate is not None
    assert 5 < record.search.rate < 10  # an image takes 0.1 s
    assert {one.images for one in record.search.trials if one.held} == {368}
    assert all(one.held is not None for one in record.search.trials)


def test_the_record_has_the_run_of_the_highest_rate_that_held() -> None:
    measurement, _ = measuring(lambda _: 0.1, searching(p99=0.5))
    measurement.run()
    record = measurement.record()
    assert record.search is not None
    assert record.scenario.rate == record.search.rate
    best = next(one for one in record.search.trials if one.rate == record.search.rate)
    assert record.latency.percentile(99).high == best.high
    assert (record.interrupted, record.outcome.rate_held) == (False, True)
    assert (record.scenario.count, record.scenario.seconds) == (368, None)
    jsonschema.validate(json.loads(record_text(record)), record_schema())


def test_a_number_of_images_is_that_of_each_rate() -> None:
    measurement, _ = measuring(lambda _: 0.1, searching(p99=0.5, count=500))
    measurement.run()
    search = measurement.record().search
    assert search is not None
    assert {one.images for one in search.trials if one.held} == {500}


@pytest.mark.parametrize(("count", "floor"), [(500, 75), (40, 40)])
def test_the_floor_ends_after_three_seconds_whatever_the_number_of_images(
    count: int, floor: int
) -> None:
    """It has its own rate, 25 per second."""
    options = BenchOptions(scenario="server", rate=400.0, count=count, warm_up=0)
    measurement, _ = measuring(lambda _: 0.001, options)
    measurement.run()
    found = measurement.record().floor
    assert found is not None
    assert (found.rate, found.latency.count) == (25.0, floor)


def test_seconds_that_are_too_few_for_a_rate_leave_out_that_rate() -> None:
    measurement, _ = measuring(lambda _: 0.1, searching(p99=1.0, seconds=60.0, rate=3.0))
    measurement.run()
    search = measurement.record().search
    assert search is not None
    assert (search.trials[0].held, search.trials[0].images) == (None, 0)  # 180 images in 60 s
    assert search.rate is not None
    assert search.rate > 368 / 60


def test_the_time_of_a_rate_is_known_before_it_is_tried() -> None:
    measurement, reports = measuring(lambda _: 0.1, searching(p99=0.5, rate=4.0))
    measurement.run()
    task, done, total = reports[0]
    # 368 arrivals at 4 per second take about 92 s.
    assert task.startswith("Trying 4 images/s for ")
    assert 80 < float(task.removesuffix(" s").rpartition(" ")[2]) < 105
    assert (done, total) == (0, 368)
    assert reports.index((task, 368, 368)) < len(reports) - 1


def test_images_that_have_missed_the_bound_are_not_started() -> None:
    """At 100 per second the last one arrives after about 4 s, and would be started after 37 s."""
    measurement, _ = measuring(lambda _: 0.1, searching(p99=1.0, rate=100.0))
    measurement.run()
    search = measurement.record().search
    assert search is not None
    assert search.trials[0].held is False
    assert 35 < search.trials[0].images < 65


def test_a_rate_that_only_fills_the_queue_is_not_held() -> None:
    """No image waits for a minute, since there are only 368 of them."""
    measurement, _ = measuring(lambda _: 0.1, searching(p99=60.0, rate=30.0))
    measurement.run()
    search = measurement.record().search
    assert search is not None
    assert search.trials[0].images == 368
    assert search.trials[0].held is False


def test_a_search_begins_with_half_of_the_rate_of_all_images_but_the_first() -> None:
    slow = iter([3.0])  # the first image after loading
    options = BenchOptions(scenario="server", p99=0.5, warm_up=4.0)
    measurement, _ = measuring(lambda _: next(slow, 0.1), options)
    measurement.run()
    search = measurement.record().search
    assert search is not None
    assert search.trials[0].rate == pytest.approx(5.0)


def test_a_search_begins_also_after_a_single_image_of_warm_up() -> None:
    measurement, _ = measuring(lambda _: 0.1, searching(p99=0.5))
    measurement.run()
    search = measurement.record().search
    assert search is not None
    assert search.trials[0].rate == pytest.approx(5.0)


class StopError(Exception):
    pass


def ending_after(images: int) -> Callable[[int], float]:
    """Return times of 0.1 s, of which the last one is followed by a failure."""
    times = iter(itertools.repeat(0.1, images))

    def seconds(_: int) -> float:
        if (found := next(times, None)) is None:
            raise StopError
        return found

    return seconds


def test_a_failure_at_the_third_rate_keeps_the_first_two() -> None:
    measurement, _ = measuring(
        ending_after(2 * 369 + 100),
        searching(p99=60.0, rate=2.0),  # one of each rate is warm-up
    )
    with pytest.raises(StopError):
        measurement.run()
    record = measurement.record()
    assert record.search is not None
    assert [one.held for one in record.search.trials] == [True, True]
    assert (record.search.rate, record.search.complete) == (3.0, False)
    assert record.interrupted
    assert (record.scenario.rate, record.outcome.images) == (3.0, 368)
    jsonschema.validate(json.loads(record_text(record)), record_schema())


def test_a_failure_at_the_first_rate_keeps_its_images() -> None:
    measurement, _ = measuring(ending_after(100), searching(p99=60.0, rate=2.0))
    with pytest.raises(StopError):
        measurement.run()
    record = measurement.record()
    assert record.search is None
    assert record.interrupted
    assert record.outcome.images == 99


def served() -> Benchmark:
    """Return a run of 400 images of a few milliseconds each, at a rate that causes no queue."""
    options = BenchOptions(scenario="server", rate=0.1, count=400, warm_up=0)
    return run_benchmark(noisy(0, mean=0.005, spread=0.3), options)


def test_a_bound_is_held_if_the_whole_interval_lies_below_it() -> None:
    run = served()
    found = judge(run, 1.0)
    assert found.held
    assert found.p99 is not None
    assert found.high is not None
    assert found.p99 < found.high
    assert judge(run, found.high).held
    assert not judge(run, (found.p99 + found.high) / 2).held


def test_images_that_were_refused_or_never_started_miss_every_bound() -> None:
    never, refused = served(), served()
    never.unstarted = 12
    refused.refusals += [row.sample for row in refused.collection.rows[:12]]
    for run in (never, refused):
        found = judge(run, 1e9)
        assert (found.held, found.images, found.high) == (False, 400, None)


def test_a_rate_that_is_not_kept_up_with_does_not_hold_a_bound_that_its_latencies_do() -> None:
    options = BenchOptions(scenario="server", rate=10.0, count=400, warm_up=0)
    run = run_benchmark(lambda _: 1.0, options)
    found = judge(run, 1e9)
    assert found.high is not None
    assert not found.held


def test_the_rate_between_one_that_was_held_and_one_that_was_not_is_their_geometric_mean() -> None:
    found = result_of(lambda rate: rate < 4.0)
    assert [one.rate for one in found.trials[:3]] == pytest.approx([3.0, 4.5, (3.0 * 4.5) ** 0.5])


def test_a_record_against_another_one_has_the_ratio_to_it_and_no_memory() -> None:
    options = BenchOptions(warm_up=0, count=10)
    candidate, _ = measuring(lambda _: 0.2, options)
    baseline, _ = measuring(lambda _: 0.1, options)
    candidate.run(baseline)
    record = candidate.record()
    assert record.against is not None
    assert record.against.comparison is not None
    assert record.against.comparison.ratios[0].value == pytest.approx(2.0)
    assert record.against.comparison.verdict == "slower"
    assert record.floor is not None
    for one in (record, record.against.record):
        assert one.resources.peak_resident_bytes is None
        assert "was in memory too" in one.unmeasured["resources.peak_resident_bytes"]
