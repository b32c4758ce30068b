# SPDX-License-Identifier: Apache-2.0
"""The scenarios on a simulated clock, where every latency is known."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterable
from typing import NoReturn

import numpy as np
import pytest
from tests.bench.simulated import SimulatedClock, SimulatedSystem, noisy

from foveate.bench.scenarios import (
    Sample,
    last_arrival,
    poisson_arrivals,
    run_closed_loop,
    run_offline,
    run_server,
    run_single_stream,
)
from foveate.protocol.client import BusyError
from foveate.tracing.clock import SystemClock


def taking(count: int = 10**9) -> tuple[list[Sample], Callable[[Sample], bool]]:
    """A list of samples, and a function that adds to it until it has a number of them."""
    samples: list[Sample] = []

    def take(sample: Sample) -> bool:
        samples.append(sample)
        return len(samples) < count

    return samples, take


class SimulatedServer:
    """A server that takes a known time for each image, or refuses it at once."""

    def __init__(self, clock: SimulatedClock, answers: Iterable[float | BusyError]) -> None:
        self._clock, self._answers = clock, iter(answers)

    def run(self, index: int) -> None:
        del index
        answer = next(self._answers)
        if isinstance(answer, BusyError):
            raise answer
        self._clock.sleep_until(self._clock.now() + answer)

    def close(self) -> None:
        pass


def serve(
    times: list[float], arrivals: Iterable[float], *, workers: int = 1, seconds: float = 1e9
) -> tuple[list[Sample], int]:
    """Serve images of known times; return the samples in the order of arrival."""
    clock = SimulatedClock(workers)
    samples, take = taking()
    system = SimulatedSystem(clock, times.__getitem__)
    unstarted = run_server(
        system, clock, range(len(times)), arrivals, take, workers=workers, seconds=seconds
    )
    return sorted(samples, key=lambda one: one.arrival), unstarted


def test_a_stream_of_single_images_never_waits() -> None:
    clock = SimulatedClock()
    samples, take = taking(3)
    times = [1.0, 4.0, 2.0]
    run_single_stream(
        SimulatedSystem(clock, times.__getitem__), clock, itertools.cycle(range(3)), take
    )
    assert [one.latency for one in samples] == times
    assert [one.arrival for one in samples] == [0.0, 1.0, 5.0]
    assert all(one.arrival == one.start for one in samples)


def test_latency_counts_from_the_intended_arrival() -> None:
    """A system that stops for ten seconds delays all images that arrive meanwhile."""
    samples, unstarted = serve([10.0, 1.0, 1.0], [0.0, 1.0, 2.0])
    assert [one.start for one in samples] == [0.0, 10.0, 11.0]
    assert [one.latency for one in samples] == [10.0, 10.0, 10.0]
    assert unstarted == 0


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_queue_has_the_latencies_of_its_recursion(workers: int) -> None:
    """An image starts when it has arrived and a server is free, in the order of arrival."""
    seconds, count = noisy(3, spread=0.8), 60
    times = [seconds(0) for _ in range(count)]
    arrivals = list(itertools.islice(poisson_arrivals(8.0 * workers, 4), count))
    samples, _ = serve(times, arrivals, workers=workers)
    free = [0.0] * workers
    for sample, arrival, time in zip(samples, arrivals, times, strict=True):
        start = max(arrival, min(free))
        free[free.index(min(free))] = start + time
        assert sample.start == pytest.approx(start, abs=1e-9)
        assert sample.end == pytest.approx(start + time, abs=1e-9)


def test_images_that_never_start_are_counted() -> None:
    """At twice the rate that it keeps up with, half of the images never start in time."""
    samples, unstarted = serve([1.0] * 100, [0.5 * n for n in range(100)], seconds=20.0)
    assert len(samples) == 20
    assert unstarted == 20
    assert samples[-1].latency == 20.0 - 9.5  # it arrived at 9.5, started at 19 and took 1


def test_images_after_the_end_of_the_schedule_are_not_sent() -> None:
    samples, unstarted = serve([1.0] * 5, [0.0, 4.0, 9.0, 11.0, 12.0], seconds=10.0)
    assert [one.arrival for one in samples] == [0.0, 4.0, 9.0]
    assert unstarted == 0


def test_an_error_of_the_system_ends_the_run() -> None:
    def fail(index: int) -> float:
        raise ValueError(f"image {index}")

    clock = SimulatedClock()
    _, take = taking()
    with pytest.raises(ValueError, match="image 0"):
        run_server(SimulatedSystem(clock, fail), clock, [0], [0.0], take, workers=1, seconds=1.0)


def test_offline_images_in_flight_are_finished() -> None:
    clock = SimulatedClock()
    samples, take = taking(4)
    system = SimulatedSystem(clock, lambda _: 1.0, depth=3)
    run_offline(system, clock, itertools.cycle([0, 1]), take)
    assert [one.index for one in samples] == [0, 1, 0, 1, 0, 1]
    # Three images are taken at once, and each waits for those before it.
    assert [one.latency for one in samples] == [1.0, 2.0, 3.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_closed_loop_has_as_many_in_flight_as_workers(workers: int) -> None:
    clock = SimulatedClock(workers)
    samples, take = taking(7)
    system = SimulatedServer(clock, itertools.repeat(1.0))
    run_closed_loop(system, clock, itertools.cycle([0, 1]), take, workers=workers)
    # Those that are in flight when the seventh result is there are taken as well.
    assert [one.end for one in samples] == [float(1 + n // workers) for n in range(len(samples))]
    assert len(samples) == -(-7 // workers) * workers
    assert all((one.arrival, one.latency) == (one.start, 1.0) for one in samples)
    assert {one.worker for one in samples} == set(range(workers))


def test_a_closed_loop_ends_with_its_images() -> None:
    clock = SimulatedClock(2)
    samples, take = taking()
    run_closed_loop(SimulatedServer(clock, [1.0] * 3), clock, range(3), take, workers=2)
    assert sorted(one.index for one in samples) == [0, 1, 2]


def test_an_error_ends_a_closed_loop() -> None:
    clock = SimulatedClock()
    _, take = taking()
    system = SimulatedServer(clock, ())
    with pytest.raises(StopIteration):
        run_closed_loop(system, clock, [0], take, workers=1)


class FailingSystem:
    """A system whose image 0 fails after two seconds, and image 1 after one."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock

    def run(self, index: int) -> NoReturn:
        self._clock.sleep_until(2.0 - index)
        raise ValueError(f"image {index}")

    def close(self) -> None:
        pass


