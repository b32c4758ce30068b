# SPDX-License-Identifier: Apache-2.0
"""The scenarios on a simulated clock, where every latency is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from tests.bench.simulated import SimulatedClock, SimulatedSystem, noisy

from foveate.bench.arrivals import poisson_arrivals
from foveate.bench.clock import SystemClock
from foveate.bench.scenarios import Sample, run_offline, run_server, run_single_stream


def taking(count: int = 10**9) -> tuple[list[Sample], Callable[[Sample], bool]]:
    """A list of samples, and a function that adds to it until it has a number of them."""
    samples: list[Sample] = []

    def take(sample: Sample) -> bool:
        samples.append(sample)
        return len(samples) < count

    return samples, take


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


def test_arrivals_are_a_poisson_process() -> None:
    moments = np.array(list(itertools.islice(poisson_arrivals(5.0, 1), 20_000)))
    gaps = np.diff(moments, prepend=0.0)
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() == pytest.approx(0.2, rel=0.03)  # of an exponential distribution
    counts = np.bincount(moments.astype(int))[:-1]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.1)


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
