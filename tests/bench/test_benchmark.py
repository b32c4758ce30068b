# SPDX-License-Identifier: Apache-2.0
"""Whole runs on a simulated clock: warm-up, stopping and records."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.bench.simulated import (
    SimulatedClock,
    noisy,
    record_of_run,
    run_benchmark,
    simulated_benchmark,
    simulated_record,
)

from foveate.bench import building
from foveate.bench.energy import EnergyMeter
from foveate.bench.figures import Distribution
from foveate.bench.options import BenchOptions
from foveate.bench.page.image_work import typical_image
from foveate.bench.percentiles import distribution
from foveate.bench.scenarios import Sample
from foveate.bench.stopping import Stopping
from foveate.errors import OptionError
from foveate.tracing.image_trace import ImageTrace


def test_warm_up_has_every_size_and_is_told_apart() -> None:
    """The first two images take ten seconds each, which no figure contains."""
    times = itertools.chain([10.0, 10.0], itertools.repeat(1.0))
    options = BenchOptions(seconds=50, warm_up=0, tolerance=0)
    record = simulated_record(lambda _: next(times), options, images=2)
    assert record.samples.warm_up[:3] == (True, True, False)
    assert (record.outcome.warm_up, record.outcome.images) == (2, 50)
    assert record.outcome.first == 10.0
    assert record.latency.largest == pytest.approx(1.0)
    assert record.samples.arrival[2] == 0.0


def test_warm_up_lasts_its_time() -> None:
    benchmark = run_benchmark(lambda _: 1.0, BenchOptions(seconds=1, warm_up=7.5))
    assert sum(row.warm_up for row in benchmark.collection.rows) == 8


def test_a_run_ends_when_the_percentile_is_stable() -> None:
    stable = run_benchmark(noisy(0, spread=0.01), BenchOptions(seconds=1000))
    assert stable.stopped == "stable"
    assert len(stable.collection.measured) == 36  # the fewest that support the 90th percentile
    longer = run_benchmark(noisy(0, spread=0.2), BenchOptions(seconds=1000))
    assert longer.stopped == "stable"
    assert len(longer.collection.measured) > 200


def test_a_run_ends_when_the_time_is_over() -> None:
    benchmark = run_benchmark(noisy(0, spread=1.0), BenchOptions(seconds=20, warm_up=0))
    assert benchmark.stopped == "seconds"
    assert 20 <= benchmark.clock.now() - benchmark.origin < 22


def test_images_that_were_refused_count_among_those_that_end_a_run() -> None:
    stopping = Stopping(BenchOptions(count=3), SimulatedClock())
    for latency, over in ((0.1, False), (None, False), (None, True)):
        stopping.note(latency)
        assert stopping.is_over() is over
    assert stopping.reason == "count"


def test_without_a_tolerance_a_run_is_never_stable() -> None:
    stopping = Stopping(BenchOptions(seconds=1, tolerance=0), SimulatedClock())
    for _ in range(100):
        stopping.note(0.1)
        assert not stopping.is_over()
    assert stopping.reason == "seconds"


@pytest.mark.parametrize("scenario", ["single-stream", "offline", "server"])
def test_a_number_of_images_ends_a_run_whatever_the_time(
    scenario: Literal["single-stream", "offline", "server"],
) -> None:
    rate = 20.0 if scenario == "server" else None
    options = BenchOptions(scenario=scenario, rate=rate, count=40, seconds=1, warm_up=0)
    benchmark = run_benchmark(lambda _: 0.1, options)
    assert (benchmark.stopped, benchmark.unstarted) == ("count", 0)
    assert len(benchmark.collection.measured) == 40


def test_the_timeline_begins_with_the_image_that_started_first() -> None:
    """The first image takes a second, and others are finished before it."""
    times = itertools.chain([1.0], itertools.repeat(0.1))
    options = BenchOptions(scenario="server", rate=4, count=40)
    benchmark = simulated_benchmark(lambda _: next(times), options, workers=2)
    benchmark.begin()
    benchmark.measure(itertools.repeat(0), Stopping(options, benchmark.clock))
    benchmark.end("count")
    record = record_of_run(benchmark)
    starts = [one.start for one in record.timeline]
    assert min(starts) == 0
    assert starts[0] > 0
    image = typical_image(record)
    assert image is not None
    assert min(one.start for one in image.spans) == pytest.approx(0, abs=1e-6)


def test_a_server_is_measured_for_the_whole_time() -> None:
    options = BenchOptions(scenario="server", rate=5, seconds=60, warm_up=0)
    benchmark = run_benchmark(lambda _: 0.1, options)
    assert benchmark.stopped == "seconds"
    assert len(benchmark.collection.measured) > 250


def test_the_parts_of_an_image_add_up() -> None:
    record = simulated_record(lambda _: 1.0, BenchOptions(seconds=20, warm_up=0, tolerance=0))
    assert record.stages["propose"].percentile(50).value == pytest.approx(0.6)
    assert record.stages["refine"].percentile(50).value == pytest.approx(0.4)
    assert record.parts.device is not None
    assert record.parts.host is not None
    assert record.parts.device.percentile(50).value == pytest.approx(1.0)
    assert record.parts.host.largest == pytest.approx(0.0)
    assert record.parts.overlap == pytest.approx(1.0)
    assert record.operations == {}


def test_a_record_of_a_run_that_did_not_end_is_marked(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.parent.mkdir(parents=True)
    counter.with_name("name").write_text("package-0")
    counter.write_text("5000000")
    times = itertools.chain([1.0] * 11)

    def seconds(_: int) -> float:
        try:
            return next(times)
        except StopIteration:
            counter.write_text("9000000")
            raise StopError from None

    options, meter = BenchOptions(seconds=100, warm_up=0), EnergyMeter(None, tmp_path)
    benchmark = simulated_benchmark(seconds, options, meter=meter)
    with pytest.raises(StopError):
        benchmark.run()
    record = record_of_run(benchmark)
    assert record.interrupted
    assert (record.outcome.stopped, record.outcome.images) == ("interrupted", 10)
    assert record.latency.percentile(50).value == 1.0
    assert record.resources.joules_per_image == 0.4
    assert record.resources.processor_seconds is not None


@pytest.mark.parametrize(("readings", "joules"), [((2, 5, 6), 4.0), ((2, 5, 1), None)])
def test_energy_is_not_known_if_its_counter_started_again(
    readings: tuple[int, int, int], joules: float | None, tmp_path: Path
) -> None:
    """As that of a processor does, here in the second of two turns."""
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.parent.mkdir(parents=True)
    counter.with_name("name").write_text("package-0")
    counter.write_text(f"{readings[0]}000000")

    def seconds(_: int) -> float:
        counter.write_text(f"{readings[1 + block]}000000")
        return 1.0

    options = BenchOptions()
    benchmark = simulated_benchmark(seconds, options, meter=EnergyMeter(None, tmp_path))
    for block in (0, 1):
        benchmark.measure([0, 0], Stopping(options, benchmark.clock), block=block)
    assert benchmark.joules == joules


def test_an_image_that_ends_while_a_record_is_built_is_not_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an interruption, a record may be built while the run goes on in another thread."""
    benchmark = run_benchmark(lambda _: 1.0, BenchOptions(seconds=20, warm_up=0))

    def ending(*args: Any, **values: Any) -> Distribution:
        late = replace(benchmark.collection.rows[-1].sample, end=1e6, trace=ImageTrace())
        benchmark.collection.add(late, warm_up=False, block=None, switches=None)
        return distribution(*args, **values)

    monkeypatch.setattr(building, "distribution", ending)
    record = record_of_run(benchmark)
    assert len(benchmark.collection.rows) > len(record.samples.end)
    assert all(one.sample < len(record.samples.end) for one in record.tails.slowest)