def test_the_error_that_came_first_is_raised() -> None:
    """A thread that finishes its image meanwhile may meet another one."""
    clock = SimulatedClock(2)
    _, take = taking()
    with pytest.raises(ValueError, match="image 1"):
        run_closed_loop(FailingSystem(clock), clock, range(2), take, workers=2)


class InterruptingSystem:
    """A system that interrupts the main thread, and ends its image after that."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.ends = threading.Event()

    def run(self, index: int) -> None:
        del index
        self.thread = threading.current_thread()
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)
        self.ends.wait()

    def close(self) -> None:
        pass


def test_an_image_in_flight_is_not_taken_after_an_interruption() -> None:
    """Its record is built then, by another thread."""

    def interrupt(*_: object) -> NoReturn:
        raise InterruptedError

    system = InterruptingSystem()
    samples, take = taking()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(InterruptedError):
            run_closed_loop(system, SystemClock(), [0], take, workers=1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    system.ends.set()
    system.thread.join()
    assert samples == []


@pytest.mark.parametrize("loop", ["single-stream", "offline"])
def test_a_closed_loop_comes_back_when_it_is_asked_to(loop: str) -> None:
    """After the seconds of Retry-After, at most five; after a tenth without it."""
    refusals = [BusyError(503, 2.0), BusyError(429, 3600.0), BusyError(503, None)]
    clock = SimulatedClock()
    samples, take = taking(5)
    system = SimulatedServer(clock, [1.0, *refusals, 1.0])
    if loop == "offline":
        run_closed_loop(system, clock, itertools.repeat(0), take, workers=1)
    else:
        run_single_stream(system, clock, itertools.repeat(0), take)
    assert [one.refused for one in samples] == [None, 503, 429, 503, None]
    assert [one.start for one in samples] == pytest.approx([0.0, 1.0, 3.0, 8.0, 8.1])


def test_a_schedule_goes_on_after_a_refusal() -> None:
    clock = SimulatedClock()
    samples, take = taking()
    system = SimulatedServer(clock, [BusyError(429, 60.0), 1.0])
    run_server(system, clock, range(2), [0.0, 1.0], take, workers=1, seconds=10.0)
    assert [(one.start, one.refused) for one in samples] == [(0.0, 429), (1.0, None)]


def test_arrivals_are_a_poisson_process() -> None:
    moments = np.array(list(itertools.islice(poisson_arrivals(5.0, 1), 20_000)))
    gaps = np.diff(moments, prepend=0.0)
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() == pytest.approx(0.2, rel=0.03)  # of an exponential distribution
    counts = np.bincount(moments.astype(int))[:-1]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.1)


def test_the_last_arrival_is_that_of_the_last_image() -> None:
    assert last_arrival(5.0, 1, 7) == list(itertools.islice(poisson_arrivals(5.0, 1), 7))[-1]


def test_the_same_seed_gives_the_same_arrivals() -> None:
    first, second, other = (
        list(itertools.islice(poisson_arrivals(2.0, seed), 5)) for seed in (7, 7, 8)
    )
    assert first == second != other


def test_the_clock_of_the_system_sleeps_until_a_moment() -> None:
    clock = SystemClock()
    moment = clock.now() + 0.001
    clock.sleep_until(moment)
    assert clock.now() >= moment
