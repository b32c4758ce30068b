# SPDX-License-Identifier: Apache-2.0
"""The measurement of a pipeline or a server: search for a rate, run, floor and record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from foveate.bench.benchmark import Benchmark, run_in_turns
from foveate.bench.building import Surroundings, build_record
from foveate.bench.collecting import columns
from foveate.bench.compare import compare
from foveate.bench.figures import RateSearch, RateTrial
from foveate.bench.percentiles import fewest_runs
from foveate.bench.rate_search import judge, search_rate
from foveate.bench.record import Input, Record, Rival
from foveate.bench.scenarios import last_arrival
from foveate.bench.trace import chrome_trace
from foveate.bench.units import duration
from foveate.errors import InputError
from foveate.progress import Progress, no_progress

if TYPE_CHECKING:
    from foveate.bench.energy import EnergyMeter
    from foveate.bench.options import BenchOptions
    from foveate.bench.scenarios import System
    from foveate.tracing.clock import Clock

# Longest time of the floor, and its rate, at which arrivals hardly ever wait for each other: with
# mixed sizes, the memory of each image is allocated again, which takes up to 10 ms.
_FLOOR_SECONDS, _FLOOR_RATE = 3.0, 25.0


class Measurement(ABC):
    """A measurement of a system, which it owns and closes.

    Attributes:
        benchmark: The run. In a search for a rate, that of the highest rate that held the bound so
            far, or the last one until a rate did.
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
        self._rival: Measurement | None = None
        self._floor: Benchmark | None = None
        self._search: RateSearch | None = None
        self.benchmark = self._benchmark(system, options)

    @abstractmethod
    def null_system(self) -> System:
        """Return a system that is called in the same way and does nothing."""

    @abstractmethod
    def surroundings(self) -> Surroundings:
        """Return what belongs in the record and does not come from the run."""

    def run(self, rival: Measurement | None = None) -> None:
        """Measure, or search the highest rate if there is a bound, and measure the floor.

        Args:
            rival: What is measured in turns with this, and is in the record as well.

        Raises:
            OptionError: There is a rival, and the scenario has a schedule.
            ServerError: A server does not answer as it should.
        """
        bound, first = self._options.p99, self._options.rate
        if rival is not None:
            self._rival = rival
            run_in_turns(self.benchmark, rival.benchmark, len(self._inputs))
        elif bound is None:
            self.benchmark.run()
        else:
            searches = search_rate(self._try_rate, bound, first or self._estimated_rate())
            for search in searches:
                self._search = search
        self._measure_floor()

    def record(self) -> Record:
        """Return the record, also if the run was interrupted."""
        record = build_record(
            self.benchmark, self.surroundings(), floor=self._floor, search=self._search
        )
        return record if self._rival is None else _compared(record, self._rival.record())

    def trace(self) -> dict[str, Any]:
        """Return the work of all images that were traced, for a trace viewer."""
        collection, origin = self.benchmark.collection.copy(), self.benchmark.origin
        return chrome_trace(
            collection.spans(collection.traced, origin),
            columns(collection.rows, origin),
            [one.name for one in self._inputs],
        )

    def close(self) -> None:
        """Release the system."""
        self._system.close()

    def _measure_floor(self) -> None:
        """Measure the scenario with a system that does nothing."""
        system, count, rate = self.null_system(), self._options.count, None
        if self._options.scenario == "server":
            rate = _FLOOR_RATE
            # A number of images ends a run whatever the time, and would take long at this rate.
            count = count and min(count, round(_FLOOR_SECONDS * rate))
        options = replace(
            self._options,
            seconds=min(_FLOOR_SECONDS, self._options.time_limit),
            count=count,
            warm_up=0.0,
            p99=None,
            rate=rate,
            keep_spans=False,
        )
        floor = self._benchmark(system, options, counted=False)
        try:
            floor.run()
        finally:
            system.close()
        self._floor = floor

    def _benchmark(
        self,
        system: System,
        options: BenchOptions,
        *,
        counted: bool = True,
        task: str = "Measuring",
    ) -> Benchmark:
        return Benchmark(
            system,
            options,
            sizes=[(one.height, one.width) for one in self._inputs],
            in_flight=self._in_flight,
            clock=self._clock,
            meter=self._meter if counted else None,
            progress=self._progress if counted else no_progress,
            task=task,
        )

    def _estimated_rate(self) -> float:
        """Return half of the rate of a full pipeline, with which the search begins."""
        self.benchmark.warm_up()
        samples = [row.sample for row in self.benchmark.collection.rows]
        # The first image takes longer than the others, unless there are none.
        start = samples[0].end if len(samples) > 1 else samples[0].start
        elapsed = samples[-1].end - start
        return 0.5 * max(1, len(samples) - 1) / elapsed if elapsed > 0 else 1.0

    def _try_rate(self, rate: float) -> RateTrial:
        """Measure as many images at a rate as the percentile needs, if their time allows it."""
        options, bound = self._options, self._options.p99
        assert bound is not None
        count = options.count or fewest_runs(99)
        seconds = last_arrival(rate, options.seed, count)
        if options.seconds is not None and seconds > options.seconds:
            return RateTrial(rate=rate, images=0, p99=None, low=None, high=None, held=None)
        task = f"Trying {rate:.3g} images/s for {duration(seconds)}"
        self._progress(task, 0, count)
        trial = self._benchmark(
            self._system, replace(options, rate=rate, count=count, warm_up=0.0), task=task
        )
        trial.first = self.benchmark.first  # that of the first image after loading
        if self._search is None or self._search.rate is None:
            self.benchmark = trial
        trial.run()
        if trial.unstarted:  # else the last image was reported
            self._progress(task, count, count)
        found = judge(trial, bound)
        if found.held:
            self.benchmark = trial
        return found


def _compared(candidate: Record, baseline: Record) -> Record:
    """Return the record of a system with that of another one, which was measured in turns."""
    if candidate.subject.server is None and baseline.subject.server is None:
        candidate, baseline = _without_memory(candidate), _without_memory(baseline)
    try:
        comparison = compare(baseline, candidate, paired=True)
    except InputError:  # too few images, which the record shows
        comparison = None
    return replace(candidate, against=Rival(record=baseline, comparison=comparison))


def _without_memory(record: Record) -> Record:
    """Return the record of one of two pipelines that were in memory at the same time."""
    names = ("peak_resident_bytes", "device_bytes")
    reason = "the other pipeline, with which it was measured in turns, was in memory too"
    return replace(
        record,
        resources=replace(record.resources, **dict.fromkeys(names)),
        unmeasured={**record.unmeasured, **{f"resources.{name}": reason for name in names}},
    )
