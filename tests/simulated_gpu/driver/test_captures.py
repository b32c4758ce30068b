# SPDX-License-Identifier: Apache-2.0
"""Captures: what they record, and what a driver refuses while they go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.simulated_gpu.driver.faults import Status
from tests.simulated_gpu.driver.graph import Executable, Graph
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.raw import Raw
from tests.simulated_gpu.driver.simulation import Simulation


def recorded(raw: Raw, stream: Any) -> Any:
    """Return an event that is recorded on a stream."""
    event = raw("cuEventCreate", 2)
    raw("cuEventRecord", event, stream)
    return event


def fill_through_a_branch(raw: Raw, memory: int, origin: Any, branch: Any) -> Any:
    """Capture a fill, and one after it on another stream; return what can be launched."""
    raw.begin(origin)
    raw.fill(memory, 1, 8, origin)
    raw.order(origin, branch)
    raw.fill(memory + 4, 2, 4, branch)
    raw.order(branch, origin)
    return raw.end(origin)


@pytest.mark.parametrize("seed", range(5))
def test_a_graph_does_at_each_launch_what_was_captured(seed: int) -> None:
    with connected(Simulation(seed=seed)) as simulated:
        raw = Raw()
        memory, found = raw.memory(8), raw.pinned(8)
        origin, branch = raw.stream(), raw.stream()
        graph = fill_through_a_branch(raw, memory, origin, branch)
        assert simulated.streams.history == []
        for _ in range(2):
            raw.fill(memory, 0, 8, origin)
            raw("cuGraphLaunch", graph, origin)
            raw.copy(found, memory, 8, origin)
            raw("cuStreamSynchronize", origin)
            assert found.tolist() == [1] * 4 + [2] * 4
        assert simulated.conflicts == []


def test_nodes_are_counted_by_kind(raw: Raw, simulated: Simulation) -> None:
    memory, pinned, stream = raw.memory(8), raw.pinned(8), raw.stream()
    raw.begin(stream)
    raw.copy(memory, pinned, 8, stream)
    raw.fill(memory, 1, 8, stream)
    raw.fill(memory, 2, 8, stream)
    raw.end(stream)
    (graph,) = [one for one in simulated.objects.values() if isinstance(one, Graph)]
    assert graph.kinds == {"copy": 1, "set": 2}


def test_graphs_are_counted_until_they_are_destroyed(raw: Raw, simulated: Simulation) -> None:
    stream = raw.stream()
    raw.begin(stream)
    graph = raw("cuStreamEndCapture", stream)
    executable = raw("cuGraphInstantiate", graph, 0)
    raw("cuGraphDestroy", graph)
    assert (simulated.count(Graph), simulated.count(Executable)) == (0, 1)
    raw("cuGraphLaunch", executable, stream)
    raw("cuGraphExecDestroy", executable)
    assert simulated.count(Executable) == 0


def test_launches_of_one_graph_do_not_overlap(raw: Raw, simulated: Simulation) -> None:
    memory = raw.memory(8)
    first, second = raw.stream(), raw.stream()
    graph = fill_through_a_branch(raw, memory, first, second)
    raw("cuGraphLaunch", graph, first)
    raw("cuGraphLaunch", graph, second)
    raw("cuCtxSynchronize")
    assert simulated.conflicts == []


def test_a_branch_that_is_not_joined_is_an_error(raw: Raw) -> None:
    memory, origin, branch = raw.memory(8), raw.stream(), raw.stream()
    raw.begin(origin)
    raw.order(origin, branch)
    raw.fill(memory, 1, 8, branch)
    assert raw.status("cuStreamEndCapture", origin) == Status.CAPTURE_UNJOINED


def wait_for_event(raw: Raw, stream: Any) -> int:
    return raw.status("cuEventSynchronize", recorded(raw, stream))


def query_event(raw: Raw, stream: Any) -> int:
    return raw.status("cuEventQuery", recorded(raw, stream))


def wait_for_stream(raw: Raw, stream: Any) -> int:
    return raw.status("cuStreamSynchronize", stream)


def wait_for_everything(raw: Raw, stream: Any) -> int:
    return raw.status("cuCtxSynchronize")


def allocate(raw: Raw, stream: Any) -> int:
    return raw.status("cuMemAlloc", 64)


def allocate_on_the_stream(raw: Raw, stream: Any) -> int:
    return raw.status("cuMemAllocAsync", 64, stream)


def allocate_pinned(raw: Raw, stream: Any) -> int:
    return raw.status("cuMemHostAlloc", 64, 0)


def copy_pageable(raw: Raw, stream: Any) -> int:
    pageable = np.zeros(8, np.uint8)
    return raw.status("cuMemcpyAsync", MEMORY["address"], pageable.ctypes.data, 8, stream)


def wait_for_a_foreign_event(raw: Raw, stream: Any) -> int:
    event = recorded(raw, raw.stream())
    return raw.status("cuStreamWaitEvent", stream, event, 0)


def join_another_capture(raw: Raw, stream: Any) -> int:
    other = raw.stream()
    raw.begin(other)
    return raw.status("cuStreamWaitEvent", stream, recorded(raw, other), 0)


def use_the_legacy_stream(raw: Raw, stream: Any) -> int:
    return raw.status("cuMemsetD8Async", MEMORY["address"], 1, 8, 0)


def begin_again(raw: Raw, stream: Any) -> int:
    return raw.status("cuStreamBeginCapture", stream, 1)


MEMORY = {"address": 0}
BREAKING: dict[Callable[[Raw, Any], int], Status] = {
    wait_for_event: Status.CAPTURED_EVENT,
    query_event: Status.CAPTURED_EVENT,
    wait_for_stream: Status.CAPTURE_UNSUPPORTED,
    wait_for_everything: Status.CAPTURE_UNSUPPORTED,
    allocate: Status.CAPTURE_UNSUPPORTED,
    allocate_on_the_stream: Status.CAPTURE_UNSUPPORTED,
    allocate_pinned: Status.CAPTURE_UNSUPPORTED,
    copy_pageable: Status.CAPTURE_UNSUPPORTED,
    wait_for_a_foreign_event: Status.CAPTURE_ISOLATION,
    join_another_capture: Status.CAPTURE_MERGE,
    use_the_legacy_stream: Status.CAPTURE_IMPLICIT,
}


@pytest.mark.parametrize("call", BREAKING, ids=lambda call: call.__name__)
def test_a_capture_is_broken_by(raw: Raw, call: Callable[[Raw, Any], int]) -> None:
    MEMORY["address"] = raw.memory(8)
    stream = raw.stream(blocking=True)
    raw.begin(stream)
    assert call(raw, stream) == BREAKING[call]
    assert raw.status("cuMemsetD8Async", MEMORY["address"], 1, 8, stream) == (
        Status.CAPTURE_INVALIDATED
    )
    assert raw.status("cuStreamEndCapture", stream) == Status.CAPTURE_INVALIDATED
    raw.fill(MEMORY["address"], 1, 8, stream)  # the stream works again
    raw("cuStreamSynchronize", stream)


def test_the_legacy_stream_may_be_used_beside_a_stream_that_is_not_blocking(raw: Raw) -> None:
    memory, stream = raw.memory(8), raw.stream()
    raw.begin(stream)
    raw.fill(memory, 1, 8, 0)
    raw.end(stream)


def test_the_legacy_stream_and_a_captured_stream_cannot_be_captured(raw: Raw) -> None:
    stream = raw.stream()
    raw.begin(stream)
    assert begin_again(raw, stream) == Status.CAPTURE_UNSUPPORTED
    assert begin_again(raw, 0) == Status.CAPTURE_UNSUPPORTED


def test_a_capture_ends_where_and_when_it_began(raw: Raw) -> None:
    stream, branch = raw.stream(), raw.stream()
    assert raw.status("cuStreamEndCapture", stream) == Status.CAPTURE_UNMATCHED
    raw.begin(stream)
    raw.order(stream, branch)
    assert raw.status("cuStreamEndCapture", branch) == Status.CAPTURE_UNMATCHED


def test_an_event_of_a_capture_that_has_ended_cannot_be_waited_for(raw: Raw) -> None:
    stream = raw.stream()
    raw.begin(stream)
    event = recorded(raw, stream)
    raw.end(stream)
    other = raw.stream()
    assert raw.status("cuStreamWaitEvent", other, event, 0) == Status.CAPTURE_ISOLATION
    assert raw.status("cuEventSynchronize", event) == Status.CAPTURED_EVENT


def test_another_thread_may_allocate_while_this_one_captures(raw: Raw) -> None:
    stream, found = raw.stream(), list[int]()

    def allocate_elsewhere() -> None:
        raw("cuCtxSetCurrent", raw("cuDevicePrimaryCtxRetain", 0))
        found.append(raw.status("cuMemAlloc", 64))

    for mode in (1, 0):  # thread-local, global
        raw("cuStreamBeginCapture", stream, mode)
        thread = threading.Thread(target=allocate_elsewhere)
        thread.start()
        thread.join()
        raw.status("cuStreamEndCapture", stream)
    assert found == [Status.SUCCESS, Status.CAPTURE_UNSUPPORTED]


def test_a_graph_cannot_be_launched_into_a_capture(raw: Raw) -> None:
    stream = raw.stream()
    raw.begin(stream)
    graph = raw.end(stream)
    raw.begin(stream)
    assert raw.status("cuGraphLaunch", graph, stream) == Status.CAPTURE_UNSUPPORTED
