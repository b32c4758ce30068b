# SPDX-License-Identifier: Apache-2.0
"""Work on the stream of an engine takes its turn in the stream of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from foveate.runtime.devices import Buffer
from foveate.runtime.devices.cpu import CpuEvent, CpuStream
from foveate.runtime.engines.own_stream import OwnStreamEngine


class WorkEngine(OwnStreamEngine):
    def __init__(self, own: CpuStream, work: Callable[[], None]) -> None:
        super().__init__((), (), own)
        self._work = work

    def prepare(self, bindings: Mapping[str, Buffer]) -> Callable[[], None]:
        del bindings
        return self._work

    def close(self) -> None:
        """Do nothing."""


def test_work_runs_between_that_before_it_and_that_after_it() -> None:
    own, stream, order = CpuStream(), CpuStream(), list[str]()
    gate = CpuEvent(CpuStream())
    run = WorkEngine(own, lambda: own.enqueue(order.append, "work")).bind({}, stream)
    stream.wait(gate)
    stream.enqueue(order.append, "before")
    run()
    stream.enqueue(order.append, "after")
    gate.reach(None)
    stream.synchronize()
    assert order == ["before", "work", "after"]


def test_two_images_take_turns() -> None:
    own, streams, order = CpuStream(), [CpuStream(), CpuStream()], list[int]()
    gate = CpuEvent(CpuStream())
    numbers = iter((0, 1))
    engine = WorkEngine(own, lambda: own.enqueue(order.append, next(numbers)))
    for stream in streams:
        stream.wait(gate)
        engine.bind({}, stream)()
    gate.reach(None)
    for stream in streams:
        stream.synchronize()
    assert order == [0, 1]


def test_work_that_was_enqueued_before_an_error_is_waited_for() -> None:
    """The memory of the image may be released as soon as its stream is done."""
    own, stream, order = CpuStream(), CpuStream(), list[str]()
    gate = CpuEvent(CpuStream())

    def fails() -> None:
        own.wait(gate)
        own.enqueue(order.append, "work")
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        WorkEngine(own, fails).bind({}, stream)()
    stream.enqueue(order.append, "after")
    gate.reach(None)
    stream.synchronize()
    assert order == ["work", "after"]
