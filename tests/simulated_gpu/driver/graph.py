# SPDX-License-Identifier: Apache-2.0
"""Graphs: what a capture recorded, and launches of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulated_gpu.driver.streams import Streams
from tests.simulated_gpu.driver.work import Node, Stream, Task

_LAUNCHES = itertools.count(1)


@dataclass(eq=False)
class UserObject:
    """Something that lives as long as graphs refer to it."""

    destroy: Callable[[], None]
    count: int

    def release(self, count: int) -> None:
        """Give references back."""
        self.count -= count
        if self.count == 0:
            self.destroy()


@dataclass(eq=False)
class Graph:
    """Nodes, each listed after those that come before it."""

    nodes: list[Node]
    held: list[UserObject] = field(default_factory=list)

    @property
    def kinds(self) -> Counter[str]:
        """Number of nodes by kind."""
        return Counter(node.kind for node in self.nodes)


@dataclass(eq=False)
class Executable:
    """A graph that can be launched.

    Attributes:
        graph: What it was made of; a destroyed graph leaves it as it is.
        ends: Tasks of its last launch: two launches never run at the same time.
    """

    graph: Graph
    ends: frozenset[Task] = frozenset()

    def launch(self, streams: Streams, stream: Stream) -> None:
        """Enqueue all nodes after what is on a stream."""
        streams.captures.refuse_captured(stream, "a graph cannot be launched into a capture")
        before = streams.before(stream) | self.ends
        number = next(_LAUNCHES)
        tasks: dict[Node, Task] = {}
        for node in self.graph.nodes:
            own = frozenset(tasks[other] for other in node.before)
            tasks[node] = streams.add(node.kind, node.name, node.run, own or before, number)
        inner = {other for node in self.graph.nodes for other in node.before}
        last = frozenset(tasks[node] for node in self.graph.nodes if node not in inner)
        self.ends = last or before
        streams.put_last(stream, self.ends)
