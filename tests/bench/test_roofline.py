# SPDX-License-Identifier: Apache-2.0
"""The lower of both ceilings of a stage, and the share of it that a time reaches."""

from __future__ import annotations

import pytest
from tests.bench.works import CEILINGS, node_work, stage_work

from foveate.bench.limits import roofline


def test_a_stage_of_high_intensity_is_bound_by_arithmetic() -> None:
    found = roofline(stage_work(node_work(2000), moved=100), CEILINGS, 40.0)
    assert (found.bound, found.compute_ceiling, found.memory_ceiling) == ("arithmetic", 100, 200)
    assert (found.intensity, found.least_seconds) == (20.0, 20.0)
    assert (found.reached, found.ratio) == (50.0, 0.5)


def test_a_stage_of_low_intensity_is_bound_by_memory() -> None:
    found = roofline(stage_work(node_work(500), moved=100), CEILINGS, 20.0)
    assert (found.bound, found.memory_ceiling, found.least_seconds) == ("memory", 50.0, 10.0)
    assert (found.compute_ceiling, found.ratio) == (100.0, 0.5)


def test_the_ceiling_of_a_mix_is_the_time_of_its_kinds_one_after_the_other() -> None:
    """2000 at 100 per second, 300 at 10 and 4000 at 400 take 20 + 30 + 10 seconds."""
    mixed = stage_work(
        node_work(2000),
        node_work(300, kind="depthwise"),
        node_work(4000, precision="int8"),
        node_work(0, kind="other"),
    )
    found = roofline(mixed, CEILINGS)
    assert found.least_seconds == pytest.approx(60.0)
    assert found.compute_ceiling == pytest.approx(105.0)
    assert (found.seconds, found.reached, found.ratio) == (None, None, None)


def test_all_runs_of_a_stage_count() -> None:
    found = roofline(stage_work(node_work(2000), runs=3), CEILINGS, 60.0)
    assert found.ratio == 1.0


def test_a_stage_without_operations_is_bound_by_memory() -> None:
    found = roofline(stage_work(moved=100), CEILINGS, 20.0)
    assert (found.compute_ceiling, found.bound, found.ratio) == (None, "memory", 0.5)


def test_a_kind_without_a_measured_rate_leaves_the_ratio_open() -> None:
    found = roofline(stage_work(node_work(10, precision="fp64")), CEILINGS, 20.0)
    assert (found.compute_ceiling, found.bound, found.least_seconds, found.ratio) == (None,) * 4
    assert found.reached == 0.5
