# SPDX-License-Identifier: Apache-2.0
"""A benchmark of a bundle from its name to its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from foveate.bench.benchmark import Benchmark
from foveate.bench.building import Surroundings, build_record, is_rate_held
from foveate.bench.clock import Clock, SystemClock
from foveate.bench.collecting import columns
from foveate.bench.compare import compare
from foveate.bench.energy import EnergyMeter
from foveate.bench.figures import RateSearch, RateTrial
from foveate.bench.floor import NullDevice, null_engines
from foveate.bench.gpu_counters import GpuCounters, open_gpu_counters
from foveate.bench.images import read_images
from foveate.bench.percentiles import distribution, fewest_runs
from foveate.bench.rate_search import search_rate
from foveate.bench.record import Record, Rival, Subject
from foveate.bench.system import PipelineSystem, describe_subject
from foveate.bench.trace import chrome_trace
from foveate.bench.turns import run_in_turns
from foveate.bundle import read_bundle
from foveate.errors import InputError
from foveate.progress import Progress, no_progress
from foveate.runtime.loading import open_parts

if TYPE_CHECKING:
    from pathlib import Path

    from foveate.bench.options import BenchOptions
    from foveate.bundle import Bundle
    from foveate.runtime import PipelineOptions
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

# Opens a device and the engines of a bundle: see `foveate.runtime.loading.open_parts`.
OpenParts: TypeAlias = (
    "Callable[[Bundle, str, str, PipelineOptions], tuple[Device, Mapping[str, Engine]]]"
)
# Longest time of the floor, and its rate, at which arrivals hardly ever wait for each other.
_FLOOR_SECONDS, _FLOOR_RATE = 2.0, 100.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be measured.

    Args:
        bundle: Name of a shipped bundle, or a directory.
        device: Name of the device.
        backend: Name of the backend.
        options: Options of the pipeline.
    """

    bundle: str
    device: str
    backend: str
    options: PipelineOptions


class Session:
    """The benchmark of one pipeline.

    Args:
        target: What is to be measured.
        files: Files of the images.
        options: Options of the benchmark.
        open_with: Opens the device and the engines.
        clock: Clock of all times.
        progress: Called about once per second.

    Attributes:
        subject: What is measured.
        benchmark: The run.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        BackendError: The device or the backend does not work on this machine.
        InputError: An image cannot be read.
    """

    def __init__(
        self,
        target: Target,
        files: Sequence[Path],
        options: BenchOptions,
        *,
        open_with: OpenParts = open_parts,
        clock: Clock | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self._clock = clock or SystemClock()
        self._options, self._progress = options, progress
        self._target = target
        begin = self._clock.now()
        bundle, device, engines = read_bundle(
            target.bundle,
            lambda found: (found, *open_with(found, target.device, target.backend, target.options)),
        )
        load = self._clock.now() - begin
        self._device, self._bundle = device, bundle
        self._free = self._free_bytes()
        manifest = target.options.applied_to(bundle.manifest)
        try:
            self._images = read_images(files, manifest, decoding=options.decoding)
        except BaseException:
            for engine in engines.values():
                engine.close()
            device.close()
            raise
        self.subject: Subject = describe_subject(
            bundle, device, target.backend, engines, target.options
        )
        self._system = self._open(device, engines)
        self._gpu: GpuCounters | None = None if device.name == "cpu" else open_gpu_counters()
        self._meter = EnergyMeter(self._gpu)
        self._surroundings = Surroundings(
            subject=self.subject,
            inputs=self._images.inputs,
            load=load,
            energy_counter=self._meter.counter,
        )
        self._floor: Benchmark | None = None
        self._search: RateSearch | None = None
        self.benchmark = self._benchmark(self._system, options)

    def run(self) -> None:
        """Search the rate if there is a bound, measure, and measure the floor.

        Raises:
            InputError: The time is too short for the 99th percentile of the search.
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
        """Measure the scenario with a pipeline that does nothing."""
        system = self._open(NullDevice(), null_engines(self._bundle.manifest))
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
        surroundings = replace(
            self._surroundings,
            gpu=None if self._gpu is None else self._gpu.state(),
            device_bytes=None if self._free is None else self._free - (self._free_bytes() or 0),
        )
        return build_record(self.benchmark, surroundings, floor=self._floor, search=self._search)

    def trace(self) -> dict[str, Any]:
        """Return the work of all images that were traced, for a trace viewer."""
        collection, origin = self.benchmark.collection, self.benchmark.origin
        return chrome_trace(
            collection.spans(collection.traced, origin),
            columns(collection.rows, origin),
            [one.name for one in self._images.inputs],
        )

    @property
    def images(self) -> int:
        """Number of images that are sent in turns."""
        return len(self._images)

    def close(self) -> None:
        """Release the pipeline."""
        self._system.close()

    def _open(self, device: Device, engines: Mapping[str, Engine]) -> PipelineSystem:
        return PipelineSystem(
            self._bundle, device, engines, self._target.options, self._images, self._clock
        )

    def _benchmark(
        self, system: PipelineSystem, options: BenchOptions, *, counted: bool = True
    ) -> Benchmark:
        return Benchmark(
            system,
            options,
            sizes=[(one.height, one.width) for one in self._images.inputs],
            in_flight=self._target.options.max_in_flight,
            clock=self._clock,
            meter=self._meter if counted else None,
            progress=self._progress if counted else no_progress,
        )

    def _free_bytes(self) -> int | None:
        """Return the free memory of the device; None if it is that of the process."""
        memory = getattr(self._device, "memory", None)  # only GPUs have their own
        return None if memory is None else int(memory()[0])

    def _estimated_rate(self) -> float:
        """Return half of the rate of a full pipeline, with which the search begins."""
        self.benchmark.warm_up()
        rows = self.benchmark.collection.rows
        elapsed = rows[-1].sample.end - rows[0].sample.end
        return 0.5 * (len(rows) - 1) / elapsed if elapsed > 0 else 1.0

    def _try_rate(self, rate: float) -> RateTrial:
        """Measure the schedule of a rate, and compare its latency with the bound."""
        options, bound = self._options, self._options.p99
        assert bound is not None
        trial = self._benchmark(self._system, replace(options, rate=rate, warm_up=0.0))
        trial.run()
        rows = trial.collection.measured
        found = distribution([one.sample.latency for one in rows], unstarted=trial.unstarted)
        p99, due = found.percentile(99), len(rows) + trial.unstarted
        if due < fewest_runs(99):
            raise InputError(
                f"the 99th percentile needs {fewest_runs(99)} images, and {options.seconds:g} s at "
                f"{rate:.3g} images per second have {due}",
                remedy=f"pass --seconds {1.2 * fewest_runs(99) / rate:.0f}",
            )
        kept = is_rate_held(due, trial.unstarted, trial.in_flight)
        return RateTrial(
            rate=rate,
            images=len(rows),
            p99=p99.value,
            low=p99.low,
            high=p99.high,
            held=kept and p99.high is not None and p99.high <= bound,
        )


def run_against(candidate: Session, baseline: Session) -> None:
    """Measure two pipelines in turns, and the floor once.

    Raises:
        OptionError: The scenario has a schedule.
    """
    run_in_turns(candidate.benchmark, baseline.benchmark, candidate.images)
    candidate.measure_floor()


def record_against(candidate: Session, baseline: Session) -> Record:
    """Return the record of two pipelines that were measured in turns."""
    first, second = candidate.record(), baseline.record()
    try:
        comparison = compare(second, first, paired=True)
    except InputError:  # too few images, which the record shows
        comparison = None
    return replace(first, against=Rival(record=second, comparison=comparison))
