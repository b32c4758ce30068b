# SPDX-License-Identifier: Apache-2.0
"""Percentiles by order statistics, against the binomial distribution and by simulation."""

from __future__ import annotations

from math import exp, fsum, isnan, lgamma, log
from statistics import NormalDist, stdev

import numpy as np
import pytest

from foveate.bench.percentiles import (
    CONFIDENCE,
    distribution,
    fewest_runs,
    interval_ranks,
    percentile,
    quantile,
    relative_width,
)


def probability_of_at_most(k: int, count: int, share: float) -> float:
    """The binomial distribution, summed from its definition."""
    return fsum(
        exp(
            lgamma(count + 1)
            - lgamma(i + 1)
            - lgamma(count - i + 1)
            + i * log(share)
            + (count - i) * log(1 - share)
        )
        for i in range(k + 1)
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("count", [6, 40, 400, 5000])
def test_the_ranks_are_those_of_the_binomial_distribution(count: int, share: float) -> None:
    ranks = interval_ranks(count, share)
    tail = (1 - CONFIDENCE) / 2

    def below(k: int) -> float:
        return probability_of_at_most(k, count, share)

    if ranks is None:
        # The smallest or the largest value itself is on the wrong side too often.
        assert below(0) > tail or below(count - 1) < 1 - tail
        return
    low, high = ranks
    assert below(low) <= tail < below(low + 1)
    assert below(high) >= 1 - tail > below(high - 1)


@pytest.mark.parametrize(("percent", "count"), [(50, 6), (90, 36), (99, 368), (99.9, 3688)])
def test_a_percentile_needs_a_number_of_runs(percent: float, count: int) -> None:
    assert fewest_runs(percent) == count
    values = np.arange(count, dtype=np.float64)
    assert percentile(values, percent).value is not None
    assert percentile(values[:-1], percent).value is None
    assert percentile(values[:-1], percent).high is None


def test_an_interval_contains_the_true_percentile_as_often_as_it_states() -> None:
    generator = np.random.default_rng(5)
    truth = exp(0.5 * NormalDist().inv_cdf(0.9))
    found = [percentile(np.sort(generator.lognormal(0, 0.5, 200)), 90) for _ in range(2000)]
    hits = sum(one.low < truth < one.high for one in found if one.low and one.high)
    assert 0.945 <= hits / 2000 <= 0.985  # ranks are discrete, so it is a little more than 95 %


def test_the_figures_of_a_known_sample() -> None:
    found = distribution([float(n) for n in range(100, 0, -1)])
    assert (found.count, found.mean, found.smallest, found.largest) == (100, 50.5, 1.0, 100.0)
    assert found.percentile(50).value == 50.0
    assert found.percentile(90).value == 90.0
    assert found.percentile(99).value is None  # 100 runs are not enough


def test_the_deviation_is_that_of_a_sample_and_needs_two_values() -> None:
    assert distribution([1.0, 2.0, 4.0, 9.0]).deviation == pytest.approx(stdev([1, 2, 4, 9]))
    assert distribution([3.0]).deviation is None


def test_a_low_percentile_needs_as_many_runs_as_the_opposite_one() -> None:
    assert [fewest_runs(percent) for percent in (10, 1)] == [36, 368]
    assert interval_ranks(35, 0.1) is None
    assert interval_ranks(36, 0.1) is not None


@pytest.mark.parametrize(
    ("percent", "value"), [(0.001, 1.0), (25, 1.0), (25.1, 2.0), (75, 3.0), (75.1, 4.0), (100, 4.0)]
)
def test_a_quantile_is_the_smallest_value_that_enough_do_not_exceed(
    percent: float, value: float
) -> None:
    assert quantile(np.array([1.0, 2.0, 3.0, 4.0]), percent) == value


def test_images_that_never_started_are_slower_than_all_others() -> None:
    found = distribution([1.0] * 90, unstarted=10)
    assert (found.count, found.mean, found.largest) == (100, None, None)
    assert found.percentile(75).value == 1.0
    assert found.percentile(95).value is None  # it is one of those that never started
    assert found.percentile(90).high is None


def test_no_values_have_no_figures() -> None:
    found = distribution([])
    assert (found.count, found.mean, found.smallest, found.percentile(50).value) == (
        0,
        None,
        None,
        None,
    )


def test_the_width_of_an_interval_is_relative() -> None:
    one = percentile(np.arange(1.0, 101.0), 50)
    assert one.low is not None
    assert one.high is not None
    assert relative_width(one) == (one.high - one.low) / 50
    assert relative_width(percentile(np.empty(0), 50)) == float("inf")
    assert isnan(relative_width(percentile(np.zeros(10), 50)))  # which is never narrow enough
