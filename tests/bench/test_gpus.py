# SPDX-License-Identifier: Apache-2.0
"""Predicted times on GPUs by the figures of their makers."""

from __future__ import annotations

import pytest
from tests.bench.works import node_work, stage_work

from foveate.bench.gpus import GPUS, Gpu, predict

SLOW = Gpu(name="slow", bandwidth=10, fp64=2, fp32=20, fp16=40, int8=80, source="none")


@pytest.mark.parametrize(("precision", "seconds"), [("fp32", 20.0), ("fp16", 10.0)])
def test_arithmetic_runs_at_half_of_the_peak(precision: str, seconds: float) -> None:
    found = predict(stage_work(node_work(200), moved=10), precision, SLOW)
    assert found.least_seconds == seconds
    assert found.most_seconds == seconds
    assert (found.origin, found.gpu, found.precision) == ("predicted", "slow", precision)


def test_layers_of_an_int8_stage_run_in_their_own_precision() -> None:
    work = stage_work(node_work(200), node_work(200, precision="int8"))
    assert predict(work, "int8", SLOW).least_seconds == 20.0 + 5.0


def test_between_nodes_memory_counts_only_in_the_longest_time() -> None:
    """Each node moves 100 bytes, and the inputs of the stage are 50."""
    work = stage_work(*[node_work(20, moved=100)] * 3, moved=50, runs=2)
    found = predict(work, "fp32", SLOW)
    assert found.least_seconds == 2 * 6.0
    assert found.most_seconds == 2 * 3 * 10.0


def test_float16_moves_half_of_the_bytes_that_the_cpu_moves() -> None:
    work = stage_work(node_work(0, moved=100), moved=0)
    assert predict(work, "fp16", SLOW).most_seconds == 5.0


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_peaks_rise_with_a_lower_precision(gpu: Gpu) -> None:
    assert gpu.fp64 < gpu.fp32 < gpu.fp16 < gpu.int8
    assert gpu.source.startswith("NVIDIA")
