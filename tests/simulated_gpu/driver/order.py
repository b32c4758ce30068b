# SPDX-License-Identifier: Apache-2.0
"""Proof of order: pieces of work that share bytes, and that nothing orders.

Each piece of work has the pieces that come before it: by its stream, by events, by the graph whose
node it is, or because the CPU had waited for them when it enqueued the work. Whatever ran in between
does not matter: two pieces that are ordered by nothing and of which one writes bytes that the other
reads or writes are a conflict, even if they ran in the wanted order this time.

The CPU counts as one thread, whichever of its threads makes a call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tests.simulated_gpu.driver.work import Task

Intervals = NDArray[np.int64]  # (n, 2): start and end, sorted, disjoint


def intervals(pairs: Iterable[tuple[int, int]]) -> Intervals:
    """Return sorted intervals that are merged where they touch."""
    merged: list[list[int]] = []
    for start, end in sorted(pairs):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        elif start < end:
            merged.append([start, end])
    return np.array(merged, np.int64).reshape(-1, 2)


def shared(one: Intervals, other: Intervals) -> tuple[int, int] | None:
    """Return the first bytes that two lists of intervals have in common."""
    if not len(one) or not len(other):
        return None
    # The first interval of `other` that ends after the start of each of `one`.
    index = np.searchsorted(other[:, 1], one[:, 0], "right")
    inside = index < len(other)
    starts = other[np.minimum(index, len(other) - 1), 0]
    hit = inside & (starts < one[:, 1])
    if not hit.any():
        return None
    at = int(np.argmax(hit))
    start = max(int(one[at, 0]), int(starts[at]))
    return start, min(int(one[at, 1]), int(other[index[at], 1]))


def nothing() -> Intervals:
    """Return no intervals."""
    return np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class Accesses:
    """Bytes that a piece of work read and wrote, as offsets in the arena."""

    reads: Intervals = field(default_factory=nothing)
    writes: Intervals = field(default_factory=nothing)

    def conflict(self, other: Accesses) -> tuple[int, int] | None:
        """Return bytes that both touch and at least one writes."""
        return (
            shared(self.writes, other.writes)
            or shared(self.writes, other.reads)
            or shared(self.reads, other.writes)
        )


@dataclass(frozen=True)
class Conflict:
    """Two pieces of work that share bytes and that nothing orders.

    Attributes:
        first: Name of the one that was enqueued first.
        second: Name of the other.
        place: Description of the bytes.
        one_graph: Whether both are nodes of one launch of a graph.
    """

    first: str
    second: str
    place: str
    one_graph: bool


class Order:
    """What comes before what.

    Args:
        memory: Describes offsets by ``describe``.
    """

    def __init__(self, memory: Any) -> None:
        self.conflicts: list[Conflict] = []
        self._memory = memory
        self._open: set[Task] = set()  # the CPU does not know that they are done

    def enqueued(self, task: Task) -> None:
        """Note what a task comes after, and what nothing orders with it."""
        earlier = set(task.before)
        for other in task.before:
            earlier |= other.earlier
        task.earlier = earlier & self._open
        task.rivals = self._open - earlier
        for rival in task.rivals:
            if not rival.done:
                rival.rivals.add(task)
        self._open.add(task)

    def ran(self, task: Task) -> None:
        """Compare a task with those rivals that have run."""
        for rival in task.rivals:
            if rival.done:
                self._compare(rival, task)
        task.rivals = set()

    def waited(self, tasks: Iterable[Task]) -> None:
        """Note that the CPU knows that tasks are done, hence all that comes before them."""
        known = set(tasks)
        for task in list(known):
            known |= task.earlier
        self._open -= known
        for task in known:
            task.earlier = set()
            task.before = frozenset()

    def waited_for_all(self) -> None:
        """Note that the CPU knows that everything is done."""
        self.waited(list(self._open))

    def _compare(self, one: Task, other: Task) -> None:
        found = one.accesses.conflict(other.accesses)
        if found is None:
            return
        first, second = sorted((one, other), key=lambda task: task.number)
        start, end = found
        self.conflicts.append(
            Conflict(
                first=first.label,
                second=second.label,
                place=f"{end - start} bytes {self._memory.describe(start)}",
                one_graph=first.launch is not None and first.launch == second.launch,
            )
        )
