# SPDX-License-Identifier: Apache-2.0
"""Figures of a benchmark: distributions of times, the floor and the search for a rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """A percentile and its interval, all null if there were not enough runs.

    Args:
        percent: Which percentile, 0 to 100.
        value: The percentile, in seconds.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
    """

    percent: float
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A distribution of times, in seconds.

    Args:
        count: Number of values, with those that are only known to be large.
        mean: Mean; null if a value is only known to be large.
        deviation: Standard deviation.
        smallest: Smallest value.
        largest: Largest value; null if it is not known.
        percentiles: Percentiles from the 50th to the 99.9th.
    """

    count: int
    mean: float | None
    deviation: float | None
    smallest: float | None
    largest: float | None
    percentiles: tuple[Percentile, ...]

    @property
    def median(self) -> float | None:
        """The median; None if there were not enough runs."""
        return self.percentile(50).value

    def percentile(self, percent: float) -> Percentile:
        """Return a percentile by its number, which is one of those that are always computed."""
        return next(one for one in self.percentiles if one.percent == percent)


@dataclass(frozen=True, kw_only=True)
class PartTimes:
    """The time from start to result by where it was spent; parts overlap with several in flight.

    Args:
        processing: The whole time from start to result.
        reading: Reading and decoding of the image file; null if files were read before the run.
        host: Work of the calling thread before the first and after the last work of the device.
        enqueue: Calls that enqueue the work, or send the request to a server.
        waiting_for_device: Time in which the calling thread waits for the work, or for the answer.
        device: Time in which at least one stream of the image works. On the CPU, streams are threads.
        copies: Copies between the memory of the CPU and that of the device.
        overlap: Sum of the work of all streams divided by ``device``, mean over the images: 1 if
            nothing overlaps.
    """

    processing: Distribution
    reading: Distribution | None
    host: Distribution | None
    enqueue: Distribution | None
    waiting_for_device: Distribution | None
    device: Distribution | None
    copies: Distribution | None
    overlap: float | None


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The scenario with a pipeline that does nothing, or with requests that ask for nothing.

    Args:
        rate: Mean number of arrivals per second; null without a schedule.
        latency: Time from the intended arrival to the result.
        share: Median of this latency divided by that of the benchmark.
    """

    rate: float | None
    latency: Distribution
    share: float | None


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """A rate that was tried in a search.

    Args:
        rate: Mean number of arrivals per second.
        images: Number of images that were finished; 0 if the rate was not measured.
        p99: 99th percentile of the latency; null if it is beyond all that was finished, or if there
            were not enough runs.
        low: Lower end of its interval.
        high: Upper end of its interval.
        held: Whether the bound was held; null if the time of the options is too short for the
            images that a 99th percentile needs, so that the rate was not measured.
    """

    rate: float
    images: int
    p99: float | None
    low: float | None
    high: float | None
    held: bool | None


@dataclass(frozen=True, kw_only=True)
class RateSearch:
    """The search for the highest rate whose 99th percentile stays below a bound.

    Args:
        bound: The bound, in seconds.
        rate: The highest rate that held it; null if none did.
        trials: All rates that were tried, in order.
        complete: Whether the search came to its end. If it did not, a higher rate may hold it.
    """

    bound: float
    rate: float | None
    trials: tuple[RateTrial, ...]
    complete: bool = True
