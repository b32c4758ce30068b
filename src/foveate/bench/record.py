# SPDX-License-Identifier: Apache-2.0
"""The record of a benchmark: everything that was measured, as one JSON document.

Times are in seconds. A figure that was not measured is null, never 0. The table, the comparison and
other reports are made from this record alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from foveate.bench.advice import Advice
from foveate.bench.comparison import Comparison
from foveate.bench.figures import Distribution, Floor, PartTimes, RateSearch
from foveate.bench.machine_record import Machine
from foveate.bench.samples import Samples, Span, Tails

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was measured.

    Args:
        bundle: Name of the bundle.
        digest: SHA-256 of its manifest, which lists the digests of all its files.
        device: Name of the device that ran the operations between the networks.
        backend: Name of the backend that ran the networks.
        precision: Precision of each network, by stage.
        threads: Number of threads per network; null for the default of the backend.
        options: Options of the pipeline that differ from their defaults.
        versions: Versions of the libraries that took part, by name.
    """

    bundle: str
    digest: str
    device: str
    backend: str
    precision: dict[str, str]
    threads: int | None
    options: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How images were sent to the pipeline, and when the run was to end.

    Args:
        name: "single-stream", "offline" or "server".
        seconds: Longest time of the measurement, without warm-up and floor.
        count: Number of images that ended the measurement; null if time or percentile did.
        warm_up: Shortest time of the warm-up.
        percentile: Percentile of the latency whose interval ends the run when it is narrow.
        tolerance: Width of that interval, as a share of the percentile, that counts as narrow.
        rate: Mean number of arrivals per second; null without a schedule.
        p99: Bound of the 99th percentile of the latency in a search for the highest rate.
        seed: Seed of the schedule.
        in_flight: Number of images that are processed at a time.
        decoding: Whether the latency includes the reading of image files.
    """

    name: str
    seconds: float
    count: int | None
    warm_up: float
    percentile: float
    tolerance: float
    rate: float | None
    p99: float | None
    seed: int
    in_flight: int
    decoding: bool


@dataclass(frozen=True, kw_only=True)
class Input:
    """An image of the run.

    Args:
        name: Name of its file, without directories.
        width: Width in pixels.
        height: Height in pixels.
        levels: Number of levels of its pyramid.
        windows: Number of windows that are scored.
        sha256: SHA-256 of the file.
    """

    name: str
    width: int
    height: int
    levels: int
    windows: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the run went.

    Args:
        images: Number of images measured, without warm-up.
        warm_up: Number of images of the warm-up.
        unstarted: Number of images whose arrival was due and that were never started, because the
            time was over. They count as slower than all others.
        elapsed: Time from the first arrival to the last result.
        throughput: Images per second; null if none was finished.
        stopped: What ended the run: "stable", "seconds", "count" or "interrupted".
        rate_held: Whether the pipeline kept up with the arrivals; null without a schedule.
        load: Time to load the bundle and to open the networks.
        first: Latency of the first image after loading.
    """

    images: int
    warm_up: int
    unstarted: int
    elapsed: float
    throughput: float | None
    stopped: str
    rate_held: bool | None
    load: float | None
    first: float | None


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the run took.

    Args:
        peak_resident_bytes: Largest resident size of the process, with the images in its memory.
        device_bytes: Memory of the device that was taken after the networks were opened; null where
            it is that of the process.
        copied_to_device: Bytes copied to the device per image; null where nothing is copied.
        copied_from_device: Bytes copied from the device per image.
        joules_per_image: Energy per image.
        energy_counter: Name of the counter of that energy; null where there is none.
        processor_seconds: Processor time of the process per image, of all its threads.
    """

    peak_resident_bytes: int | None
    device_bytes: int | None
    copied_to_device: float | None
    copied_from_device: float | None
    joules_per_image: float | None
    energy_counter: str | None
    processor_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Rival:
    """Another pipeline that was measured in turns with this one, and how the two compare.

    Args:
        record: Its record.
        comparison: The comparison, with the rival as the baseline; null if there were not enough
            images for one.
    """

    record: Record
    comparison: Comparison | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that a benchmark measured.

    Args:
        schema: Version of this format.
        foveate: Version of Foveate.
        created: Time of the end of the run, UTC, in ISO 8601.
        interrupted: Whether the run was interrupted, so that the figures are those of a part of it.
        subject: What was measured.
        scenario: How images were sent.
        inputs: The images; ``samples.input`` has indices into this list.
        machine: State of the machine, and whether the figures are fit to be published.
        outcome: How the run went.
        latency: Time from the intended arrival to the result.
        waiting: Time from the intended arrival to the start.
        parts: The time from the start to the result by where it was spent.
        stages: Time of each network per image, by stage; empty where it was not measured.
        operations: Time of each operation between the networks per image, by name.
        resources: Memory, copies and energy.
        floor: The same scenario with a pipeline that does nothing; null if it was not run.
        search: The search for the highest rate that holds the bound; null if there was none.
        tails: The slowest images, and what they have in common.
        timeline: Work of a few consecutive images on their streams, times from the first start.
        samples: The raw values.
        accuracy: Average recall and precision of this configuration, as ``foveate evaluate --json``
            writes them; null without a data set.
        limits: Ceilings of the machine and the ratios reached; null if they were not measured.
        advice: What bounds the pipeline and what to try; null if it was not derived.
        against: Another pipeline that was measured in turns with this one.
    """

    schema: int = SCHEMA
    foveate: str
    created: str
    interrupted: bool
    subject: Subject
    scenario: Scenario
    inputs: tuple[Input, ...]
    machine: Machine
    outcome: Outcome
    latency: Distribution
    waiting: Distribution
    parts: PartTimes
    stages: dict[str, Distribution]
    operations: dict[str, Distribution]
    resources: Resources
    floor: Floor | None
    search: RateSearch | None
    tails: Tails
    timeline: tuple[Span, ...]
    samples: Samples
    accuracy: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None
    advice: tuple[Advice, ...] | None = None
    against: Rival | None = None
