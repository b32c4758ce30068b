# SPDX-License-Identifier: Apache-2.0
"""Pieces of work that share bytes and that nothing orders are reported, whatever order they ran in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.memory import Noted
from tests.simulated_gpu.driver.order import intervals, shared
from tests.simulated_gpu.driver.raw import Raw
from tests.simulated_gpu.driver.simulation import Simulation

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=8)


@given(one=PAIRS, other=PAIRS)
def test_shared_bytes_are_those_of_both(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    sets = [
        {b for start, size in pairs for b in range(start, start + size)} for pairs in (one, other)
    ]
    merged = [intervals((start, start + size) for start, size in pairs) for pairs in (one, other)]
    found, both = shared(*merged), sets[0] & sets[1]
    assert (found is None) == (not both)
    if found is not None:
        assert found[0] == min(both)
        assert set(range(*found)) <= both


@given(st.lists(st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 30)), max_size=12))
def test_touched_bytes_are_noted_once_in_order(accesses: list[tuple[int, int]]) -> None:
    noted = Noted(1024)
    for size, index in accesses:
        noted.mark(np.array([size * index]), size)
    noted.pairs.append((700, 703))
    bytes_of = {b for size, index in accesses for b in range(size * index, size * (index + 1))}
    found = noted.take()
    assert {b for start, end in found.tolist() for b in range(start, end)} == bytes_of | {
        700,
        701,
        702,
    }
    assert (found[1:, 0] > found[:-1, 1]).all()
    assert len(noted.take()) == 0


def two_fills(raw: Raw, memory: int, first: Any, second: Any, shift: int = 0) -> None:
    raw.fill(memory, 1, 8, first)
    raw.fill(memory + shift, 2, 8, second)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_work_of_two_streams_on_the_same_bytes_is_reported(seed: int | None) -> None:
    with connected(Simulation(seed=seed)) as simulated:
        raw = Raw()
        two_fills(raw, raw.memory(64), raw.stream(), raw.stream(), shift=7)
        raw("cuCtxSynchronize")
        (conflict,) = simulated.conflicts
    assert (conflict.first, conflict.second) == ("set 8 (task 1)", "set 8 (task 2)")
    assert conflict.place.startswith("1 bytes at byte 7 of 'device memory at")
    assert not conflict.one_graph


def test_work_on_neighboring_bytes_is_no_conflict(raw: Raw, simulated: Simulation) -> None:
    two_fills(raw, raw.memory(64), raw.stream(), raw.stream(), shift=8)
    raw("cuCtxSynchronize")
    assert simulated.conflicts == []


def test_two_reads_are_no_conflict(raw: Raw, simulated: Simulation) -> None:
    memory, stream = raw.memory(64), raw.stream()
    raw.fill(memory, 1, 64, stream)
    raw("cuStreamSynchronize", stream)
    for _ in range(2):
        raw.copy(raw.memory(64), memory, 64, raw.stream())
    raw("cuCtxSynchronize")
    assert simulated.conflicts == []


def test_events_in_a_row_order_work(raw: Raw, simulated: Simulation) -> None:
    memory, streams = raw.memory(64), [raw.stream() for _ in range(3)]
    raw.fill(memory, 1, 8, streams[0])
    raw.order(streams[0], streams[1])
    raw.order(streams[1], streams[2])
    raw.fill(memory, 2, 8, streams[2])
    raw("cuCtxSynchronize")
    assert simulated.conflicts == []


def test_a_wait_of_the_cpu_orders_work(raw: Raw, simulated: Simulation) -> None:
    memory, first, second = raw.memory(64), raw.stream(), raw.stream()
    raw.fill(memory, 1, 8, first)
    raw("cuStreamSynchronize", first)
    raw.fill(memory, 2, 8, second)
    raw("cuCtxSynchronize")
    assert simulated.conflicts == []


def test_work_that_happens_to_be_done_is_not_ordered_by_that() -> None:
    with connected(Simulation()) as simulated:
        raw = Raw()
        memory, first, second = raw.memory(64), raw.stream(), raw.stream()
        raw.fill(memory, 1, 8, first)
        raw.fill(raw.memory(8), 1, 8, second)
        raw("cuStreamSynchronize", second)
        assert len(simulated.streams.history) == 2
        raw.fill(memory, 2, 8, second)
        raw("cuStreamSynchronize", second)
        assert len(simulated.conflicts) == 1


def graph_with_branches(raw: Raw, shift: int) -> tuple[Any, Any]:
    """Capture two branches, whose fills begin so many bytes apart."""
    origin, branch, memory = raw.stream(), raw.stream(), raw.memory(64)
    raw.begin(origin)
    raw.order(origin, branch)
    two_fills(raw, memory, origin, branch, shift)
    raw.order(branch, origin)
    return raw.end(origin), origin


def test_a_buffer_that_two_branches_of_a_graph_share_is_named(
    raw: Raw, simulated: Simulation
) -> None:
    graph, stream = graph_with_branches(raw, shift=4)
    raw("cuGraphLaunch", graph, stream)
    raw("cuStreamSynchronize", stream)
    (conflict,) = simulated.conflicts
    assert conflict.one_graph
    assert conflict.place.startswith("4 bytes at byte 4 of 'device memory at")


def test_branches_on_bytes_of_their_own_are_no_conflict(raw: Raw, simulated: Simulation) -> None:
    graph, stream = graph_with_branches(raw, shift=8)
    for _ in range(2):
        raw("cuGraphLaunch", graph, stream)
    raw("cuStreamSynchronize", stream)
    assert simulated.conflicts == []


def test_a_slot_that_is_used_again_too_early_is_reported(raw: Raw, simulated: Simulation) -> None:
    # The result of the first image is still being copied when the second one overwrites it.
    memory, result = raw.memory(64), raw.pinned(64)
    computing, copying = raw.stream(), raw.stream()
    raw.fill(memory, 1, 64, computing)
    raw.order(computing, copying)
    raw.copy(result, memory, 64, copying)
    raw.fill(memory, 2, 64, computing)
    raw("cuCtxSynchronize")
    (conflict,) = simulated.conflicts
    assert conflict.first == "copy DtoH 64 (task 2)"


def test_pinned_memory_is_seen(raw: Raw, simulated: Simulation) -> None:
    staging, first, second = raw.pinned(64), raw.stream(), raw.stream()
    raw.copy(raw.memory(64), staging, 64, first)
    raw.copy(staging, raw.memory(64), 64, second)
    raw("cuCtxSynchronize")
    (conflict,) = simulated.conflicts
    assert conflict.place.startswith("64 bytes at byte 0 of 'pinned memory at")


@pytest.mark.parametrize(("waits", "count"), [(True, 0), (False, 1)])
def test_an_access_of_the_cpu_must_come_after_a_wait(
    raw: Raw, simulated: Simulation, waits: bool, count: int
) -> None:
    memory, result, stream = raw.memory(64), raw.pinned(64), raw.stream()
    raw.copy(result, memory, 64, stream)
    if waits:
        raw("cuStreamSynchronize", stream)
    simulated.cpu_touches(result.ctypes.data, result.nbytes, write=False)
    raw("cuStreamSynchronize", stream)
    assert len(simulated.conflicts) == count


def test_memory_that_is_freed_or_allocated_too_early_is_reported(
    raw: Raw, simulated: Simulation
) -> None:
    first, second = raw.stream(), raw.stream()
    memory = int(raw("cuMemAllocAsync", 64, first))
    raw.fill(memory, 1, 8, second)
    raw.order(second, first)
    raw("cuMemFreeAsync", memory, first)
    raw("cuCtxSynchronize")
    (conflict,) = simulated.conflicts
    assert conflict.first == "allocate 64 (task 1)"
