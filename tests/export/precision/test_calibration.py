# SPDX-License-Identifier: Apache-2.0
"""The range of an activation that eight bits cover."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from foveate.errors import OptionError
from foveate.export.precision.calibration import (
    BINS,
    Encoding,
    Histogram,
    encode,
    entropy_bins,
    observe,
    small_calls,
)
from foveate.export.precision.options import PrecisionOptions


def histogram(counts: dict[int, int], *, largest: float = 8.0, negative: bool = False) -> Histogram:
    found = np.zeros(BINS, np.int64)
    for place, count in counts.items():
        found[place] = count
    return Histogram(counts=found, largest=largest, negative=negative)


def test_min_max_spreads_all_codes_over_what_is_never_negative() -> None:
    found = encode(histogram({0: 1, BINS - 1: 1}, largest=51.0), "min-max")
    assert found == Encoding(scale=0.2, zero_point=0)


def test_min_max_is_symmetric_about_zero_where_something_is_negative() -> None:
    found = encode(histogram({0: 1}, largest=12.7, negative=True), "min-max")
    assert found.zero_point == 128
    assert found.scale == pytest.approx(0.1)


def test_the_percentile_leaves_out_one_value_of_twenty_thousand() -> None:
    # 1 of 20,000 is half of what may be lost, and lies in the last bin; the rest ends at a quarter.
    found = encode(histogram({BINS // 4 - 1: 19_999, BINS - 1: 1}, largest=8.0), "percentile")
    assert found.scale == pytest.approx(8.0 / 4 / 255)


def test_the_percentile_keeps_one_value_of_a_thousand() -> None:
    found = encode(histogram({BINS // 4 - 1: 999, BINS - 1: 1}, largest=8.0), "percentile")
    assert found.scale == pytest.approx(8.0 / 255)


def test_entropy_keeps_all_of_what_is_everywhere_alike() -> None:
    assert entropy_bins(np.full(BINS, 7), 128) == BINS


def test_entropy_cuts_a_lone_value_off() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[: BINS // 8] = np.arange(BINS // 8, 0, -1) * 100
    counts[-1] = 1
    assert BINS // 8 <= entropy_bins(counts, 128) < BINS // 4


def test_entropy_does_not_count_zeros() -> None:
    counts = np.full(BINS, 7)
    counts[0] = 10**9
    assert entropy_bins(counts, 128) == BINS


def best_bins(counts: list[int], levels: int) -> int:
    """Compute the result of ``entropy_bins`` bin by bin."""
    values = [0, *counts[1:]]
    best, least = len(values), math.inf
    for kept in range(levels, len(values) + 1, max(1, len(values) // 256)):
        codes: dict[int, list[int]] = {}
        for place in range(kept):
            if values[place]:
                codes.setdefault(place * levels // kept, []).append(place)
        left = [0.0] * kept
        for places in codes.values():
            for place in places:
                left[place] = sum(values[one] for one in places) / len(places)
        true = [*values[: kept - 1], values[kept - 1] + sum(values[kept:])]
        divergence = sum(
            t / sum(true) * math.log(t / sum(true) / max(q / sum(left), 1e-9))
            for t, q in zip(true, left, strict=True)
            if t
        )
        if divergence < least:
            best, least = kept, divergence
    return best


@pytest.mark.parametrize("seed", range(6))
def test_entropy_keeps_the_bins_of_the_least_divergence(seed: int) -> None:
    chance = np.random.default_rng(seed)
    places = chance.exponential(12 + 3 * seed, 20_000).astype(int)
    counts = np.bincount(places[places < 300], minlength=300)
    found = entropy_bins(counts, 32)
    assert found == best_bins(counts.tolist(), 32)
    assert 32 < found < 300


@pytest.mark.parametrize("method", ["min-max", "percentile", "entropy"])
def test_what_is_always_zero_has_a_usable_scale(method: str) -> None:
    assert encode(histogram({0: 100}, largest=0.0), method) == Encoding(scale=1.0, zero_point=0)


def test_the_largest_magnitude_may_be_that_of_a_negative_value() -> None:
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])
    model = onnx.helper.make_model(onnx.helper.make_graph([], "inputs", [given], []))
    calls = [{"x": np.array([1, -3], np.float32)}, {"x": np.array([2], np.float32)}]
    found = observe(model, calls, ["x"])["x"].histogram
    assert (found.largest, found.negative) == (3.0, True)


def test_trials_take_calls_that_are_not_much_smaller_than_the_largest() -> None:
    calls = [{"x": np.zeros(size, np.float32)} for size in (8, 100, 25, 24, 60)]
    assert [call["x"].size for call in small_calls(calls, 5)] == [100, 25, 60]


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(OptionError) as caught:
        PrecisionOptions(method="mse")
    assert str(caught.value) == (
        "there is no calibration method 'mse': use min-max, percentile, entropy"
    )
