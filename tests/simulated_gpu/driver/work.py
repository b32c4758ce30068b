# SPDX-License-Identifier: Apache-2.0
"""What is enqueued on streams and recorded by captures: tasks, nodes, and what orders them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulated_gpu.driver.order import Accesses

Run = Callable[[], None]


@dataclass(eq=False)
class Node:
    """A node of a graph: what it does, and the nodes that come before it."""

    kind: str
    name: str
    run: Run
    before: frozenset[Node]


@dataclass(eq=False)
class Task:
    """A piece of work that was enqueued.

    Attributes:
        kind: "launch", "copy", "set", "engine", "host", "allocate" or "free".
        name: Name with details.
        run: Does it.
        before: Tasks that come right before.
        number: Tasks are numbered as they are enqueued.
        launch: Number of the launch of a graph that it belongs to.
        earlier: All tasks before it that the CPU did not know to be done.
        rivals: Tasks that nothing orders with it, as far as they are not compared yet.
    """

    kind: str
    name: str
    run: Run
    before: frozenset[Task]
    number: int
    launch: int | None = None
    done: bool = False
    accesses: Accesses = field(default_factory=Accesses)
    earlier: set[Task] = field(default_factory=set)
    rivals: set[Task] = field(default_factory=set)

    @property
    def label(self) -> str:
        """Name and number for a message."""
        graph = "" if self.launch is None else f" in launch {self.launch} of a graph"
        return f"{self.kind} {self.name} (task {self.number}{graph})"


@dataclass(eq=False)
class Capture:
    """A capture that goes on; ``broken`` is set by a call that is not permitted meanwhile."""

    origin: Stream
    mode: int
    thread: int = field(default_factory=threading.get_ident)
    nodes: list[Node] = field(default_factory=list)
    broken: bool = False
    handle: int = 0


@dataclass(eq=False)
class Stream:
    """A queue: ``ends`` are the tasks, in a capture the nodes, that the next one comes after."""

    blocking: bool = True
    legacy: bool = False
    context: int = 0
    ends: frozenset[Task] = frozenset()
    capture: Capture | None = None
    nodes: frozenset[Node] = frozenset()


@dataclass(eq=False)
class Event:
    """What had been enqueued on a stream when the event was recorded."""

    context: int = 0
    timed: bool = False
    ends: frozenset[Task] = frozenset()
    recorded: bool = False
    capture: Capture | None = None
    nodes: frozenset[Node] = frozenset()
