# SPDX-License-Identifier: Apache-2.0
"""MLPerf's load generator measures the same latencies of a system that sleeps.

Both measure real time with threads of their own, one after the other, so nothing but their agreement
is checked: two percentiles of as many images each differ by less than the width of an interval, or
twice that where images wait for each other. A busy machine is not the same for both, so that a
disagreement on a machine that is unfit to publish skips the test.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveate.bench.figures import Distribution
from foveate.bench.machine import Snapshot, describe_machine, take_snapshot
from foveate.bench.percentiles import distribution
from foveate.bench.scenarios import Sample, poisson_arrivals, run_server, run_single_stream
from foveate.tracing.clock import SystemClock

loadgen = pytest.importorskip("mlperf_loadgen", reason="needs the package mlcommons-loadgen")
pytestmark = pytest.mark.slow

IMAGES, COUNT = 50, 1500
RATE = 50.0


def process(index: int) -> None:
    """Take 4 to 16 ms, which depends on the image."""
    time.sleep(0.004 + 0.012 * index / IMAGES)


class SleepingSystem:
    def run(self, index: int) -> None:
        process(index)

    def stream(self, indices: Iterable[int]) -> Iterator[None]:
        yield from map(process, indices)

    def close(self) -> None:
        pass


def taking() -> tuple[list[float], Callable[[Sample], bool]]:
    latencies: list[float] = []

    def take(sample: Sample) -> bool:
        latencies.append(sample.latency)
        return len(latencies) < COUNT

    return latencies, take


def measure_with_loadgen(scenario: str, folder: Path) -> dict[float, float]:
    """Return the percentiles that MLPerf's load generator reports, in seconds."""
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.single_stream_expected_latency_ns = 8_000_000
    settings.server_target_qps = RATE
    settings.server_target_latency_ns = 10**9
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = COUNT
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    logs = loadgen.LogSettings()
    logs.log_output, logs.enable_trace = output, False

    def complete(query: Any) -> None:
        process(query.index)
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query.id, 0, 0)])

    with ThreadPoolExecutor(1) as worker:

        def issue(queries: list[Any]) -> None:
            for query in queries:
                worker.submit(complete, query)

        system = loadgen.ConstructSUT(issue, lambda: None)
        library = loadgen.ConstructQSL(IMAGES, IMAGES, lambda _: None, lambda _: None)
        loadgen.StartTestWithLogSettings(system, library, settings, logs)
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
    found = {}
    for line in (folder / "mlperf_log_detail.txt").read_text("utf-8").splitlines():
        entry = json.loads(line.removeprefix(":::MLLOG "))
        if match := re.fullmatch(r"result_([\d.]+)_percentile_latency_ns", entry["key"]):
            found[float(match[1])] = entry["value"] / 1e9
    return found


def check_agreement(
    ours: Distribution, theirs: dict[float, float], before: Snapshot, *, widths: float
) -> None:
    far = []
    for percent in (50.0, 90.0, 95.0):
        one = ours.percentile(percent)
        assert one.value is not None
        assert one.low is not None
        assert one.high is not None
        if abs(one.value - theirs[percent]) >= widths * (one.high - one.low):
            far.append((one, theirs[percent]))
    machine = describe_machine(before, take_snapshot())
    if far and not machine.fit:
        pytest.skip(f"this machine is too busy: {'; '.join(machine.reasons)}")
    assert far == []


def test_a_single_stream_has_the_latencies_of_loadgen(tmp_path: Path) -> None:
    latencies, take = taking()
    before = take_snapshot()
    run_single_stream(SleepingSystem(), SystemClock(), cycle(range(IMAGES)), take)
    theirs = measure_with_loadgen("SingleStream", tmp_path)
    check_agreement(distribution(latencies), theirs, before, widths=1)


def test_a_server_has_the_latencies_of_loadgen(tmp_path: Path) -> None:
    latencies, take = taking()
    before = take_snapshot()
    run_server(
        SleepingSystem(),
        SystemClock(),
        np.random.default_rng(1).integers(IMAGES, size=COUNT).tolist(),  # as loadgen draws them
        poisson_arrivals(RATE, 0),
        take,
        workers=1,
        seconds=1e9,
    )
    theirs = measure_with_loadgen("Server", tmp_path)
    check_agreement(distribution(latencies), theirs, before, widths=2)
