# SPDX-License-Identifier: Apache-2.0
"""Faults that a test asks for, and faults after which nothing works any more."""

from __future__ import annotations

import pytest
from tests.simulated_gpu.driver.faults import STICKY, Status
from tests.simulated_gpu.driver.raw import Raw
from tests.simulated_gpu.driver.simulation import Simulation


def test_the_nth_call_of_an_entry_point_fails_once(raw: Raw, simulated: Simulation) -> None:
    fault = simulated.fail(Status.OUT_OF_MEMORY, "cuMemAlloc", nth=2)
    stream = raw.stream()
    found = [raw.status("cuMemAlloc", 16) for _ in range(3)]
    assert found == [Status.SUCCESS, Status.OUT_OF_MEMORY, Status.SUCCESS]
    assert fault.left == 0
    assert simulated.live_bytes["device"] == 32
    raw("cuStreamSynchronize", stream)


def test_the_nth_call_of_all_fails(raw: Raw, simulated: Simulation) -> None:
    simulated.fail(Status.UNKNOWN, nth=3)
    stream = raw.stream()
    raw.memory()
    assert raw.status("cuStreamSynchronize", stream) == Status.UNKNOWN
    raw("cuStreamSynchronize", stream)


@pytest.mark.parametrize("status", sorted(STICKY))
def test_a_sticky_fault_makes_every_later_call_fail(
    raw: Raw, simulated: Simulation, status: int
) -> None:
    stream, event, memory = raw.stream(), raw("cuEventCreate", 2), raw.memory()
    raw.begin(stream)
    graph = raw.end(stream)
    simulated.fail(status, "cuStreamSynchronize")
    assert raw.status("cuStreamSynchronize", stream) == status
    for name, *arguments in (
        ("cuMemAlloc", 16),
        ("cuMemFree", memory),
        ("cuMemsetD8Async", memory, 0, 8, stream),
        ("cuEventRecord", event, stream),
        ("cuStreamCreate", 1),
        ("cuGraphLaunch", graph, stream),
        ("cuCtxSynchronize",),
    ):
        assert raw.status(name, *arguments) == status


def test_a_fault_of_a_kernel_shows_at_the_next_wait(raw: Raw, simulated: Simulation) -> None:
    memory, stream = raw.memory(16), raw.stream()

    def fail() -> None:
        raise ZeroDivisionError

    simulated.enqueue(int(stream), "engine", "broken", fail)
    raw.fill(memory, 1, 16, stream)
    assert raw.status("cuStreamSynchronize", stream) == Status.ILLEGAL_ADDRESS
    assert raw.status("cuMemAlloc", 16) == Status.ILLEGAL_ADDRESS
    assert isinstance(simulated.streams.fault, ZeroDivisionError)


def test_a_copy_outside_of_memory_is_refused_without_harm(raw: Raw) -> None:
    memory, stream = raw.memory(16), raw.stream()
    assert raw.status("cuMemsetD8Async", memory, 1, 17, stream) == Status.INVALID_VALUE
    raw.fill(memory, 1, 16, stream)
    raw("cuStreamSynchronize", stream)
