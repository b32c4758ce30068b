# SPDX-License-Identifier: Apache-2.0
"""The raw values of a benchmark, one entry per image, and the traces of some images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The raw values as columns, one entry per image, in the order of the results.

    Times of arrival, start and end are seconds since the first arrival, so that those of the
    warm-up are negative. All other times are durations.

    Args:
        input: Index of the image in the inputs.
        warm_up: Whether the image belongs to the warm-up.
        worker: Number of the thread that processed it.
        block: Number of the turn in a measurement against another pipeline; null in any other one.
        arrival: Intended arrival.
        start: Start of the processing.
        end: Time of the result.
        reading: Time of reading the file.
        host: Time of the calling thread before and after the work of the device.
        enqueue: Time of the calls that enqueue the work.
        device: Time in which at least one stream of the image works.
        copies: Time of the copies between the memory of the CPU and that of the device.
        switches: Number of involuntary context switches of the process since the previous result.
        stages: Time of each network, by stage.
        operations: Time of each operation between the networks, by name.
    """

    input: tuple[int, ...]
    warm_up: tuple[bool, ...]
    worker: tuple[int, ...]
    block: tuple[int | None, ...]
    arrival: tuple[float, ...]
    start: tuple[float, ...]
    end: tuple[float, ...]
    reading: tuple[float | None, ...]
    host: tuple[float | None, ...]
    enqueue: tuple[float | None, ...]
    device: tuple[float | None, ...]
    copies: tuple[float | None, ...]
    switches: tuple[int | None, ...]
    stages: dict[str, tuple[float | None, ...]]
    operations: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Work on one track.

    Args:
        sample: Index of the image in the samples.
        track: Name of the stream or thread, such as "slot 0, stream 1" or "worker 0".
        kind: "network", "operation", "copy", "read", "enqueue" or "wait".
        name: Name of the stage or operation.
        start: Time from the earliest start of an image of the list, in seconds.
        duration: Duration in seconds.
    """

    sample: int
    track: str
    kind: str
    name: str
    start: float
    duration: float


@dataclass(frozen=True, kw_only=True)
class Tail:
    """One of the slowest images.

    Args:
        sample: Index in the samples.
        input: Index of the image in the inputs.
        latency: Time from the intended arrival to the result.
        excess: What each part took beyond its median, by name, the largest first.
        trace: Its work, times from its start.
    """

    sample: int
    input: int
    latency: float
    excess: dict[str, float]
    trace: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class Trait:
    """A property that is more frequent among the slowest images than among all.

    Args:
        text: The property, in words.
        tail_share: Its share among the slowest images, 0 to 1.
        share: Its share among all images.
    """

    text: str
    tail_share: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Tails:
    """The slowest images, the slowest first, and what they have in common.

    Args:
        slowest: At most ten images.
        common: Their common properties.
        excess: Share of each part in the time that they took beyond the median, the largest first.
    """

    slowest: tuple[Tail, ...]
    common: tuple[Trait, ...]
    excess: dict[str, float]
