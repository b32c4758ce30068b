# SPDX-License-Identifier: Apache-2.0
"""Which times of two records are compared, how they are averaged, and how they are resampled."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

import pytest
from tests.bench.simulated import noisy, simulated_record
from tests.bench.test_compare import OPTIONS, QUICK, record_of, steady

from foveate.bench.compare import compare
from foveate.bench.options import BenchOptions
from foveate.bench.ratios import CompareOptions
from foveate.bench.record import Record
from foveate.errors import InputError


def test_latencies_of_images_are_averaged_geometrically_and_times_as_they_are() -> None:
    median, p90, time = compare(steady(), steady(2.0), QUICK).ratios
    for one, baseline in ((median, 0.2), (p90, 0.2), (time, 0.25)):
        assert (one.baseline, one.candidate) == pytest.approx((baseline, 2 * baseline))
        assert (one.value, one.low, one.high) == pytest.approx((2.0, 2.0, 2.0))


def test_an_interval_of_a_lower_confidence_is_narrower() -> None:
    widths = []
    for confidence in (0.5, 0.8, 0.99):
        options = CompareOptions(replicates=500, confidence=confidence)
        one = compare(record_of(0), record_of(1), options).ratios[0]
        widths.append(one.high - one.low)
    # Of a normal distribution they are in the ratio 0.67 to 1.28 to 2.58.
    assert widths[0] / widths[2] == pytest.approx(0.67 / 2.58, rel=0.2)
    assert widths[1] / widths[2] == pytest.approx(1.28 / 2.58, rel=0.2)
    assert CompareOptions().confidence == 0.99


def test_latencies_count_from_the_arrivals() -> None:
    first = steady()
    arrivals = tuple(start - 0.2 for start in first.samples.start)
    second = replace(first, samples=replace(first.samples, arrival=arrivals))
    median = compare(first, second, QUICK).ratios[0]
    assert (median.baseline, median.candidate) == pytest.approx((0.2, (0.3 * 0.6) ** 0.5))


def test_blocks_of_a_queue_are_longer_than_those_of_single_images() -> None:
    def served(count: int) -> Record:
        options = BenchOptions(scenario="server", rate=1.0, count=count, warm_up=0)
        return simulated_record(noisy(0), options)

    assert compare(served(64), served(64), QUICK).verdict == "no difference shown"
    with pytest.raises(InputError, match="63 images are too few"):
        compare(served(64), served(63), QUICK)


def test_eight_passes_through_many_images_are_enough() -> None:
    options = replace(OPTIONS, count=64)
    one, two = (simulated_record(noisy(n), options, images=8) for n in (0, 1))
    assert compare(one, two, QUICK).verdict == "no difference shown"


def test_results_that_come_out_of_order_have_the_times_between_them() -> None:
    first = simulated_record(lambda _: 0.5, OPTIONS)
    ends = list(first.samples.end)
    for place in range(0, len(ends) - 1, 2):
        ends[place], ends[place + 1] = ends[place + 1], ends[place]
    arrivals = tuple(start - 1.0 for start in first.samples.start)
    second = replace(first, samples=replace(first.samples, arrival=arrivals, end=tuple(ends)))
    time = compare(first, second, QUICK).ratios[2]
    assert (time.baseline, time.candidate) == pytest.approx((0.5, 0.5))
    assert (time.low, time.high) == pytest.approx((1.0, 1.0))


def test_the_second_ratio_is_that_of_the_times_that_nine_of_ten_images_do_not_exceed() -> None:
    times = cycle([0.1] * 15 + [0.2] * 4 + [0.4])
    record = simulated_record(lambda _: next(times), OPTIONS)
    found = compare(record, record, QUICK).ratios[1]
    assert found.name == "latency, p90 per image"
    assert found.baseline == pytest.approx(0.2)
