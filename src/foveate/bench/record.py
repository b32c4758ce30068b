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
from foveate.bench.machine import Machine
from foveate.bench.samples import Samples, Span, Tails
from foveate.protocol.client import ModelMetadata, ServerMetadata

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server that was measured, and what was sent to it.

    Args:
        url: Where it listens.
        metadata: What it says about itself.
        model: What it says about the model.
        input: Name of the input that took the images: "image" for pixels, "encoded" for files.
        outputs: Names of the outputs that were requested.
        binary: Whether tensors were sent as bytes, and not as JSON.
        timeout: Seconds for which it might send nothing while it was waited for.
    """

    url: str
    metadata: ServerMetadata
    model: ModelMetadata
    input: str
    outputs: tuple[str, ...]
    binary: bool
    timeout: float


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was measured.

    Args:
        bundle: Name of the bundle, or of the model of a server.
        digest: SHA-256 of its manifest, which lists the digests of all its files.
        device: Name of the device that ran the operations between the networks.
        backend: Name of the backend that ran the networks.
        precision: Precision of each network, by stage.
        threads: Number of threads per network; null for the default of the backend.
        options: Options of the pipeline that differ from their defaults.
        versions: Versions of the libraries that took part, by name.
        server: The server that was measured; null for a pipeline in this process.
    """

    bundle: str
    digest: str | None
    device: str | None
    backend: str | None
    precision: dict[str, str]
    threads: int | None
    options: dict[str, Any]
    versions: dict[str, str]
    server: Server | None = None

    @property
    def label(self) -> str:
        """What was measured, in a few words."""
        if self.server is not None:
            return f"{self.bundle} of {self.server.metadata.name} at {self.server.url}"
        text = f"{self.bundle} {'/'.join(sorted(set(self.precision.values())))}"
        text += f", {self.backend} on {self.device}"
        if self.threads is not None:
            text += f", {self.threads} thread{'' if self.threads == 1 else 's'}"
        return text + (f", preset {self.options['preset']}" if "preset" in self.options else "")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How images were sent to the pipeline, and when the run was to end.

    Args:
        name: "single-stream", "offline" or "server".
        seconds: Longest time of the measurement, without warm-up and floor; in a search for a rate,
            longest time in which the images of a rate arrive, or null for no limit.
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
    seconds: float | None
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
    levels: int | None
    windows: int | None
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the run went.

    Args:
        images: Number of images measured, without warm-up.
        warm_up: Number of images of the warm-up.
        unstarted: Number of images whose arrival was due and that were never started, because the
            time was over, or they had missed the bound. They count as slower than all others.
        refused: Number of images that the server refused because it had too many. They are in no
            figure of the latency.
        elapsed: Time from the first arrival to the last result.
        throughput: Images per second, in its own turns if there was another pipeline; null if no
            image was finished.
        stopped: What ended the run: "stable", "seconds", "count" or "interrupted".
        rate_held: Whether the pipeline kept up with the arrivals; null without a schedule.
        load: Time to load the bundle and to open the networks.
        first: Latency of the first image after loading.
    """

    images: int
    warm_up: int
    unstarted: int
    refused: int
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
        copied_to_device: Bytes copied to the device, or sent to the server, per image; null where
            nothing is copied.
        copied_from_device: Bytes copied from the device, or received from the server, per image.
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
        refusals: Time from the start to the refusal of a server, by its status of HTTP.
        parts: The time from the start to the result by where it was spent.
        stages: Time of each network per image, by stage; empty where it was not measured.
        operations: Time of each operation between the networks per image, by name.
        resources: Memory, copies and energy.
        floor: The same scenario with a pipeline that does nothing, or with requests that ask a
            server whether it lives; null if it was not run.
        search: The search for the highest rate that holds the bound; null if there was none.
        tails: The slowest images, and what they have in common.
        timeline: Work of a few consecutive images on their streams, times from the first start.
        samples: The raw values.
        unmeasured: Why figures are null, by their places in the record, where that is not obvious.
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
    refusals: dict[str, Distribution]
    parts: PartTimes
    stages: dict[str, Distribution]
    operations: dict[str, Distribution]
    resources: Resources
    floor: Floor | None
    search: RateSearch | None
    tails: Tails
    timeline: tuple[Span, ...]
    samples: Samples
    unmeasured: dict[str, str]
    accuracy: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None
    advice: tuple[Advice, ...] | None = None
    against: Rival | None = None