def test_the_processor_time_of_a_run_that_still_goes_on_is_not_known() -> None:
    benchmark = run_benchmark(lambda _: 1.0, BenchOptions(seconds=20, warm_up=0))
    benchmark.processor_seconds = 0.0
    record = record_of_run(benchmark)
    assert record.resources.processor_seconds is None


@pytest.mark.parametrize(
    ("due", "late", "in_flight", "held"),
    [
        (100, 0, 1, True),
        (100, 5, 1, True),
        (100, 6, 1, False),
        (10, 2, 1, True),
        (10, 3, 1, False),
        (10, 6, 3, True),
        (10, 7, 3, False),
    ],
)
def test_a_rate_is_held_but_for_a_few_images(
    due: int, late: int, in_flight: int, held: bool
) -> None:
    options = BenchOptions(scenario="server", rate=1.0)
    benchmark = simulated_benchmark(lambda _: 1.0, options, workers=in_flight)
    image = Sample(index=0, worker=0, arrival=0.0, start=1.0, end=2.0, trace=None)
    for _ in range(due - late):
        benchmark.collection.add(image, warm_up=False, block=None, switches=None)
    benchmark.unstarted = late
    assert benchmark.kept_up is held


def test_costs_are_per_measured_image() -> None:
    benchmark = run_benchmark(lambda _: 1.0, BenchOptions(seconds=8, warm_up=3, tolerance=0))
    benchmark._joules[:], benchmark.processor_seconds = [20.0, 4.0], 4.0
    record = record_of_run(benchmark)
    assert (record.outcome.images, record.outcome.warm_up) == (8, 3)
    assert (record.resources.joules_per_image, record.resources.processor_seconds) == (3.0, 0.5)


