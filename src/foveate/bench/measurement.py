# SPDX-License-Identifier: Apache-2.0
"""A measurement, whatever is measured: the search for a rate, the run, the floor and the record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from foveate.bench.benchmark import Benchmark
from foveate.bench.building import Surroundings, build_record, is_rate_held
from foveate.bench.collecting import columns
from foveate.bench.compare import compare
from foveate.bench.figures import RateSearch, RateTrial
from foveate.bench.percentiles import distribution, fewest_runs
from foveate.bench.rate_search import search_rate
from foveate.bench.record import Input, Record, Rival
from foveate.bench.trace import chrome_trace
from foveate.bench.turns import run_in_turns
from foveate.errors import InputError
from foveate.progress import Progress, no_progress

if TYPE_CHECKING:
    from foveate.bench.clock import Clock
    from foveate.bench.energy import EnergyMeter
    from foveate.bench.options import BenchOptions
    from foveate.bench.scenarios import System

# Longest time of the floor, and its rate, at which arrivals hardly ever wait for each other.
_FLOOR_SECONDS, _FLOOR_RATE = 2.0, 100.0


class Measurement(ABC):
    """A measurement of a system.

    Args:
        system: What is measured, of which this takes ownership.
        options: Options of the benchmark.
        inputs: The images.
        in_flight: Number of images that are processed at a time.
        clock: Clock of all times.
        meter: Counter of energy; None if there is none.
        progress: Called about once per second.

    Attributes:
        benchmark: The run.
    """

    def __init__(
        self,
        system: System,
        options: BenchOptions,
        *,
        inputs: tuple[Input, ...],
        in_flight: int,
        clock: Clock,
        meter: EnergyMeter | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self._system, self._options, self._inputs = system, options, inputs
        self._in_flight, self._clock = in_flight, clock
        self._meter, self._progress = meter, progress
        self._floor: Benchmark | None = None
        self._search: RateSearch | None = None
        self.benchmark = self._benchmark(system, options)

    @abstractmethod
    def null_system(self) -> System:
        """Return a system that is called in the same way and does nothing."""

    @abstractmethod
    def surroundings(self) -> Surroundings:
        """Return what belongs in the record and does not come from the run."""

    def run(self) -> None:
        """Search the rate if there is a bound, measure, and measure the floor.

        Raises:
            InputError: The time is too short for the 99th percentile of the search.
            ServerError: A server does not answer as it should.
        """
        options = self._options
        if options.p99 is not None:
            first = self._estimated_rate() if options.rate is None else options.rate
            self._search = search_rate(self._try_rate, options.p99, first)
            rate = self._search.rate or self._search.trials[-1].rate
            self.benchmark = self._benchmark(self._system, replace(options, rate=rate))
        self.benchmark.run()
        self.measure_floor()

    def measure_floor(self) -> None:
        """Measure the scenario with a system that does nothing."""
        system = self.null_system()
        options = replace(
            self._options,
            seconds=min(_FLOOR_SECONDS, self._options.seconds),
            warm_up=0.0,
            rate=None if self._options.scenario != "server" else _FLOOR_RATE,
            keep_spans=False,
        )
        floor = self._benchmark(system, options, counted=False)
        try:
            floor.run()
        finally:
            system.close()
        self._floor = floor

    def record(self) -> Record:
        """Return the record, also if the run was interrupted."""
        return build_record(
            self.benchmark, self.surroundings(), floor=self._floor, search=self._search
        )

    def trace(self) -> dict[str, Any]:
        """Return the work of all images that were traced, for a trace viewer."""
        collection, origin = self.benchmark.collection, self.benchmark.origin
        return chrome_trace(
            collection.spans(collection.traced, origin),
            columns(collection.rows, origin),
            [one.name for one in self._inputs],
        )

    @property
    def images(self) -> int:
        """Number of images that are sent in turns."""
        return len(self._inputs)

    def close(self) -> None:
        """Release the system."""
        self._system.close()

    def _benchmark(
        self, system: System, options: BenchOptions, *, counted: bool = True
    ) -> Benchmark:
        return Benchmark(
            system,
            options,
            sizes=[(one.height, one.width) for one in self._inputs],
            in_flight=self._in_flight,
            clock=self._clock,
            meter=self._meter if counted else None,
            progress=self._progress if counted else no_progress,
        )

    def _estimated_rate(self) -> float:
        """Return half of the rate of a full pipeline, with which the search begins."""
        self.benchmark.warm_up()
        rows = self.benchmark.collection.rows
        elapsed = rows[-1].sample.end - rows[0].sample.end
        return 0.5 * (len(rows) - 1) / elapsed if elapsed > 0 else 1.0

    def _try_rate(self, rate: float) -> RateTrial:
        """Measure the schedule of a rate, and compare its latency with the bound.

        Images that were refused count as slower than all others.
        """
        options, bound = self._options, self._options.p99
        assert bound is not None
        trial = self._benchmark(self._system, replace(options, rate=rate, warm_up=0.0))
        trial.run()
        rows, lost = trial.collection.measured, trial.unstarted + len(trial.refusals)
        found = distribution([one.sample.latency for one in rows], unstarted=lost)
        p99, due = found.percentile(99), len(rows) + lost
        if due < fewest_runs(99):
            raise InputError(
                f"the 99th percentile needs {fewest_runs(99)} images, and {options.seconds:g} s at "
                f"{rate:.3g} images per second have {due}",
                remedy=f"pass --seconds {1.2 * fewest_runs(99) / rate:.0f}",
            )
        kept = is_rate_held(due, lost, trial.in_flight)
        return RateTrial(
            rate=rate,
            images=len(rows),
            p99=p99.value,
            low=p99.low,
            high=p99.high,
            held=kept and p99.high is not None and p99.high <= bound,
        )


def run_against(candidate: Measurement, baseline: Measurement) -> None:
    """Measure two systems in turns, and the floor once.

    Raises:
        OptionError: The scenario has a schedule.
    """
    run_in_turns(candidate.benchmark, baseline.benchmark, candidate.images)
    candidate.measure_floor()


def record_against(candidate: Measurement, baseline: Measurement) -> Record:
    """Return the record of two systems that were measured in turns."""
    first, second = candidate.record(), baseline.record()
    try:
        comparison = compare(second, first, paired=True)
    except InputError:  # too few images, which the record shows
        comparison = None
    return replace(first, against=Rival(record=second, comparison=comparison))
