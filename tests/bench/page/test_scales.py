# SPDX-License-Identifier: Apache-2.0
"""Scales: where values lie on an axis, and its ticks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from foveate.bench.page.scales import linear_scale, logarithmic_scale, percentile_scale


def test_a_linear_scale_has_round_ticks() -> None:
    scale = linear_scale(0.37)
    assert scale.ticks == pytest.approx((0.0, 0.1, 0.2, 0.3))
    assert [scale.share(value) for value in (0.0, 0.185, 0.37)] == pytest.approx([0.0, 0.5, 1.0])


def test_a_rounded_scale_ends_at_a_tick() -> None:
    assert linear_scale(0.37, rounded=True).high == pytest.approx(0.4)
    assert linear_scale(0.4, rounded=True).high == pytest.approx(0.4)


def test_a_scale_from_a_negative_value_has_a_tick_at_zero() -> None:
    scale = linear_scale(240.0, low=-230.0)
    assert scale.ticks == (-200.0, -100.0, 0.0, 100.0, 200.0)
    assert scale.share(-230.0) == 0.0


@pytest.mark.parametrize("high", [0.0, 3e-6, 0.1, 1.0, 7.3, 1e5])
def test_a_linear_scale_has_few_ticks(high: float) -> None:
    assert 2 <= len(linear_scale(high).ticks) <= 6


def test_values_beyond_the_scale_lie_at_its_ends() -> None:
    scale = linear_scale(1.0)
    assert (scale.share(-3.0), scale.share(5.0)) == (0.0, 1.0)


def test_a_logarithmic_scale_is_even_in_powers() -> None:
    scale = logarithmic_scale(1.0, 1000.0, most=4)
    assert scale.ticks == pytest.approx((1.0, 10.0, 100.0, 1000.0))
    assert scale.share(10.0) == pytest.approx(1 / 3)


def test_a_short_logarithmic_scale_has_ticks_between_powers() -> None:
    scales = [logarithmic_scale(1.5, 60.0, most=most) for most in (5, 4, 1)]
    assert scales[0].ticks == pytest.approx((2.0, 5.0, 10.0, 20.0, 50.0))
    assert scales[1].ticks == pytest.approx((3.0, 10.0, 30.0))
    assert scales[2].ticks == pytest.approx((10.0,))


def test_percentiles_of_ten_times_rarer_images_are_evenly_apart() -> None:
    scale = percentile_scale(1000)
    nines = [scale.share(percent) for percent in (0.0, 90.0, 99.0, 99.9)]
    assert [b - a for a, b in pairwise(nines)] == pytest.approx([nines[1]] * 3)


@pytest.mark.parametrize(
    ("count", "ticks"),
    [
        (1, (0.0, 50.0, 75.0)),
        (40, (0.0, 50.0, 75.0, 90.0, 95.0)),
        (100_000, (0.0, 50.0, 90.0, 99.0, 99.9)),
    ],
)
def test_only_percentiles_that_the_images_can_show_have_ticks(
    count: int, ticks: tuple[float, ...]
) -> None:
    assert percentile_scale(count).ticks == ticks
