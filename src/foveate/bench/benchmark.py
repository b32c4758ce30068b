# SPDX-License-Identifier: Apache-2.0
"""A benchmark: the run of a scenario, and what is recorded around it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, count, cycle, islice
from math import ceil, inf
from typing import TYPE_CHECKING

from foveate.bench.collecting import Collection
from foveate.bench.machine import Snapshot, involuntary_switches, take_snapshot
from foveate.bench.scenarios import (
    StreamingSystem,
    last_arrival,
    poisson_arrivals,
    run_closed_loop,
    run_offline,
    run_server,
    run_single_stream,
)
from foveate.bench.stopping import Stopping
from foveate.errors import OptionError, ServerError
from foveate.evaluation.predict import reset_peak_memory
from foveate.progress import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from foveate.bench.energy import EnergyMeter
    from foveate.bench.options import BenchOptions
    from foveate.bench.scenarios import Sample, System, Take
    from foveate.tracing.clock import Clock

# Largest number of late images of a schedule that is held: this share of the images that arrived, or
# this multiple of the number of images in flight, whichever is larger.
_LATE_SHARE, _LATE_IMAGES = 0.05, 2
# Images per turn and image in flight, so that the pipeline is full for most of a turn.
_IMAGES_PER_TURN = 8


class Benchmark:
    """The run of a scenario.

    Its figures can be taken at any time, also when the run was interrupted.

    Args:
        system: What is measured.
        options: Options of the run.
        sizes: Size of each image, (height, width).
        in_flight: Number of images that are processed at a time.
        clock: Clock of the run.
        meter: Energy counter; None if energy is not measured.
        progress: Called with the seconds, or the images if their number ends the run.
        task: Name of the run in its progress.

    Attributes:
        collection: The samples.
        refusals: The images of the measurement that a server refused.
        before: State of the machine before the measurement; None before it began.
        after: State of the machine after it; None before it ended.
        first: Latency of the first image; None before it was processed.
        origin: Time of the clock at the start of the measurement.
        unstarted: Number of images that were due and never started.
        stopped: What ended the measurement: "stable", "seconds" or "count"; None before it ended.
        processor_seconds: Processor time of the measurement, of all threads.
    """

    def __init__(
        self,
        system: System,
        options: BenchOptions,
        *,
        sizes: list[tuple[int, int]],
        in_flight: int,
        clock: Clock,
        meter: EnergyMeter | None = None,
        progress: Progress = no_progress,
        task: str = "Measuring",
    ) -> None:
        self.options = options
        self.in_flight = 1 if options.scenario == "single-stream" else in_flight
        self.clock = clock
        self.collection = Collection(keep_traces=options.keep_spans)
        self.refusals: list[Sample] = []
        self.before: Snapshot | None = None
        self.after: Snapshot | None = None
        self.first: float | None = None
        self.origin = 0.0
        self.unstarted = 0
        self.stopped: str | None = None
        self._system, self._sizes = system, sizes
        self._meter, self._progress, self._task = meter, progress, task
        self.processor_seconds = 0.0
        self._joules: list[float | None] = []  # of each call of measure
        self._switches = involuntary_switches()
        self._measured = 0
        self._reported = -1

    def run(self) -> None:
        """Warm up, and measure until the percentile is stable or the time is over."""
        self.warm_up()
        self.begin()
        stopping = Stopping(self.options, self.clock)
        self.measure(cycle(range(len(self._sizes))), stopping)
        self.end(stopping.reason)

    def warm_up(self) -> None:
        """Process images for a time, and each size at least as often as images are in flight.

        Raises:
            ServerError: The server refused all images.
        """
        end = self.clock.now() + self.options.warm_up
        sizes = [self._sizes.index(size) for size in dict.fromkeys(self._sizes)] * self.in_flight

        refused = 0

        def take(sample: Sample) -> bool:
            nonlocal refused
            if sample.refused is not None:
                refused += 1
                return self.clock.now() < end + self.options.time_limit
            if self.first is None:
                self.first = sample.latency
            self._add(sample, warm_up=True)
            return len(self.collection.rows) < len(sizes) or self.clock.now() < end

        self._send(chain(sizes, cycle(range(len(self._sizes)))), take)
        if refused and not self.collection.rows:
            raise ServerError(
                f"the server refused all {refused} requests of the warm-up",
                remedy="wait until it is less busy, or lower --max-in-flight",
            )

    def begin(self) -> None:
        """Begin the measurement."""
        reset_peak_memory()
        self.before = take_snapshot()
        self.origin = self.clock.now()

    def measure(
        self, indices: Iterable[int], stopping: Stopping, *, block: int | None = None
    ) -> None:
        """Process images and take their samples.

        Args:
            indices: Index of each image.
            stopping: Ends the run, unless it is a turn or has a schedule.
            block: Number of the turn in a measurement against another pipeline.

        Raises:
            ServerError: The server refused an image of a turn.
        """
        # A schedule has its own end, and images that are due at that time have to be counted.
        ends = block is None and self.options.scenario != "server"

        def take(sample: Sample) -> bool:
            if sample.refused is None:
                self._add(sample, warm_up=False, block=block)
            elif block is None:
                self.refusals.append(sample)
            else:  # neighbors would no longer be of the same image
                raise ServerError(
                    f"the server refused an image with the status {sample.refused} in a turn",
                    remedy="lower --max-in-flight, or measure the server alone",
                )
            self._measured += 1
            self._report()
            stopping.note(sample.latency if sample.refused is None else None)
            return not (ends and stopping.is_over())

        with self._count_costs():
            if self.options.scenario == "server":
                self._serve(indices, take)
            else:
                self._send(indices, take)

    def end(self, reason: str) -> None:
        """End the measurement."""
        self.after = take_snapshot()
        self.stopped = reason

    @property
    def joules(self) -> float | None:
        """Energy of the measurement; None if a part of it was not counted."""
        known = [one for one in self._joules if one is not None]
        return sum(known) if known and len(known) == len(self._joules) else None

    @property
    def lost(self) -> int:
        """Number of images that arrived and have no result: never started, or refused."""
        return self.unstarted + len(self.refusals)

    @property
    def kept_up(self) -> bool:
        """Whether the pipeline kept up with a schedule, except for a few images at its end."""
        rows = [row.sample for row in self.collection.measured]
        late = self.lost
        if self.options.count is not None:  # else no image starts after the last arrival
            end = max((one.arrival for one in rows), default=0.0)
            late += sum(one.start > end for one in rows)
        arrived = len(rows) + self.lost
        return late <= max(_LATE_SHARE * arrived, _LATE_IMAGES * self.in_flight)

    @contextmanager
    def _count_costs(self) -> Iterator[None]:
        """Add the energy and the processor time of the context to those of the measurement."""
        joules = None if self._meter is None else self._meter.joules()
        seconds = time.process_time()
        try:
            yield
        finally:  # an interrupted measurement has a record too
            self.processor_seconds += time.process_time() - seconds
            after = None if self._meter is None else self._meter.joules()
            used = None if joules is None or after is None else after - joules
            self._joules.append(None if used is None or used < 0 else used)

    def _serve(self, indices: Iterable[int], take: Take) -> None:
        """Send images at the moments of the schedule."""
        options = self.options
        assert options.rate is not None
        latest = options.time_limit if options.count is None else inf
        if options.p99 is not None and options.count is not None:
            # An image that starts later misses the bound in any case.
            latest = last_arrival(options.rate, options.seed, options.count) + options.p99
        self.unstarted += run_server(
            self._system,
            self.clock,
            indices,
            islice(poisson_arrivals(options.rate, options.seed), options.count),
            take,
            workers=self.in_flight,
            seconds=latest,
        )

    def _send(self, indices: Iterable[int], take: Take) -> None:
        """Send images one after the other, or with several in flight."""
        if self.options.scenario == "single-stream":
            run_single_stream(self._system, self.clock, indices, take)
        elif isinstance(self._system, StreamingSystem):
            run_offline(self._system, self.clock, indices, take)
        else:
            run_closed_loop(self._system, self.clock, indices, take, workers=self.in_flight)

    def _add(self, sample: Sample, *, warm_up: bool, block: int | None = None) -> None:
        switches = involuntary_switches()
        new, self._switches = switches - self._switches, switches
        self.collection.add(sample, warm_up=warm_up, block=block, switches=new)

    def _report(self) -> None:
        """Report the progress if its number has grown."""
        total = self.options.count or max(1, round(self.options.time_limit))
        done = round(self.clock.now() - self.origin)
        if self.options.count is not None:
            done = self._measured
        done = min(done, total)
        if done > self._reported:
            self._reported = done
            self._progress(self._task, done, total)


def run_in_turns(
    candidate: Benchmark, baseline: Benchmark, images: int, *, turns: int | None = None
) -> None:
    """Measure two pipelines in the order A B B A, which a steady drift does not favor.

    Each turn has whole passes through the images. With ``turns``, each pipeline has that number of
    turns, and one more if it is odd. Otherwise, the turns end when the percentiles of both are
    stable, or after twice the time of the options, which both share.

    Raises:
        OptionError: The scenario has a schedule, which turns would interrupt.
    """
    options = candidate.options
    if options.scenario == "server":
        raise OptionError(
            "turns would interrupt the schedule of the scenario 'server'",
            remedy="use --scenario single-stream or offline, or compare two records",
        )
    passes = 1
    if options.scenario == "offline":
        passes = ceil(_IMAGES_PER_TURN * candidate.in_flight / images)
    runs = (candidate, baseline)
    for run in runs:
        run.warm_up()
    for run in runs:
        run.begin()
    doubled = replace(options, seconds=2 * options.time_limit)
    stops = [Stopping(doubled, run.clock) for run in runs]
    for block in count():
        # A B, then B A.
        for index in (0, 1) if block % 2 == 0 else (1, 0):
            indices = [*range(images)] * passes
            runs[index].measure(indices, stops[index], block=block)
        over = all(stop.is_over() for stop in stops) if turns is None else block + 1 >= turns
        if block % 2 and over:
            break
    for run, stop in zip(runs, stops, strict=True):
        run.end(stop.reason if turns is None else "count")
