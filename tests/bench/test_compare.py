# SPDX-License-Identifier: Apache-2.0
"""Comparisons of simulated records whose true ratio is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.bench.simulated import (
    SimulatedClock,
    noisy,
    record_of_run,
    simulated_benchmark,
    simulated_record,
)

from foveate.bench.benchmark import run_in_turns
from foveate.bench.compare import compare
from foveate.bench.comparison import Ratio
from foveate.bench.figures import RateSearch, RateTrial
from foveate.bench.machine import GpuState
from foveate.bench.options import BenchOptions
from foveate.bench.ratios import CompareOptions
from foveate.bench.record import Record
from foveate.bench.table import comparison_markdown, comparison_table
from foveate.errors import InputError, OptionError

OPTIONS = BenchOptions(seconds=60, warm_up=0, tolerance=0)
QUICK = CompareOptions(replicates=500)
SLOWER = 1.05


def record_of(seed: int, factor: float = 1.0) -> Record:
    """A record of two images, 0.1 and 0.2 s; times vary by 5 %, 400 images in all."""
    return simulated_record(noisy(seed, mean=0.1 * factor), OPTIONS, images=2)


def ratio(record: Record, other: Record, name: str) -> Ratio:
    return next(one for one in compare(record, other, QUICK).ratios if one.name == name)


def test_no_difference_is_shown_between_identical_pipelines() -> None:
    verdicts = [compare(record_of(n), record_of(100 + n), QUICK).verdict for n in range(20)]
    assert verdicts == ["no difference shown"] * 20


def test_a_slow_down_by_five_percent_is_found() -> None:
    verdicts = [compare(record_of(n), record_of(100 + n, SLOWER), QUICK).verdict for n in range(20)]
    assert verdicts.count("slower") >= 19


def test_a_speed_up_is_found() -> None:
    assert compare(record_of(0, SLOWER), record_of(1), QUICK).verdict == "faster"


def test_the_intervals_contain_the_true_ratio() -> None:
    """Each of 60 intervals has a confidence of 99 %; those of one pair depend on each other."""
    outside = 0
    for n in range(20):
        found = compare(record_of(n), record_of(200 + n, SLOWER), QUICK)
        outside += sum(not one.low <= SLOWER <= one.high for one in found.ratios)
    assert outside <= 5


def test_the_ratios_are_those_of_the_figures() -> None:
    first, second = record_of(0), record_of(1, 2.0)
    found = ratio(first, second, "latency, p90 per image")
    assert found.value == pytest.approx(found.candidate / found.baseline)
    assert found.value == pytest.approx(2.0, rel=0.05)
    assert ratio(first, second, "time per image").baseline == pytest.approx(0.15, rel=0.02)


def steady(factor: float = 1.0) -> Record:
    """A record of two images that always take 0.1 and 0.4 s."""
    return simulated_record(lambda index: 0.1 * factor * (4**index), OPTIONS, images=2)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (0.985, "faster"),
        (0.995, "no difference shown"),
        (1.005, "no difference shown"),
        (1.015, "slower"),
    ],
)
def test_a_change_below_one_percent_does_not_count(factor: float, verdict: str) -> None:
    assert compare(steady(), steady(factor)).verdict == verdict
    exact = CompareOptions(replicates=500, tolerance=0.0)
    assert compare(steady(), steady(factor), exact).verdict == (
        "slower" if factor > 1 else "faster"
    )


def test_a_change_that_the_interval_does_not_show_is_none() -> None:
    options = replace(OPTIONS, seconds=6.0)
    one, two = (
        simulated_record(noisy(seed, mean=mean, spread=0.5), options)
        for seed, mean in ((0, 0.1), (1, 0.12))
    )
    for pair in ((one, two), (two, one)):
        found = compare(*pair, QUICK)
        decisive = next(ratio for ratio in found.ratios if ratio.name == found.decisive)
        assert decisive.low < 1 < decisive.high
        assert abs(decisive.value - 1) > 0.02
        assert found.verdict == "no difference shown"


def test_a_mixture_of_sizes_does_not_widen_the_interval() -> None:
    """Two images of 0.1 and 0.2 s have nearly the interval of as many images of one size."""
    one = [simulated_record(noisy(n), OPTIONS) for n in (0, 1)]
    two = [record_of(n) for n in (0, 1)]
    widths = []
    for pair in (one, two):
        found = ratio(pair[0], pair[1], "latency, median per image")
        widths.append((found.high - found.low) * pair[0].outcome.images ** 0.5)
    assert widths[1] < 1.5 * widths[0]


def in_turns(seed: int, factor: float, drift: float) -> tuple[Record, Record]:
    """Measure two systems in turns on a machine that slows both down by ``drift`` per second."""
    clock = SimulatedClock()

    def drifting(seconds: Callable[[int], float]) -> Callable[[int], float]:
        return lambda index: seconds(index) * (1 + drift * clock.now())

    runs = []
    for number, scale in ((0, factor), (1, 1.0)):
        seconds = drifting(noisy(seed + number, mean=0.1 * scale))
        runs.append(simulated_benchmark(seconds, OPTIONS, clock=clock))
    run_in_turns(runs[0], runs[1], 1)
    return record_of_run(runs[0]), record_of_run(runs[1])


def test_turns_are_paired_so_that_a_drift_cancels() -> None:
    """The machine becomes three times as slow, and 5 % between the pipelines are still found."""
    candidate, baseline = in_turns(0, SLOWER, 2 / 120)
    paired = compare(baseline, candidate, QUICK, paired=True)
    assert paired.paired
    assert paired.verdict == "slower"
    decisive = next(one for one in paired.ratios if one.name == paired.decisive)
    assert decisive.low < SLOWER < decisive.high
    mean = next(one for one in paired.ratios if one.name == "time per image")
    assert 1.02 < mean.low < SLOWER < mean.high < 1.08


def test_turns_of_identical_pipelines_show_no_difference() -> None:
    verdicts = []
    for n in range(5):
        candidate, baseline = in_turns(10 * n, 1.0, 2 / 120)
        verdicts.append(compare(baseline, candidate, QUICK, paired=True).verdict)
    assert verdicts == ["no difference shown"] * 5


def test_the_throughput_is_that_of_the_own_turns() -> None:
    """An image takes 0.1 s, and as long passes while the other pipeline has its turn."""
    for record in in_turns(0, 1.0, 0.0):
        assert record.outcome.throughput == pytest.approx(10, rel=0.02)
        assert record.outcome.elapsed == pytest.approx(0.2 * record.outcome.images, rel=0.05)


def test_turns_go_a_b_b_a() -> None:
    candidate, baseline = in_turns(0, 1.0, 0.0)
    starts = np.array([candidate.samples.start, baseline.samples.start])
    measured = ~np.array(candidate.samples.warm_up)
    first = np.argmin(starts[:, measured][:, :6] + 0.0, axis=0)
    assert first.tolist() == [0, 1, 0, 1, 0, 1]
    assert candidate.samples.block[1:5] == (0, 1, 2, 3)


def test_turns_refuse_a_schedule() -> None:
    run = simulated_benchmark(noisy(0), BenchOptions(scenario="server", rate=1.0))
    with pytest.raises(OptionError, match="turns would interrupt the schedule .*: use --scenario"):
        run_in_turns(run, run, 1)


@pytest.mark.parametrize(
    ("options", "images", "message"),
    [
        (BenchOptions(scenario="offline", seconds=60, warm_up=0), 2, "the scenarios differ: 'sin"),
        (OPTIONS, 1, "the images differ: 2 and 1 images.*: measure both with the same images"),
    ],
)
def test_records_that_differ_are_refused(options: BenchOptions, images: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(record_of(0), simulated_record(noisy(1), options, images=images))


def test_records_of_different_rates_are_refused() -> None:
    one, two = (
        simulated_record(noisy(0), BenchOptions(scenario="server", rate=rate, seconds=9))
        for rate in (1.0, 2.0)
    )
    with pytest.raises(InputError, match="the rates differ: 1.0 and 2.0 per second: measure both"):
        compare(one, two)


def searched(rate: float | None = 4.0, **changes: object) -> Record:
    """A record of a search that found a rate; the next one that was tried is 5 % higher."""
    record = simulated_record(noisy(0), BenchOptions(scenario="server", rate=1.0, seconds=9))
    trials = [
        RateTrial(rate=one, images=400, p99=0.5, low=0.4, high=0.6, held=one == rate)
        for one in (1.05 * (rate or 1.0), rate or 2.0, 9.0)
    ]
    values = {"bound": 0.6, "rate": rate, "trials": tuple(trials), **changes}
    scenario = replace(record.scenario, rate=rate, p99=0.6)
    return replace(record, scenario=scenario, search=RateSearch(**values))  # type: ignore[arg-type]  # by name


def test_the_highest_rates_of_two_searches_are_compared_without_a_verdict() -> None:
    found = compare(searched(4.0), searched(8.0))
    assert (found.decisive, found.verdict, found.confidence) == (
        "highest rate",
        "not decided",
        None,
    )
    (ratio,) = found.ratios
    assert (ratio.baseline, ratio.candidate, ratio.value) == (4.0, 8.0, 2.0)
    assert (ratio.low, ratio.high) == pytest.approx((2.0 / 1.05, 2.0 * 1.05))
    assert "a highest rate has no confidence interval, so there is no verdict" in found.warnings[-1]
    assert comparison_table(found).caption == "verdict: not decided"
    lines = comparison_markdown(found).splitlines()
    assert "| figure | baseline | candidate | ratio | range |" in lines
    assert lines[-1] == "| highest rate | 4 images/s | 8 images/s | 2.000 | 1.905 to 2.100 |"


def test_a_lower_rate_that_was_not_held_by_chance_is_no_bound_of_the_highest() -> None:
    found = searched(4.0)
    assert found.search is not None
    lower = RateTrial(rate=3.0, images=400, p99=0.7, low=0.5, high=0.9, held=False)
    other = replace(found, search=replace(found.search, trials=(lower, *found.search.trials)))
    assert compare(found, found).ratios == compare(other, other).ratios


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (simulated_record(noisy(0), BenchOptions(scenario="server", rate=1.0, seconds=9)), "fixed"),
        (
            searched(complete=False),
            "was interrupted, so that a higher rate may hold .*: measure it",
        ),
        (replace(searched(), search=None), "was interrupted, so that a higher rate may hold"),
        (
            searched(None),
            "no rate held a 99th percentile of 0.6 s when .*: measure both with a larger",
        ),
        (searched(10.0, trials=()), "all rates that were tried up to 10 images per second held"),
    ],
)
def test_searches_without_a_highest_rate_are_refused(other: Record, message: str) -> None:
    for pair in ((searched(), other), (other, searched())):
        with pytest.raises(InputError, match=message):
            compare(*pair)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p99": 1.0}, "the bounds of the 99th percentile differ: 0.6 and 1 s: .* same --p99"),
        (
            {"count": 1000},
            "the numbers of images per rate differ, .*: 368 and 1,000: .* same --count",
        ),
    ],
)
def test_searches_that_differ_are_refused(changes: dict[str, float], message: str) -> None:
    other = searched()
    other = replace(other, scenario=replace(other.scenario, **changes))  # type: ignore[arg-type]  # by name
    with pytest.raises(InputError, match=message):
        compare(searched(), other)


@pytest.mark.parametrize(
    ("limits", "inputs", "images", "needed", "remedy"),
    [
        ({"seconds": 2}, 2, 14, "8 passes through the 2 images", "raise --seconds"),
        ({"count": 10}, 2, 10, "8 passes through the 2 images", "raise --count"),
        ({"count": 28}, 2, 28, "16 passes through the 2 images", "raise --count"),
        ({"count": 12}, 1, 12, "24 passes through the 1 image", "raise --count"),
        ({"tolerance": 9, "percentile": 50}, 2, 6, "8 passes ", "pass --tolerance 0, or --count"),
    ],
)
def test_too_few_images_are_refused_with_what_ended_the_run(
    limits: dict[str, Any], inputs: int, images: int, needed: str, remedy: str
) -> None:
    options = BenchOptions(**{"warm_up": 0, "tolerance": 0, **limits})
    short = simulated_record(noisy(0), options, images=inputs)
    message = f"{images} images are too few .*needs {needed}.* at least: {remedy}, and"
    with pytest.raises(InputError, match=message):
        compare(short, short)


def test_warnings_name_what_may_mislead() -> None:
    first = record_of(0)
    machine = first.machine
    processor = replace(machine.processor, name="other")
    second = replace(
        record_of(1),
        machine=replace(machine, processor=processor, fit=False, reasons=("it is hot",)),
        interrupted=True,
    )
    first = replace(first, machine=replace(machine, fit=True, reasons=()))
    assert compare(first, second, QUICK).warnings == (
        f"the machines differ: {machine.processor.name} and other",
        "the candidate was interrupted",
        "the candidate is unfit to publish: it is hot",
    )


@pytest.mark.parametrize(
    ("part", "changes", "text"),
    [
        ("outcome", {"refused": 3}, "the candidate refused 3 images, whose latency is not known"),
        (
            "outcome",
            {"rate_held": False},
            "the candidate did not keep up with the rate of arrivals",
        ),
        ("scenario", {"in_flight": 7}, "the numbers of images in flight differ"),
    ],
)
def test_a_difference_that_may_mislead_is_a_warning(
    part: str, changes: dict[str, Any], text: str
) -> None:
    first = steady()
    first = replace(first, machine=replace(first.machine, fit=True, reasons=()))
    second = replace(first, **{part: replace(getattr(first, part), **changes)})
    assert compare(first, first, QUICK).warnings == ()
    assert compare(first, second, QUICK).warnings == (text,)


@pytest.mark.parametrize("part", ["processor", "gpu"])
def test_machines_of_other_cores_or_another_gpu_differ(part: str) -> None:
    first = steady()
    machine = replace(first.machine, fit=True, reasons=())
    processor, gpu = machine.processor, None
    if part == "processor":
        processor = replace(processor, cores=processor.cores + 1)
    else:
        values = dict.fromkeys(("driver", "others", "clock_mhz", "highest_mhz", "celsius"))
        gpu = GpuState(name="H200", throttled=None, **values)
    other = replace(machine, processor=processor, gpu=gpu)
    first, second = (replace(first, machine=one) for one in (machine, other))
    name = processor.name
    assert compare(first, second, QUICK).warnings == (f"the machines differ: {name} and {name}",)


def test_a_candidate_that_does_not_keep_up_is_slower() -> None:
    first = record_of(0)
    held = replace(first, outcome=replace(first.outcome, rate_held=True))
    missed = replace(first, outcome=replace(first.outcome, rate_held=False))
    assert compare(held, missed, QUICK).verdict == "slower"
    assert compare(missed, held, QUICK).verdict == "no difference shown"


def test_offline_the_time_per_image_decides() -> None:
    options = replace(OPTIONS, scenario="offline")
    one, two = (simulated_record(noisy(n), options) for n in (0, 1))
    assert compare(one, two, QUICK).decisive == "time per image"


def test_a_comparison_as_markdown() -> None:
    found = compare(record_of(0), record_of(1, SLOWER), QUICK)
    text = comparison_markdown(replace(found, warnings=("one",)))
    lines = text.splitlines()
    assert lines[0].endswith("**slower**")
    assert lines[2] == "> one"
    assert lines[4] == "| figure | baseline | candidate | ratio | 99 % interval |"
    assert len(lines) == 6 + len(found.ratios)
    assert lines[6].startswith("| latency, median per image | 1")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"confidence": 1.0}, "confidence must lie between 0 and 1, found 1"),
        ({"confidence": 0.0}, "confidence must lie between 0 and 1, found 0"),
        ({"tolerance": -0.01}, r"tolerance must be at least 0, found -0\.01"),
        ({"replicates": 0}, "replicates must be at least 1, found 0"),
    ],
)
def test_settings_outside_their_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CompareOptions(**values)
