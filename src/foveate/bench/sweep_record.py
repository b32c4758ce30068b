# SPDX-License-Identifier: Apache-2.0
"""The record of a sweep: the accuracy and the relative time of many configurations.

Times are in seconds, and relative times are those of a configuration divided by those of the
default one. A figure that was not measured, or that has no objects, is null.
"""

from __future__ import annotations

from dataclasses import dataclass

from foveate.bench.comparison import Ratio
from foveate.bench.machine import Machine
from foveate.bench.record import Input

SWEEP_SCHEMA = 1
FIGURES = ("AR@10", "AR@100", "AR@100, small", "AR@100, medium", "AR@100, large", "AP")
"""Figures of accuracy that reports of a sweep and presets contain, without their region."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What distinguishes a measured pipeline from the others.

    Args:
        bundle: Name of the bundle, or its directory.
        precision: Precision of each network, by stage.
        scales: Scales of the levels of the pyramid.
        top_k: Number of windows that are refined.
        max_side: Longer side of the working image in pixels.
        window_nms_iou: Overlap of two windows above which the lower one is dropped.
        threads: Number of threads per network; null for the default of the backend.
        max_in_flight: Number of images that are processed at a time in the scenario "offline".
    """

    bundle: str
    precision: dict[str, str]
    scales: tuple[float, ...]
    top_k: int
    max_side: int
    window_nms_iou: float
    threads: int | None
    max_in_flight: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of accuracy and its 95 % interval.

    Args:
        value: The figure; null if there are no such objects.
        low: Lower end of its interval.
        high: Upper end of its interval.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class DatasetResult:
    """What was measured of a configuration on one data set.

    Args:
        figures: Figures of accuracy by the names of ``foveate evaluate``, such as "mask AR@100".
        time: Relative time of the images of this data set; null for the default configuration.
        best_in: Names of the figures in which no configuration that is as fast is better: those
            whose Pareto front against the relative time has this configuration.
    """

    figures: dict[str, Figure]
    time: Ratio | None
    best_in: tuple[str, ...] = ()

    @property
    def relative_time(self) -> float:
        """The relative time, which is 1 for the default configuration."""
        return 1.0 if self.time is None else self.time.value

    @property
    def region(self) -> str:
        """The region of the figures that count: "box" in a data set without masks, else "mask"."""
        return "mask" if "mask AR@100" in self.figures else "box"

    def value(self, name: str) -> float | None:
        """Return the value of a figure such as "AR@100", or None if it was not measured."""
        figure = self.figures.get(f"{self.region} {name}")
        return None if figure is None else figure.value


@dataclass(frozen=True, kw_only=True)
class Point:
    """A configuration and what was measured of it.

    Args:
        configuration: The configuration.
        time: Relative time of all images that were timed, measured in turns with the default
            configuration; null for that one.
        datasets: What was measured on each data set, by name.
    """

    configuration: Configuration
    time: Ratio | None
    datasets: dict[str, DatasetResult]

    @property
    def relative_time(self) -> float:
        """The relative time, which is 1 for the default configuration."""
        return 1.0 if self.time is None else self.time.value


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A configuration that could not be measured, while others could.

    Args:
        configuration: The configuration.
        reason: What failed and what to do, on one line.
    """

    configuration: Configuration
    reason: str


@dataclass(frozen=True, kw_only=True)
class SweptDataset:
    """A data set of a sweep.

    Args:
        images: Number of images by which the accuracy was measured.
        objects: Number of objects in them.
        timed: The images that were timed.
    """

    images: int
    objects: int
    timed: tuple[Input, ...]


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """Everything that a sweep measured.

    Args:
        schema: Version of this format.
        foveate: Version of Foveate.
        created: Time of the end of the run, UTC, in ISO 8601.
        interrupted: Whether the run did not end, so that configurations are missing.
        planned: Number of configurations that were to be measured.
        bundle: Name of the bundle.
        digest: SHA-256 of its manifest without presets, provenance and documents.
        device: Name of the device.
        backend: Name of the backend, as it was given.
        versions: Versions of the libraries that took part, by name.
        scenario: "single-stream" or "offline".
        turns: Number of turns of each configuration and of the default one.
        confidence: Confidence of the intervals of relative times.
        datasets: The data sets by name.
        machine: State of the machine, and whether the figures are fit to be published.
        points: The measured configurations, of which the first one is the default.
        failed: The configurations that could not be measured.
    """

    schema: int = SWEEP_SCHEMA
    foveate: str
    created: str
    interrupted: bool
    planned: int
    bundle: str
    digest: str
    device: str
    backend: str
    versions: dict[str, str]
    scenario: str
    turns: int
    confidence: float
    datasets: dict[str, SweptDataset]
    machine: Machine
    points: tuple[Point, ...]
    failed: tuple[Failure, ...] = ()
