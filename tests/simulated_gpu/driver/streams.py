# SPDX-License-Identifier: Apache-2.0
"""Streams, events and captures; work runs in any order that they allow.

Nothing runs when it is enqueued. When the CPU waits, tasks run one after the other, and the rule
chooses among those whose predecessors are done, so that a forgotten wait becomes a wrong result.
A capture records nodes in place of tasks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulated_gpu.driver.faults import STICKY, Refused, Status
from tests.simulated_gpu.driver.memory import DeviceMemory
from tests.simulated_gpu.driver.order import Accesses, Order

Run = Callable[[], None]
Rule = Callable[[int], int]


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

    ends: frozenset[Task] = frozenset()
    recorded: bool = False
    capture: Capture | None = None
    nodes: frozenset[Node] = frozenset()


class Streams:
    """All streams of a simulated GPU.

    Args:
        memory: Memory, which notes accesses.
        rule: From a number n to one of 0 to n - 1: which of n tasks that can run is next.
    """

    def __init__(self, memory: DeviceMemory, rule: Rule) -> None:
        self.memory = memory
        self.rule = rule
        self.order = Order(memory)
        self.legacy = Stream(legacy=True)
        self.all: list[Stream] = [self.legacy]
        self.history: list[Task] = []
        self.failure = 0
        self.fault: BaseException | None = None
        self._pending: list[Task] = []
        self._count = 0

    def enqueue(self, stream: Stream, kind: str, name: str, run: Run) -> None:
        """Enqueue work on a stream, or record it as a node."""
        if stream.capture is not None:
            self.check_capture(stream.capture)
            node = Node(kind, name, run, stream.nodes)
            stream.capture.nodes.append(node)
            stream.nodes = frozenset([node])
            return
        before = stream.ends
        others = self._blocking() if stream.legacy else []
        if stream.legacy:  # it comes after all work of blocking streams, and they come after it
            self.refuse_implicit()
            before = before.union(*(other.ends for other in others))
        elif stream.blocking:
            before |= self.legacy.ends
        stream.ends = frozenset([self.add(kind, name, run, before)])
        for other in others:
            other.ends = stream.ends

    def add(
        self, kind: str, name: str, run: Run, before: frozenset[Task], launch: int | None = None
    ) -> Task:
        """Add a task after others."""
        self._count += 1
        task = Task(kind, name, run, before, self._count, launch)
        self.order.enqueued(task)
        self._pending.append(task)
        return task

    def record(self, event: Event, stream: Stream) -> None:
        """Record an event; in a capture it belongs to the capture."""
        if stream.capture is not None:
            self.check_capture(stream.capture)
        ends = stream.ends
        if stream.legacy:
            self.refuse_implicit()
            ends = ends.union(*(other.ends for other in self._blocking()))
        event.recorded = True
        event.ends, event.nodes, event.capture = ends, stream.nodes, stream.capture

    def wait(self, stream: Stream, event: Event) -> None:
        """Let a stream wait for an event; waiting for one of a capture joins the capture."""
        if event.capture is None:
            if stream.capture is None:
                if stream.legacy:
                    self.refuse_implicit()
                stream.ends |= event.ends
            elif event.recorded:
                stream.capture.broken = True
                raise Refused(Status.CAPTURE_ISOLATION, "the event is not of this capture")
            return
        if event.capture not in [other.capture for other in self.all]:
            raise Refused(Status.CAPTURE_ISOLATION, "the event is of a capture that has ended")
        if stream.capture is None:
            if stream.legacy:
                event.capture.broken = True
                raise Refused(Status.CAPTURE_IMPLICIT, "the legacy stream cannot be captured")
            stream.capture, stream.nodes = event.capture, frozenset()
        elif stream.capture is not event.capture:
            stream.capture.broken = event.capture.broken = True
            raise Refused(Status.CAPTURE_MERGE, "the event is of another capture")
        stream.nodes |= event.nodes

    def synchronize(self, ends: frozenset[Task]) -> None:
        """Run tasks until some are done; the CPU knows it then."""
        while not all(task.done for task in ends):
            self._step()
        self._known(ends)

    def synchronize_all(self) -> None:
        """Run all tasks."""
        self.drain()
        if self.failure:
            raise Refused(self.failure, repr(self.fault))

    def drain(self) -> None:
        """Run all tasks, whether or not the context is corrupted."""
        while self._pending:
            self._step()
        self.order.waited_for_all()

    def query(self, ends: frozenset[Task]) -> None:
        """Run at most one task, so that polling comes to an end.

        Raises:
            Refused: Not all are done.
        """
        if not all(task.done for task in ends) and self._pending:
            self._step()
        if not all(task.done for task in ends):
            raise Refused(Status.NOT_READY)
        self._known(ends)

    def _known(self, ends: frozenset[Task]) -> None:
        self.order.waited(ends)
        if self.failure:
            raise Refused(self.failure, repr(self.fault))

    def _step(self) -> None:
        ready = [task for task in self._pending if all(other.done for other in task.before)]
        self._run(ready[self.rule(len(ready))])

    def run_now(self, kind: str, name: str, run: Run) -> None:
        """Do something that is ordered with the GPU only by what the CPU has waited for."""
        task = self.add(kind, name, run, frozenset())
        self._run(task)
        self.order.waited([task])

    def _run(self, task: Task) -> None:
        self._pending.remove(task)
        try:
            if not self.failure:
                task.run()
                self.history.append(task)
        except Refused as error:
            self.failure, self.fault = error.status, error
        except Exception as error:  # noqa: BLE001 - the context is lost, as on a real GPU
            self.failure, self.fault = Status.ILLEGAL_ADDRESS, error
        task.accesses = self.memory.take_accesses()
        task.done = True
        self.order.ran(task)

    def _blocking(self) -> list[Stream]:
        return [one for one in self.all if one.blocking and not one.legacy and not one.capture]

    # Captures -----------------------------------------------------------------------------------
    def begin_capture(self, stream: Stream, mode: int) -> Capture:
        """Record what is enqueued on a stream from now on."""
        if stream.legacy or stream.capture is not None:
            raise Refused(Status.CAPTURE_UNSUPPORTED, "the stream cannot be captured")
        stream.capture, stream.nodes = Capture(stream, mode), frozenset()
        return stream.capture

    def end_capture(self, stream: Stream) -> Capture:
        """End a capture, which must be complete."""
        capture = stream.capture
        if capture is None or capture.origin is not stream:
            raise Refused(Status.CAPTURE_UNMATCHED, "the capture did not begin on this stream")
        if capture.mode != RELAXED and capture.thread != threading.get_ident():
            raise Refused(Status.CAPTURE_WRONG_THREAD, "the capture began in another thread")
        reached: set[Node] = set()
        waiting = list(stream.nodes)
        while waiting:
            node = waiting.pop()
            if node not in reached:
                reached.add(node)
                waiting += node.before
        for other in self.all:
            if other.capture is capture:
                other.capture, other.nodes = None, frozenset()
        self.check_capture(capture)
        if lost := [node for node in capture.nodes if node not in reached]:
            raise Refused(Status.CAPTURE_UNJOINED, f"not joined: {lost[-1].kind} {lost[-1].name}")
        return capture

    @staticmethod
    def check_capture(capture: Capture) -> None:
        """Refuse to go on with a capture that is broken."""
        if capture.broken:
            raise Refused(Status.CAPTURE_INVALIDATED, "an earlier call broke the capture")

    def refuse_captured(self, stream: Stream, what: str) -> None:
        """Refuse what a stream that is captured cannot do, and break the capture."""
        if stream.capture is not None:
            stream.capture.broken = True
            raise Refused(Status.CAPTURE_UNSUPPORTED, what)

    def refuse_unsafe(self, what: str) -> None:
        """Refuse a call that may synchronize, such as an allocation, while something is captured.

        In the mode "relaxed" a real driver permits it; a test wants to see it in every mode. The
        captures of other threads forbid it in the mode "global" only, as those of a real driver.
        """
        for stream in self.all:
            capture = stream.capture
            if capture and (capture.mode == GLOBAL or capture.thread == threading.get_ident()):
                capture.broken = True
                raise Refused(Status.CAPTURE_UNSUPPORTED, f"{what} while a stream is captured")

    def refuse_implicit(self) -> None:
        """Refuse work on the legacy stream while a blocking stream is captured."""
        captures = [one.capture for one in self.all if one.capture and one.blocking]
        for capture in captures:
            capture.broken = True
        if captures:
            raise Refused(Status.CAPTURE_IMPLICIT, "the legacy stream would wait for a capture")


GLOBAL, RELAXED = 0, 2
assert Status.ILLEGAL_ADDRESS in STICKY
