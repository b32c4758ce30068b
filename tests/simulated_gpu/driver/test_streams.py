# SPDX-License-Identifier: Apache-2.0
"""Work runs in every order that streams and events allow, and in no other."""

from __future__ import annotations

import pytest
from tests.simulated_gpu.driver.faults import Status
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.raw import Raw
from tests.simulated_gpu.driver.simulation import Simulation

pytest.importorskip("cuda.bindings.driver", reason="needs the package cuda-bindings")


def last_written(seed: int, *, ordered: bool, blocking: bool = False, legacy: bool = False) -> int:
    """Fill memory from two streams; return what is in it."""
    with connected(Simulation(seed=seed)):
        raw = Raw()
        first, second = raw.stream(blocking=blocking), raw.stream(blocking=blocking)
        if legacy:
            second = 0
        memory, found = raw.memory(1), raw.pinned(1)
        raw.fill(memory, 1, 1, first)
        if ordered:
            raw.order(first, second)
        raw.fill(memory, 2, 1, second)
        raw("cuCtxSynchronize")
        raw.copy(found, memory, 1, first)
        raw("cuStreamSynchronize", first)
        return int(found[0])


def test_streams_run_in_any_order() -> None:
    assert {last_written(seed, ordered=False) for seed in range(8)} == {1, 2}


def test_an_event_orders_streams() -> None:
    assert {last_written(seed, ordered=True) for seed in range(8)} == {2}


def test_the_legacy_stream_comes_after_blocking_streams_only() -> None:
    after = {last_written(seed, ordered=False, blocking=True, legacy=True) for seed in range(8)}
    beside = {last_written(seed, ordered=False, legacy=True) for seed in range(8)}
    assert (after, beside) == ({2}, {1, 2})


def test_nothing_runs_before_somebody_waits(raw: Raw) -> None:
    memory, found, stream = raw.memory(1), raw.pinned(1), raw.stream()
    found[0] = 9
    raw.fill(memory, 1, 1, stream)
    raw.copy(found, memory, 1, stream)
    assert found[0] == 9
    raw("cuStreamSynchronize", stream)
    assert found[0] == 1


def test_polling_comes_to_an_end(raw: Raw) -> None:
    memory, stream, event = raw.memory(1), raw.stream(), raw("cuEventCreate", 2)
    for value in range(5):
        raw.fill(memory, value, 1, stream)
    raw("cuEventRecord", event, stream)
    found = [raw.status("cuEventQuery", event) for _ in range(5)]
    assert found == [Status.NOT_READY] * 4 + [Status.SUCCESS]


def test_a_handle_is_valid_until_it_is_destroyed(raw: Raw) -> None:
    stream, event = raw.stream(), raw("cuEventCreate", 2)
    raw("cuStreamDestroy", stream)
    raw("cuEventDestroy", event)
    assert raw.status("cuStreamSynchronize", stream) == Status.INVALID_HANDLE
    assert raw.status("cuEventSynchronize", event) == Status.INVALID_HANDLE


def test_a_thread_without_a_context_is_refused(raw: Raw) -> None:
    raw("cuCtxSetCurrent", 0)
    assert raw.status("cuMemAlloc", 16) == Status.INVALID_CONTEXT


def test_calls_are_listed_with_what_they_are_about(raw: Raw, simulated: Simulation) -> None:
    memory, stream = raw.memory(64), raw.stream()
    raw.fill(memory, 1, 64, stream)
    raw.copy(raw.pinned(64), memory, 64, stream)
    raw.status("cuMemAlloc", 1 << 40)
    listed = [(call.name, call.detail, call.status) for call in simulated.calls[3:]]
    assert listed[:5] == [
        ("cuMemAlloc", "64", 0),
        ("cuStreamCreate", "non-blocking", 0),
        ("cuMemsetD8Async", "64", 0),
        ("cuMemHostAlloc", "64", 0),
        ("cuMemcpyAsync", "DtoH 64", 0),
    ]
    name, detail, status = listed[5]
    assert (name, status) == ("cuMemAlloc", Status.OUT_OF_MEMORY)
    assert "134217664 are free" in detail


def test_an_event_is_recorded_in_its_own_context_only(raw: Raw, simulated: Simulation) -> None:
    stream, event = raw.stream(), raw("cuEventCreate", 2)
    raw("cuCtxPushCurrent", simulated.create_context())
    foreign = raw("cuEventCreate", 2)
    assert raw.status("cuEventRecord", foreign, stream) == Status.INVALID_HANDLE
    assert raw.status("cuEventRecord", event, 1) == Status.INVALID_HANDLE
    assert raw.status("cuEventRecord", foreign, 1) == Status.SUCCESS
    assert raw.status("cuEventRecord", event, stream) == Status.SUCCESS


def test_time_passes_between_events_that_measure_it_only(raw: Raw) -> None:
    stream = raw.stream()
    events = [raw("cuEventCreate", flags) for flags in (0, 0, 2)]
    for event in events:
        raw("cuEventRecord", event, stream)
    raw("cuStreamSynchronize", stream)
    first, second, untimed = events
    assert raw.status("cuEventElapsedTime", first, second) == Status.SUCCESS
    assert raw.status("cuEventElapsedTime", first, untimed) == Status.INVALID_HANDLE
