# SPDX-License-Identifier: Apache-2.0
"""Streams and events; work runs in any order that they allow.

Nothing runs when it is enqueued. When the CPU waits, tasks run one after the other, and the rule
chooses among those whose predecessors are done, so that a forgotten wait becomes a wrong result.
A capture records nodes in place of tasks.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from tests.simulated_gpu.driver.captures import Captures
from tests.simulated_gpu.driver.faults import Refused, Status
from tests.simulated_gpu.driver.memory import DeviceMemory
from tests.simulated_gpu.driver.order import Order
from tests.simulated_gpu.driver.work import Event, Node, Run, Stream, Task

Rule = Callable[[int], int]


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
        self.captures = Captures(self.all)
        self.history: list[Task] = []
        self.failure = 0
        self.fault: BaseException | None = None
        self._pending: list[Task] = []
        self._count = 0

    def enqueue(self, stream: Stream, kind: str, name: str, run: Run) -> None:
        """Enqueue work on a stream, or record it as a node."""
        if stream.capture is not None:
            self.captures.check(stream.capture)
            node = Node(kind, name, run, stream.nodes)
            stream.capture.nodes.append(node)
            stream.nodes = frozenset([node])
            return
        self.put_last(stream, frozenset([self.add(kind, name, run, self.before(stream))]))

    def before(self, stream: Stream) -> frozenset[Task]:
        """Return what the next work of a stream comes after."""
        if stream.legacy:  # after all work of blocking streams
            self.captures.refuse_implicit()
            return stream.ends.union(*(other.ends for other in self._blocking()))
        return stream.ends | self.legacy.ends if stream.blocking else stream.ends

    def put_last(self, stream: Stream, tasks: frozenset[Task]) -> None:
        """Let the next work of a stream come after some tasks, which are the last ones now."""
        stream.ends = tasks
        if stream.legacy:
            for other in self._blocking():
                other.ends = tasks

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
            self.captures.check(stream.capture)
        event.recorded = True
        event.ends, event.nodes, event.capture = self.before(stream), stream.nodes, stream.capture

    def wait(self, stream: Stream, event: Event) -> None:
        """Let a stream wait for an event; waiting for one of a capture joins the capture."""
        if event.capture is not None:
            self.captures.join(stream, event)
        elif stream.capture is None:
            if stream.legacy:
                self.captures.refuse_implicit()
            stream.ends |= event.ends
        elif event.recorded:
            stream.capture.broken = True
            raise Refused(Status.CAPTURE_ISOLATION, "the event is not of this capture")

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
            traceback.print_exception(error)  # of which the status of a call tells nothing
            self.failure, self.fault = Status.ILLEGAL_ADDRESS, error
        task.accesses = self.memory.take_accesses()
        task.run = _nothing  # so that what the work refers to does not live on in the history
        task.done = True
        self.order.ran(task)

    def _blocking(self) -> list[Stream]:
        return [one for one in self.all if one.blocking and not one.legacy and not one.capture]


def _nothing() -> None:
    """Stand for work that is done."""
