# SPDX-License-Identifier: Apache-2.0
"""Rates of layers and of memory: what is measured, and the statistics on a clock of the test."""

from __future__ import annotations

from itertools import accumulate, count
from pathlib import Path

import numpy as np
import pytest

from foveate.bench.ceilings import (
    Ceilings,
    Rate,
    _triad,
    array_size,
    last_level_cache,
    measure_bandwidth,
    measure_ceilings,
    measure_rate,
)
from foveate.bench.probes import Probe
from foveate.bench.work import Kind, count_work

TINY = (
    Probe(kind="dense", channels=3, outputs=4, size=(6, 5), kernel=3),
    Probe(kind="dense", channels=4, outputs=4, size=(6, 5), kernel=3),
    Probe(kind="pointwise", channels=4, outputs=8, size=(6, 5)),
    Probe(kind="depthwise", channels=4, outputs=4, size=(6, 5), kernel=3),
    Probe(kind="product", channels=5, outputs=6, size=(1, 7)),
)


class Stopwatch:
    """A clock that advances by the given seconds with each piece of work."""

    def __init__(self, *steps: float) -> None:
        self.times = iter(accumulate(steps))
        self.now, self.runs = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def work(self) -> None:
        self.now, self.runs = next(self.times), self.runs + 1


def rate_of(clock: Stopwatch, seconds: float) -> Rate:
    return measure_rate(
        clock.work,
        12.0,
        name="dense",
        precision="fp32",
        workload="none",
        seconds=seconds,
        clock=clock,
    )


def test_the_rate_is_the_median_with_its_quartiles_and_without_the_first_run() -> None:
    found = rate_of(Stopwatch(100.0, 1.0, 2.0, 3.0, 4.0, 6.0), seconds=0.5)
    assert (found.low, found.median, found.high, found.repeats) == (3.0, 4.0, 6.0, 5)


def test_repetitions_end_when_the_time_is_over() -> None:
    clock = Stopwatch(*[1.0] * 20)
    assert rate_of(clock, seconds=9.0).repeats == 9
    assert clock.runs == 10


def test_a_clock_that_stands_still_ends_the_repetitions_too() -> None:
    clock = Stopwatch(*[0.0] * 2000)
    assert rate_of(clock, seconds=1.0).repeats == 1000


@pytest.fixture(scope="module")
def ceilings() -> Ceilings:
    kinds = [(probe.kind, precision) for probe in TINY for precision in ("fp32", "int8")]
    return measure_ceilings(kinds, threads=2, seconds=0.0, size=1 << 16, probes=TINY)


def test_every_wanted_kind_has_a_rate_in_every_wanted_precision(ceilings: Ceilings) -> None:
    found = {(rate.name, rate.precision) for rate in ceilings.arithmetic}
    assert found == {(probe.kind, precision) for probe in TINY for precision in ("fp32", "int8")}
    assert {rate.name for rate in ceilings.memory} == {"copy", "triad"}
    for rate in (*ceilings.arithmetic, *ceilings.memory):
        assert 0 < rate.low <= rate.median <= rate.high
    assert (ceilings.threads, ceilings.array_bytes) == (2, 1 << 16)


def test_the_ceiling_of_a_kind_is_that_of_its_fastest_layer(ceilings: Ceilings) -> None:
    medians = [
        rate.median
        for rate in ceilings.arithmetic
        if (rate.name, rate.precision) == ("dense", "fp32")
    ]
    assert len(medians) == 2
    assert ceilings.flops("dense", "fp32") == max(medians)
    assert ceilings.bandwidth == max(rate.median for rate in ceilings.memory)


def test_what_was_not_measured_has_no_ceiling() -> None:
    kinds: list[tuple[Kind, str]] = [("pointwise", "fp32"), ("product", "fp64"), ("other", "fp32")]
    found = measure_ceilings(kinds, threads=1, seconds=0.0, size=4096, probes=TINY)
    assert len(found.arithmetic) == 1
    assert found.flops("product", "fp64") is None
    assert found.flops("dense", "fp32") is None


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("probe", TINY, ids=str)
def test_a_probe_claims_the_operations_that_are_counted(
    probe: Probe, precision: str, tmp_path: Path
) -> None:
    (tmp_path / "probe.onnx").write_bytes(probe.model(precision))
    work = count_work(tmp_path / "probe.onnx", [{"x": probe.shape(probe.channels)}])
    assert work.operations_by_kind() == {(probe.kind, precision): probe.operations}


def test_bytes_of_memory_are_those_of_all_arrays() -> None:
    ticks = count()
    copy, triad = measure_bandwidth(
        threads=2, size=1 << 12, seconds=0.0, clock=lambda: float(next(ticks))
    )
    assert (copy.median, triad.median) == (2 * 4096, 3 * 4096)


def test_the_largest_cache_is_the_last(tmp_path: Path) -> None:
    for index, text in enumerate(("48K", "2048K", "36M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{text}\n", encoding="ascii")
    assert last_level_cache(tmp_path) == 36 << 20
    assert last_level_cache(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("cache", "expected"), [(None, 32), (8 << 20, 32), (36 << 20, 36), (300 << 20, 256)]
)
def test_arrays_are_as_large_as_the_cache_within_bounds(cache: int | None, expected: int) -> None:
    assert array_size(cache) == expected << 20


def test_the_triad_is_computed() -> None:
    """Otherwise its rate would be that of something else."""

    source, other = np.arange(1 << 17, dtype=np.float32), np.ones(1 << 17, np.float32)
    target = np.zeros_like(source)
    _triad(target, source, other)
    assert np.array_equal(target, source + 3)
