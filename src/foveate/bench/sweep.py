# SPDX-License-Identifier: Apache-2.0
"""A sweep: the accuracy of many configurations, and their times in turns with the default one."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from foveate import __version__
from foveate.bench.accuracy import measure_accuracy
from foveate.bench.benchmark import run_in_turns
from foveate.bench.machine import describe_machine, take_snapshot
from foveate.bench.options import BenchOptions
from foveate.bench.ratios import CompareOptions, ratio_of_images
from foveate.bench.session import OpenParts, Session, Target
from foveate.bench.sweep_record import (
    Configuration,
    DatasetResult,
    Failure,
    Figure,
    Point,
    SweepRecord,
    SweptDataset,
)
from foveate.bundle import Bundle
from foveate.errors import BackendError, FoveateError
from foveate.plain_text import printable
from foveate.runtime import Pipeline
from foveate.runtime.loading import open_parts
from foveate.system.resources import shortage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from foveate.bench.comparison import Ratio
    from foveate.bench.record import Input, Record
    from foveate.bench.sweep_options import SweepOptions
    from foveate.bundle import Manifest
    from foveate.evaluation import GroundTruth
    from foveate.progress import Progress

_PROPOSALS = 100  # per image, that average recall counts, also where fewer are refined
_JUDGED = ("AR@10", "AR@100", "AP")


class Sweep:
    """A sweep over the configurations of a bundle, and of further bundles of the same networks.

    Args:
        target: What is measured; its options are not used.
        datasets: Ground truth by the name of the data set.
        options: Options of the sweep.
        variants: Further bundles, such as the same one in another precision.
        open_with: Opens the device and the engines.
        progress: Called with the progress of each part.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        OptionError: A value lies outside its range, or the bundle has no such levels.
    """

    def __init__(
        self,
        target: Target,
        datasets: Mapping[str, GroundTruth],
        options: SweepOptions,
        *,
        variants: Sequence[str] = (),
        open_with: OpenParts = open_parts,
        progress: Progress,
    ) -> None:
        self._options, self._datasets = options, datasets
        self._open_with, self._progress = open_with, progress
        self._target = target
        self._bundle = Bundle.open(target.bundle)
        self._plan = self._planned(variants)
        self._files = {name: _spread(truth, options.timed) for name, truth in datasets.items()}
        self._points: list[Point] = []
        self._failed: list[Failure] = []
        self._sample: Record | None = None  # of the last candidate
        self._before = take_snapshot()

    def run(self, keep: Callable[[SweepRecord], None]) -> None:
        """Measure all configurations, the default one first.

        A configuration that fails, for example because memory runs out, is recorded with the reason.

        Args:
            keep: Called with the record so far after each configuration.

        Raises:
            FoveateError: The default configuration fails.
        """
        for number, (target, bundle) in enumerate(self._plan, 1):
            progress = self._named(f"Configuration {number} of {len(self._plan)}")
            try:
                self._points.append(self._measure(target, bundle, progress))
            except Exception as error:
                reason = _reason(error)
                if number == 1 or reason is None:  # without the default one, no time is relative
                    raise
                configuration = _describe(target, bundle.manifest)
                self._failed.append(Failure(configuration=configuration, reason=reason))
            keep(self.record())

    def record(self) -> SweepRecord:
        """Return the record of the configurations measured so far."""
        sample = self._sample
        subject = None if sample is None else sample.subject
        return SweepRecord(
            foveate=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            interrupted=len(self._points) + len(self._failed) < len(self._plan),
            planned=len(self._plan),
            bundle=self._bundle.manifest.name,
            digest=networks_digest(self._bundle.manifest),
            device=(subject and subject.device) or self._target.device,
            backend=(subject and subject.backend) or self._target.backend,
            versions={} if subject is None else subject.versions,
            scenario=self._options.scenario,
            turns=self._options.turns,
            confidence=CompareOptions().confidence,
            datasets=self._described_datasets(),
            machine=describe_machine(
                self._before, take_snapshot(), gpu=None if sample is None else sample.machine.gpu
            ),
            points=with_fronts(self._points),
            failed=tuple(self._failed),
        )

    def _planned(self, variants: Sequence[str]) -> list[tuple[Target, Bundle]]:
        """Return all configurations with their bundles, the default one first."""
        default = replace(self._target, options=self._options.default)
        same = _describe(default, self._bundle.manifest)
        plan = [(default, self._bundle)]
        for name in (self._target.bundle, *variants):
            bundle = self._bundle if name == self._target.bundle else Bundle.open(name)
            for options in self._options.configurations(bundle.manifest):
                target = replace(self._target, bundle=name, options=options)
                if _describe(target, bundle.manifest) != same:
                    plan.append((target, bundle))
        return plan

    def _measure(self, target: Target, bundle: Bundle, progress: Progress) -> Point:
        """Measure a configuration; the first one is the default, whose relative time is 1."""
        reports = self._measure_accuracy(target, bundle, progress)
        ratios = self._measure_time(target, progress) if self._points else {}
        return Point(
            configuration=_describe(target, bundle.manifest),
            time=ratios.get(""),
            datasets={
                name: DatasetResult(figures=figures, time=ratios.get(name))
                for name, figures in reports.items()
            },
        )

    def _measure_accuracy(
        self, target: Target, bundle: Bundle, progress: Progress
    ) -> dict[str, dict[str, Figure]]:
        """Return the figures of accuracy of a configuration by the name of the data set."""
        options = replace(target.options, score_threshold=0.0)
        device, engines = self._open_with(bundle, target.device, target.backend, options)
        found = {}
        with Pipeline(bundle, engines, device=device, options=options) as pipeline:
            for name, truth in self._datasets.items():
                reports = measure_accuracy(
                    pipeline, truth, most=_PROPOSALS, backend=target.backend, progress=progress
                )
                found[name] = _figures(reports)
        return found

    def _measure_time(self, target: Target, progress: Progress) -> dict[str, Ratio]:
        """Return the relative times by the name of the data set, and that of all images as ""."""
        files = [file for group in self._files.values() for file in group]
        options = BenchOptions(scenario=self._options.scenario, warm_up=0.0)
        default, _ = self._plan[0]
        with (
            closing(Session(target, files, options, open_with=self._open_with)) as candidate,
            closing(Session(default, files, options, open_with=self._open_with)) as baseline,
        ):
            progress("Timing", 0, 1)
            run_in_turns(
                candidate.benchmark, baseline.benchmark, len(files), turns=self._options.turns
            )
            progress("Timing", 1, 1)
            records = baseline.record(), candidate.record()
        self._sample = records[1]
        groups = {"": range(len(files)), **self._places()}
        return {
            name: ratio_of_images(*records, CompareOptions(), places)
            for name, places in groups.items()
        }

    def _places(self) -> dict[str, range]:
        """Return the indices of the timed images of each data set."""
        places, start = {}, 0
        for name, group in self._files.items():
            places[name] = range(start, start + len(group))
            start += len(group)
        return places

    def _described_datasets(self) -> dict[str, SweptDataset]:
        inputs: tuple[Input, ...] = () if self._sample is None else self._sample.inputs
        places = self._places()
        return {
            name: SweptDataset(
                images=len(truth.images),
                objects=len(truth.objects),
                timed=tuple(inputs[index] for index in places[name] if index < len(inputs)),
            )
            for name, truth in self._datasets.items()
        }

    def _named(self, prefix: str) -> Progress:
        """Return a progress whose tasks have a prefix, so that each configuration has its own."""

        def progress(
            task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
        ) -> None:
            self._progress(f"{prefix}, {task.lower()}", done, total, figures)

        return progress


def networks_digest(manifest: Manifest) -> str:
    """Return the SHA-256 of the parts of a manifest that describe the networks and their use.

    Presets, provenance and documents such as a model card are left out, since they change neither.
    """
    files = {name: one for name, one in manifest.files.items() if not name.endswith(".md")}
    bare = replace(manifest, presets={}, provenance={}, files=files)
    return hashlib.sha256(bare.to_json().encode()).hexdigest()


def _reason(error: Exception) -> str | None:
    """Return why a configuration failed, on one line; None for an error that is a bug."""
    known = error if isinstance(error, BackendError) else shortage(error) or error
    return printable(str(known)) if isinstance(known, FoveateError) else None


def _describe(target: Target, manifest: Manifest) -> Configuration:
    applied = target.options.applied_to(manifest)
    return Configuration(
        bundle=target.bundle,
        precision={name: manifest.precision_of(name) for name in manifest.networks},
        scales=applied.pyramid.scales,
        top_k=applied.select.top_k,
        max_side=applied.pyramid.max_side,
        window_nms_iou=applied.select.window_nms_iou,
        threads=target.options.threads,
        max_in_flight=target.options.max_in_flight,
    )


def _spread(truth: GroundTruth, count: int) -> list[Path]:
    """Return the files of some images of a data set, evenly spread over it."""
    total = len(truth.images)
    kept = min(count, total)
    return [truth.images[(2 * index + 1) * total // (2 * kept)].path for index in range(kept)]


def _figures(reports: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of both tasks, without those of single classes.

    The recall of detections has the same name as that of the proposals, which replaces it.
    """
    found = {}
    for task in ("detections", "proposals"):
        for name, figure in reports.get(task, {"figures": {}})["figures"].items():
            if "class " not in name:
                found[name] = Figure(**figure)
    return found


def with_fronts(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points with the figures in which each is on the Pareto front of its data set."""

    def best_in(point: Point, dataset: str) -> tuple[str, ...]:
        results = [one.datasets[dataset] for one in points]
        return tuple(
            name for name in _JUDGED if _is_on_front(point.datasets[dataset], results, name)
        )

    return tuple(
        replace(
            point,
            datasets={
                name: replace(result, best_in=best_in(point, name))
                for name, result in point.datasets.items()
            },
        )
        for point in points
    )


def _is_on_front(result: DatasetResult, results: Sequence[DatasetResult], name: str) -> bool:
    """Return whether no result is as fast and as good in a figure, and better in one of both."""
    time, value = result.relative_time, result.value(name)
    others = [(other.relative_time, other.value(name)) for other in results]
    return value is not None and not any(
        good is not None and fast <= time and good >= value and (fast, good) != (time, value)
        for fast, good in others
    )
