# SPDX-License-Identifier: Apache-2.0
"""In-order streams of Python functions, in two makes.

*Threaded* streams, for work: each has a thread of its own. *Scripted* streams, for tests: nothing
runs until somebody waits, and then a given rule decides which stream makes the next step, in any
order that the events allow. A wait that was forgotten thus becomes a wrong result on every run.

NOTE: An error stops its stream: later work of that stream is skipped until an event recorded after
it has reported the error. It does not spread through ``wait``, or one bad image would stop the
streams of all others that wait for their turn. Whoever collects a result therefore synchronises
with every stream that made it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from foveate.runtime.devices.device import Event

Task = Callable[[], None]
Rule = Callable[[Sequence[int]], int]


class _Progress(Protocol):
    """How a stream's tasks get done."""

    def put(self, task: Task, after: CpuEvent | None) -> None: ...

    def reach(self, event: CpuEvent) -> None: ...


class CpuEvent:
    """A point in a stream; see :class:`foveate.runtime.devices.Event`."""

    def __init__(self, stream: CpuStream) -> None:
        self._stream = stream
        self._happened = threading.Event()
        self._failure: Exception | None = None

    @property
    def happened(self) -> bool:
        """Whether the stream got there."""
        return self._happened.is_set()

    def block(self) -> None:
        """Block until the stream got there, without a look at errors."""
        self._happened.wait()

    def happen(self, failure: Exception | None) -> None:
        """Let the event happen, with the error that has stopped its stream."""
        self._failure = failure
        self._happened.set()

    def synchronize(self) -> None:
        """Block until the stream got there; raise the error that stopped the stream, if any."""
        self._stream.reach(self)
        if self._failure is not None:
            self._stream.restart(self._failure)
            raise self._failure


class CpuStream:
    """An in-order stream of Python functions; see :class:`foveate.runtime.devices.Stream`."""

    def __init__(self, progress: _Progress) -> None:
        self._progress = progress
        self._failure: Exception | None = None

    def enqueue(self, function: Callable[..., None], *args: object, **options: object) -> None:
        """Let ``function(*args, **options)`` run when all earlier work is done."""

        def task() -> None:
            if self._failure is None:
                try:
                    function(*args, **options)
                except Exception as error:  # noqa: BLE001 - reported by the next event
                    self._failure = error

        self._progress.put(task, None)

    def record(self) -> CpuEvent:
        """Return an event that happens when all work enqueued so far is done."""
        event = CpuEvent(self)
        self._progress.put(lambda: event.happen(self._failure), None)
        return event

    def wait(self, event: Event) -> None:
        """Let all work enqueued from now on run after ``event``."""
        assert isinstance(event, CpuEvent), f"{event!r} is not an event of the host"
        self._progress.put(event.block, event)

    def synchronize(self) -> None:
        """Block until all work enqueued so far is done; raise the error that stopped it."""
        self.record().synchronize()

    def reach(self, event: CpuEvent) -> None:
        """Make progress until ``event`` of this stream has happened."""
        self._progress.reach(event)

    def restart(self, failure: Exception) -> None:
        """Forget an error that has been reported."""
        if self._failure is failure:
            self._failure = None


class _Thread:
    """Progress by a thread, which ends when its stream is no longer in use.

    It is the thread of an executor, because the interpreter waits for those when it exits. A daemon
    thread that is inside an engine at that moment would abort the process.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def put(self, task: Task, after: CpuEvent | None) -> None:
        del after  # the task itself blocks the thread
        self._executor.submit(task)

    def reach(self, event: CpuEvent) -> None:
        event.block()


class Script:
    """Progress of several streams by a rule.

    Args:
        rule: Gets the numbers of the streams that could make a step and returns one of them.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._queues: list[deque[tuple[Task, CpuEvent | None]]] = []

    def add(self) -> deque[tuple[Task, CpuEvent | None]]:
        """Return the queue of a new stream."""
        self._queues.append(deque())
        return self._queues[-1]

    def run_until(self, event: CpuEvent) -> None:
        """Make steps until ``event`` has happened."""
        while not event.happened:
            ready = [i for i, queue in enumerate(self._queues) if queue and _runnable(queue[0])]
            assert ready, "deadlock: no stream can make a step"
            task, _ = self._queues[self._rule(ready)].popleft()
            task()


def _runnable(entry: tuple[Task, CpuEvent | None]) -> bool:
    return entry[1] is None or entry[1].happened


class _Scripted:
    """Progress of one stream of a script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks = script.add()

    def put(self, task: Task, after: CpuEvent | None) -> None:
        self._tasks.append((task, after))

    def reach(self, event: CpuEvent) -> None:
        self._script.run_until(event)


def threaded_stream(name: str) -> CpuStream:
    """Return a stream with a thread of its own."""
    return CpuStream(_Thread(name))


def scripted_stream(script: Script) -> CpuStream:
    """Return a stream that makes its steps as a script decides."""
    return CpuStream(_Scripted(script))
