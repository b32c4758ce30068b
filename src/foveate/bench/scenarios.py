# SPDX-License-Identifier: Apache-2.0
"""The scenarios: when an image is sent, and from when its latency counts."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from foveate.protocol.client import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from foveate.tracing.clock import Clock
    from foveate.tracing.image_trace import ImageTrace

# Receives each sample, and returns whether the run goes on.
Take: TypeAlias = "Callable[[Sample], bool]"
# Seconds until the next request after a refusal that has no Retry-After, and the longest pause
# where it has one.
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class System(Protocol):
    """What is measured."""

    def run(self, index: int) -> ImageTrace | None:
        """Process an image, and return when its result is there. Several threads may call this.

        Returns:
            What was recorded of it; None for a system that records nothing.

        Raises:
            BusyError: The system refused the image because it has too many.
        """

    def close(self) -> None:
        """Release the system."""


@runtime_checkable
class StreamingSystem(System, Protocol):
    """A system that keeps several images in flight itself."""

    def stream(self, indices: Iterable[int]) -> Iterator[ImageTrace | None]:
        """Process images in order with several in flight; yield what was recorded of each one."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One processed image; all times are those of the clock.

    Args:
        index: Index of the image.
        worker: Number of the thread that processed it.
        arrival: Intended arrival, from which the latency counts.
        start: Start of the processing.
        end: Time of the result.
        trace: What was recorded.
        refused: Status with which a server refused the image; None if there is a result.
        pause: Seconds to wait before the next image, after one that was refused.
    """

    index: int
    worker: int
    arrival: float
    start: float
    end: float
    trace: ImageTrace | None
    refused: int | None = None
    pause: float = 0.0

    @property
    def latency(self) -> float:
        """Time from the intended arrival to the result."""
        return self.end - self.arrival


def run_single_stream(system: System, clock: Clock, indices: Iterable[int], take: Take) -> None:
    """Send each image when the result of the last one is there, until ``take`` ends the run."""
    for index in indices:
        sample = _process(system, clock, index)
        if not take(sample):
            return
        clock.sleep_until(sample.end + sample.pause)


def run_closed_loop(
    system: System, clock: Clock, indices: Iterable[int], take: Take, *, workers: int
) -> None:
    """Send images by threads that each send one when the result of their last one is there.

    The latency of an image counts from its start. Images that are in flight when ``take`` ends the
    run are finished and taken as well. ``take`` is called by one thread at a time, in the order of
    the results.
    """
    images = ((index, None) for index in indices)
    _Run(system, clock, images, take).run(workers)


def run_offline(system: StreamingSystem, clock: Clock, indices: Iterable[int], take: Take) -> None:
    """Send each image as soon as the pipeline has room, until ``take`` ends the run.

    All images are ready, so that the arrival of an image is the moment when the pipeline takes it.
    Those in flight at the end are finished and taken as well.
    """
    started: deque[tuple[int, float]] = deque()
    going = True

    def images() -> Iterator[int]:
        for index in indices:
            if not going:
                return
            started.append((index, clock.now()))
            yield index

    for trace in system.stream(images()):
        end = clock.now()
        index, start = started.popleft()
        sample = Sample(index=index, worker=0, arrival=start, start=start, end=end, trace=trace)
        going = take(sample) and going


def run_server(
    system: System,
    clock: Clock,
    indices: Iterable[int],
    arrivals: Iterable[float],
    take: Take,
    *,
    workers: int,
    seconds: float,
) -> int:
    """Send images at their arrivals, by threads that each process one image at a time.

    An image that arrives while all threads are busy waits, in the order of arrival, and the latency
    counts from its arrival all the same. Images that arrive later than ``seconds`` are not sent,
    and none is started later, nor after ``take`` has returned False.

    Args:
        system: What is measured.
        clock: Clock of all times.
        indices: Index of each image.
        arrivals: Intended arrivals, in seconds from the start, increasing.
        take: Called with each sample by one thread at a time, in the order of the results.
        workers: Number of threads.
        seconds: Length of the schedule.

    Returns:
        Number of images that arrived in that time and were never started.
    """
    begin, unstarted = clock.now(), 0

    def schedule() -> Iterator[tuple[int, float]]:
        nonlocal unstarted
        for index, moment in zip(indices, arrivals, strict=False):
            if moment >= seconds:
                return
            if clock.now() >= begin + seconds:
                unstarted += 1
            else:
                yield index, begin + moment

    _Run(system, clock, schedule(), take).run(workers)
    return unstarted


def poisson_arrivals(rate: float, seed: int) -> Iterator[float]:
    """Yield the moments of a Poisson process, in seconds from its start, without end.

    It has ``rate`` arrivals per second on average; the same seed gives the same moments.
    """
    generator = np.random.default_rng(seed)
    moment = 0.0
    while True:
        moment += float(generator.exponential(1 / rate))
        yield moment


def last_arrival(rate: float, seed: int, count: int) -> float:
    """Return the moment of the last one of ``count`` arrivals, in seconds from the start."""
    return next(islice(poisson_arrivals(rate, seed), count - 1, None))


def _process(
    system: System, clock: Clock, index: int, *, worker: int = 0, arrival: float | None = None
) -> Sample:
    """Process an image; by default, its latency counts from the start."""
    start, refused, pause = clock.now(), None, 0.0
    try:
        trace = system.run(index)
    except BusyError as busy:
        trace, refused = None, busy.status
        pause = _PAUSE if busy.retry_after is None else min(busy.retry_after, _LONGEST_PAUSE)
    return Sample(
        index=index,
        worker=worker,
        arrival=start if arrival is None else arrival,
        start=start,
        end=clock.now(),
        trace=trace,
        refused=refused,
        pause=pause,
    )


class _Run:
    """The state that the threads of a run share.

    Args:
        system: What is measured.
        clock: Clock of all times.
        images: Index and intended arrival of each image; with None for the arrival, an image is
            sent when the thread has the result of its last one.
        take: Receives the samples.
    """

    def __init__(
        self, system: System, clock: Clock, images: Iterator[tuple[int, float | None]], take: Take
    ) -> None:
        self._error: BaseException | None = None
        self._system, self._clock, self._images, self._take = system, clock, images, take
        self._going = True
        self._lock = threading.Lock()

    def run(self, workers: int) -> None:
        """Run threads until the run is over, and raise the error that came first."""
        threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(workers)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # such as an interruption, which only this thread sees
            self._stop(error)
            raise
        if self._error is not None:
            raise self._error

    def _work(self, worker: int) -> None:
        """Process one image after the other until the images or the run are over."""
        try:
            while (claimed := self._claim()) is not None:
                index, arrival = claimed
                if arrival is not None:
                    self._clock.sleep_until(arrival)
                sample = _process(self._system, self._clock, index, worker=worker, arrival=arrival)
                with self._lock:
                    if self._error is None:
                        self._going = self._take(sample) and self._going
                if arrival is None and self._going:
                    self._clock.sleep_until(sample.end + sample.pause)
        except BaseException as error:  # noqa: BLE001 - the thread that started this one raises it
            self._stop(error)

    def _stop(self, error: BaseException) -> None:
        """End the run; no sample is taken any more. Later errors follow from the first one."""
        with self._lock:
            self._going = False
            if self._error is None:
                self._error = error

    def _claim(self) -> tuple[int, float | None] | None:
        """Return the next image and its arrival; None if none is to be started any more."""
        with self._lock:
            return next(self._images, None) if self._going else None