def test_refusals_are_counted_by_status_with_the_time_until_the_answer() -> None:
    benchmark = run_benchmark(lambda _: 1.0, BenchOptions(seconds=8, warm_up=0, tolerance=0))
    for status, seconds in ((503, 0.25), (429, 0.5), (503, 0.75)):
        one = Sample(
            index=0, worker=0, arrival=1.0, start=2.0, end=2 + seconds, trace=None, refused=status
        )
        benchmark.refusals.append(one)
    found = record_of_run(benchmark).refusals
    assert [(status, one.count, one.mean) for status, one in found.items()] == [
        ("429", 1, 0.5),
        ("503", 2, 0.5),
    ]


def test_the_stage_that_takes_the_longest_comes_first() -> None:
    stages = simulated_record(lambda _: 1.0, BenchOptions(seconds=8, warm_up=0)).stages
    assert list(stages) == ["propose", "refine"]
    assert [one.mean for one in stages.values()] == pytest.approx([0.6, 0.4])


def test_images_that_never_started_waited_longer_than_all_others() -> None:
    benchmark = run_benchmark(lambda _: 1.0, BenchOptions(seconds=8, warm_up=0, tolerance=0))
    benchmark.unstarted = 4
    record = record_of_run(benchmark)
    for one in (record.waiting, record.latency):
        assert (one.count, one.mean, one.largest) == (12, None, None)


def test_a_rate_that_is_too_high_is_not_held() -> None:
    options = BenchOptions(scenario="server", rate=20, seconds=30, warm_up=0)
    record = simulated_record(lambda _: 0.1, options)
    assert record.outcome.rate_held is False
    assert record.outcome.unstarted > 200
    assert record.outcome.throughput == pytest.approx(10, rel=0.01)
    assert record.latency.percentile(90).value is None


def test_a_number_of_images_at_a_rate_that_is_too_high_is_not_held() -> None:
    options = BenchOptions(scenario="server", rate=20, count=200, warm_up=0)
    record = simulated_record(lambda _: 0.1, options)
    assert (record.outcome.images, record.outcome.unstarted) == (200, 0)
    assert record.outcome.rate_held is False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenario": "burst"}, "scenario must be"),
        ({"seconds": 0.0}, "seconds must be above 0, found 0"),
        ({"count": 0}, "count must be at least 1, found 0"),
        ({"warm_up": -1.0}, "warm_up must be at least 0, found -1"),
        ({"percentile": 100.0}, "percentile must lie between 0 and 100, found 100"),
        ({"rate": 2.0}, "rate belongs to the scenario 'server', found 'single-stream': pass --sc"),
        ({"scenario": "server"}, "needs a rate of arrivals, or a bound .*: pass --rate IMAGES_PER"),
        (
            {"scenario": "server", "p99": 1.0, "count": 40},
            "needs 368 images per rate, found a count of 40: pass --count 368 or more, or omit it",
        ),
        ({"scenario": "server", "rate": -2.0}, "rate must be above 0, found -2"),
    ],
)
def test_bad_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        BenchOptions(**values)
