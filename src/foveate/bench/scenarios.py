# SPDX-License-Identifier: Apache-2.0
"""The scenarios: when an image is sent, and from when its latency counts."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from foveate.protocol.client import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from foveate.tracing.clock import Clock
    from foveate.tracing.image_trace import ImageTrace

# Receives each sample, and returns whether the run goes on.
Take: TypeAlias = "Callable[[Sample], bool]"
# Seconds until the next request after one that was refused, if the server does not say how many,
# and the longest pause, whatever it asks for.
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
    """A system that has several images in flight by itself."""

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
    _run_threads(_ClosedLoop(system, clock, indices, take), workers)


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
    and none is started later. This ends as soon as ``take`` returns False.

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
    run = _ServerRun(system, clock, zip(indices, arrivals, strict=False), take, seconds)
    _run_threads(run, workers)
    return run.unstarted


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


def _run_threads(run: _ServerRun | _ClosedLoop, workers: int) -> None:
    """Run threads until the run is over, and raise the error of the first that failed."""
    threads = [threading.Thread(target=run.work, args=(n,), daemon=True) for n in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        run.going = False
    if run.error is not None:
        raise run.error


class _ClosedLoop:
    """The state that the threads of a closed loop share."""

    def __init__(self, system: System, clock: Clock, indices: Iterable[int], take: Take) -> None:
        self.going = True
        self.error: BaseException | None = None
        self._system, self._clock, self._take = system, clock, take
        self._indices = iter(indices)
        self._lock = threading.Lock()

    def work(self, worker: int) -> None:
        """Process one image after the other until the images or the run are over."""
        try:
            while (index := self._claim()) is not None:
                sample = _process(self._system, self._clock, index, worker=worker)
                with self._lock:
                    self.going = self._take(sample) and self.going
                if self.going:
                    self._clock.sleep_until(sample.end + sample.pause)
        except BaseException as error:  # noqa: BLE001 - the thread that started this one raises it
            self.error, self.going = error, False

    def _claim(self) -> int | None:
        with self._lock:
            return next(self._indices, None) if self.going else None


class _ServerRun:
    """The state that the threads of a run share."""

    def __init__(
        self,
        system: System,
        clock: Clock,
        schedule: Iterable[tuple[int, float]],
        take: Take,
        seconds: float,
    ) -> None:
        self.going = True
        self.unstarted = 0
        self.error: BaseException | None = None
        self._system, self._clock, self._take = system, clock, take
        self._schedule = iter(schedule)
        self._seconds = seconds
        self._begin = clock.now()
        self._lock = threading.Lock()

    def work(self, worker: int) -> None:
        """Process one image after the other until the schedule or the run is over."""
        try:
            while (claimed := self._claim()) is not None:
                index, arrival = claimed
                self._clock.sleep_until(arrival)
                sample = _process(self._system, self._clock, index, worker=worker, arrival=arrival)
                with self._lock:
                    self.going = self.going and self._take(sample)
        except BaseException as error:  # noqa: BLE001 - the thread that started this one raises it
            self.error, self.going = error, False

    def _claim(self) -> tuple[int, float] | None:
        """Return the next image and its arrival; None if there is none to be started any more."""
        with self._lock:
            if not self.going:
                return None
            over = self._clock.now() >= self._begin + self._seconds
            for index, moment in self._schedule:
                if moment >= self._seconds:
                    break
                if not over:
                    return index, self._begin + moment
                self.unstarted += 1
            self._schedule = iter(())
            return None
