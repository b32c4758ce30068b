# SPDX-License-Identifier: Apache-2.0
"""A clock that only sleeping advances, and systems whose times are known."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from foveate.bench.benchmark import Benchmark
from foveate.bench.building import Surroundings, build_record
from foveate.bench.energy import EnergyMeter
from foveate.bench.options import BenchOptions
from foveate.bench.record import Input, Record, Subject
from foveate.tracing.image_trace import ImageTrace, Work

STAGES = ("propose", "refine")


class SimulatedClock:
    """A clock whose time passes when all threads that use it sleep, or have ended.

    Args:
        threads: Number of threads that use it.
    """

    def __init__(self, threads: int = 1) -> None:
        self.time = 0.0
        self._threads = threads
        self._seen: set[threading.Thread] = set()
        self._sleeping: list[float] = []
        self._changed = threading.Condition()

    def now(self) -> float:
        return self.time

    def sleep_until(self, moment: float) -> None:
        with self._changed:
            self._seen.add(threading.current_thread())
            if moment <= self.time:
                return
            self._sleeping.append(moment)
            while self.time < moment:
                self._advance()
                if self.time < moment:
                    self._changed.wait(0.001)  # nothing tells of a thread that has ended
            self._sleeping.remove(moment)

    def _advance(self) -> None:
        awaited = self._threads - sum(not thread.is_alive() for thread in self._seen)
        waiting = [moment for moment in self._sleeping if moment > self.time]
        if len(waiting) >= awaited:
            self.time = min(waiting)
            self._changed.notify_all()


class SimulatedSystem:
    """A system that takes a known time for each image: 60 % in one stage and 40 % in another.

    Args:
        clock: Its clock.
        seconds: Returns the time of the next image by its index.
        depth: Number of images that ``stream`` has in flight.
    """

    def __init__(
        self, clock: SimulatedClock, seconds: Callable[[int], float], depth: int = 1
    ) -> None:
        self._clock, self._seconds, self._depth = clock, seconds, depth

    def run(self, index: int) -> ImageTrace:
        trace, start = ImageTrace(), self._clock.now()
        end = start + self._seconds(index)
        middle = start + 0.6 * (end - start)
        self._clock.sleep_until(end)
        trace.launched = trace.enqueued = trace.waited = start
        trace.done = end
        for name, times in zip(STAGES, ((start, middle), (middle, end)), strict=True):
            work = Work("network", name, "slot 0, stream 0")
            work.start, work.end = times
            trace.work.append(work)
        return trace

    def close(self) -> None:
        pass

    def stream(self, indices: Iterable[int]) -> Iterator[ImageTrace]:
        flying: deque[int] = deque()
        for index in indices:
            flying.append(index)
            if len(flying) >= self._depth:
                yield self.run(flying.popleft())
        while flying:
            yield self.run(flying.popleft())


def noisy(seed: int, *, mean: float = 0.1, spread: float = 0.05) -> Callable[[int], float]:
    """Return times that vary, independently and the same for the same seed."""
    generator = np.random.default_rng(seed)
    return lambda index: mean * (1 + index) * float(generator.lognormal(0, spread))


def subject(bundle: str = "simulated", **changes: Any) -> Subject:
    values: dict[str, Any] = {
        "bundle": bundle,
        "digest": "0" * 64,
        "device": "cpu",
        "backend": "onnxruntime",
        "precision": dict.fromkeys(STAGES, "fp32"),
        "threads": None,
        "options": {},
        "versions": {},
    }
    return Subject(**(values | changes))


def inputs(count: int) -> tuple[Input, ...]:
    return tuple(
        Input(name=f"{n}.jpg", width=64 + n, height=48, levels=8, windows=90, sha256=f"{n:064}")
        for n in range(count)
    )


def simulated_benchmark(
    seconds: Callable[[int], float],
    options: BenchOptions,
    *,
    images: int = 1,
    workers: int = 1,
    clock: SimulatedClock | None = None,
    meter: EnergyMeter | None = None,
) -> Benchmark:
    """Return a benchmark on a simulated clock, by default one of its own."""
    clock = clock or SimulatedClock(workers if options.scenario == "server" else 1)
    return Benchmark(
        SimulatedSystem(clock, seconds, workers),
        options,
        sizes=[(one.height, one.width) for one in inputs(images)],
        in_flight=workers,
        clock=clock,
        meter=meter,
    )


def run_benchmark(
    seconds: Callable[[int], float], options: BenchOptions, *, images: int = 1, workers: int = 1
) -> Benchmark:
    """Run a scenario on a simulated clock."""
    benchmark = simulated_benchmark(seconds, options, images=images, workers=workers)
    benchmark.run()
    return benchmark


def record_of_run(
    benchmark: Benchmark, *, images: int = 1, floor: Benchmark | None = None
) -> Record:
    return build_record(
        benchmark, Surroundings(subject=subject(), inputs=inputs(images)), floor=floor
    )


def simulated_record(
    seconds: Callable[[int], float], options: BenchOptions, *, images: int = 1
) -> Record:
    return record_of_run(run_benchmark(seconds, options, images=images), images=images)
