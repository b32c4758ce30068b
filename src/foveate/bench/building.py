# SPDX-License-Identifier: Apache-2.0
"""From a run to its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean
from typing import TYPE_CHECKING

from foveate import __version__
from foveate.bench.collecting import Row, columns
from foveate.bench.figures import Distribution, Floor, PartTimes, RateSearch
from foveate.bench.machine import describe_machine, take_snapshot
from foveate.bench.percentiles import distribution
from foveate.bench.record import SCHEMA, Outcome, Record, Resources, Scenario
from foveate.bench.tails import describe_tails
from foveate.evaluation.predict import peak_memory

if TYPE_CHECKING:
    from foveate.bench.benchmark import Benchmark
    from foveate.bench.machine import GpuState
    from foveate.bench.record import Input, Subject


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What belongs in the record and does not come from the run.

    Args:
        subject: What was measured.
        inputs: The images.
        load: Time to load the bundle and to open the networks.
        gpu: State of the GPU after the run, if the pipeline used one.
        device_bytes: Memory of the device that the run took.
        energy_counter: Name of the counter of energy.
        doubts: Why the figures are not fit to be published, besides the state of this machine.
        unmeasured: Why figures are null, by their places in the record.
    """

    subject: Subject
    inputs: tuple[Input, ...]
    load: float | None = None
    gpu: GpuState | None = None
    device_bytes: int | None = None
    energy_counter: str | None = None
    doubts: tuple[str, ...] = ()
    unmeasured: Mapping[str, str] = field(default_factory=dict)


def build_record(
    benchmark: Benchmark,
    surroundings: Surroundings,
    *,
    floor: Benchmark | None = None,
    search: RateSearch | None = None,
) -> Record:
    """Return the record of a run and of its floor, also of a run or a search that did not end."""
    collection = benchmark.collection.copy()  # the run may go on in another thread
    rows, warm_up = collection.measured, len(collection.rows) - len(collection.measured)
    after = benchmark.after or take_snapshot()
    before = benchmark.before or after
    latency = distribution([row.sample.latency for row in rows], unstarted=benchmark.unstarted)
    timeline = collection.timeline
    start = min((collection.rows[one].sample.start for one in timeline), default=0.0)
    return Record(
        schema=SCHEMA,
        foveate=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        interrupted=benchmark.stopped is None or (search is not None and not search.complete),
        subject=surroundings.subject,
        scenario=_scenario(benchmark),
        inputs=surroundings.inputs,
        machine=describe_machine(before, after, gpu=surroundings.gpu, doubts=surroundings.doubts),
        outcome=_outcome(benchmark, rows, warm_up, surroundings.load),
        latency=latency,
        waiting=distribution(
            [row.sample.start - row.sample.arrival for row in rows], unstarted=benchmark.unstarted
        ),
        refusals=_refusals(benchmark),
        parts=_parts(rows),
        stages=_by_name([row.division.stages for row in rows]),
        operations=_by_name([row.division.operations for row in rows]),
        resources=_resources(benchmark, rows, surroundings),
        floor=None if floor is None else _floor(floor, latency),
        search=search,
        tails=describe_tails(collection, surroundings.inputs),
        timeline=collection.spans(timeline, start),
        samples=columns(collection.rows, benchmark.origin),
        unmeasured=dict(surroundings.unmeasured),
    )


def _refusals(benchmark: Benchmark) -> dict[str, Distribution]:
    found: dict[str, list[float]] = {}
    for one in list(benchmark.refusals):  # the run may go on in another thread
        found.setdefault(str(one.refused), []).append(one.end - one.start)
    return {status: distribution(times) for status, times in sorted(found.items())}


def _scenario(benchmark: Benchmark) -> Scenario:
    options = benchmark.options
    return Scenario(
        name=options.scenario,
        seconds=options.time_limit if options.p99 is None else options.seconds,
        count=options.count,
        warm_up=options.warm_up,
        percentile=options.percentile,
        tolerance=options.tolerance,
        rate=options.rate,
        p99=options.p99,
        seed=options.seed,
        in_flight=benchmark.in_flight,
        decoding=options.decoding,
    )


def _outcome(
    benchmark: Benchmark, rows: Sequence[Row], warm_up: int, load: float | None
) -> Outcome:
    turns: dict[int | None, list[Row]] = {}
    for row in rows:
        turns.setdefault(row.block, []).append(row)
    own = sum(map(_elapsed, turns.values()))  # without the turns of another pipeline
    held = None
    if benchmark.options.scenario == "server" and benchmark.stopped is not None:
        held = benchmark.kept_up
    return Outcome(
        images=len(rows),
        warm_up=warm_up,
        unstarted=benchmark.unstarted,
        refused=len(benchmark.refusals),
        elapsed=_elapsed(rows),
        throughput=len(rows) / own if own > 0 else None,
        stopped=benchmark.stopped or "interrupted",
        rate_held=held,
        load=load,
        first=benchmark.first,
    )


def _elapsed(rows: Sequence[Row]) -> float:
    """Return the time from the first arrival to the last result."""
    first = min((row.sample.arrival for row in rows), default=0.0)
    return max((row.sample.end for row in rows), default=0.0) - first


def _parts(rows: Sequence[Row]) -> PartTimes:
    parts = [row.division for row in rows]
    overlaps = [one.overlap for one in parts if one.overlap is not None]
    return PartTimes(
        processing=distribution([row.sample.end - row.sample.start for row in rows]),
        reading=_known(one.reading for one in parts),
        host=_known(one.host for one in parts),
        enqueue=_known(one.enqueue for one in parts),
        waiting_for_device=_known(one.waiting for one in parts),
        device=_known(one.device for one in parts),
        copies=_known(one.copies for one in parts),
        overlap=fmean(overlaps) if overlaps else None,
    )


def _known(values: Iterable[float | None]) -> Distribution | None:
    """Return the distribution of the values that are known, or None if there are none."""
    known = [value for value in values if value is not None]
    return distribution(known) if known else None


def _by_name(parts: Sequence[dict[str, float]]) -> dict[str, Distribution]:
    """Return the distribution of each part, the largest mean first."""
    names = sorted({name for one in parts for name in one})
    found = {name: distribution([one[name] for one in parts if name in one]) for name in names}
    return dict(sorted(found.items(), key=lambda one: -(one[1].mean or 0.0)))


def _resources(benchmark: Benchmark, rows: Sequence[Row], surroundings: Surroundings) -> Resources:
    copying = [] if surroundings.subject.device == "cpu" else rows
    remote = surroundings.subject.server is not None  # this process is only the client then

    def per_image(total: float | None) -> float | None:
        return total / len(rows) if total and rows else None

    return Resources(
        peak_resident_bytes=None if remote else peak_memory() or None,
        device_bytes=surroundings.device_bytes,
        copied_to_device=fmean(row.sent_bytes for row in copying) if copying else None,
        copied_from_device=fmean(row.fetched_bytes for row in copying) if copying else None,
        joules_per_image=per_image(benchmark.joules),
        energy_counter=surroundings.energy_counter,
        processor_seconds=None if remote else per_image(benchmark.processor_seconds),
    )


def _floor(floor: Benchmark, latency: Distribution) -> Floor:
    rows = floor.collection.measured
    found = distribution([row.sample.latency for row in rows], unstarted=floor.unstarted)
    own, median = found.median, latency.median
    return Floor(
        rate=floor.options.rate,
        latency=found,
        share=own / median if own is not None and median else None,
    )
