# SPDX-License-Identifier: Apache-2.0
"""The CPU with streams that a rule interleaves.

Nothing runs until a result is waited for. Then the rule decides which stream runs its next task, in
any order that the events allow, so that a forgotten wait becomes a wrong result on every run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from foveate.runtime.devices.cpu import CpuDevice, CpuEvent, CpuStream
from foveate.runtime.devices.device import Event

Task = Callable[[], None]
Rule = Callable[[Sequence[int]], int]
Queue = deque[tuple[Task, "ScriptedEvent | None"]]


class ScriptedDevice(CpuDevice):
    """A device whose streams run by a rule.

    Args:
        rule: Gets the numbers of the streams that can run a task, and returns one of them.
    """

    name = "scripted"  # or a pipeline would have one stream only, as on the CPU

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self._rule = rule
        self._queues: list[Queue] = []

    def stream(self) -> CpuStream:
        self._queues.append(deque())
        return ScriptedStream(self, self._queues[-1])

    def run_until(self, event: ScriptedEvent) -> None:
        while not event.reached:
            ready = [i for i, queue in enumerate(self._queues) if queue and can_run(*queue[0])]
            assert ready, "deadlock: no stream can run a task"
            task, _ = self._queues[self._rule(ready)].popleft()
            task()


class ScriptedStream(CpuStream):
    def __init__(self, device: ScriptedDevice, tasks: Queue) -> None:
        super().__init__()
        self._device, self._queue = device, tasks

    def submit(self, task: Task) -> None:
        self._queue.append((task, None))

    def record(self) -> CpuEvent:
        event = ScriptedEvent(self, self._device)
        self.submit(lambda: event.reach(self._failure))
        return event

    def wait(self, event: Event) -> None:
        assert isinstance(event, ScriptedEvent)
        self._queue.append((event.block, event))


class ScriptedEvent(CpuEvent):
    def __init__(self, stream: CpuStream, device: ScriptedDevice) -> None:
        super().__init__(stream)
        self._device = device

    @property
    def reached(self) -> bool:
        return self._reached.is_set()

    def synchronize(self) -> None:
        self._device.run_until(self)
        super().synchronize()


def can_run(_: Task, after: ScriptedEvent | None) -> bool:
    return after is None or after.reached
