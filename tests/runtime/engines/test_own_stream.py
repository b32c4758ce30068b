# SPDX-License-Identifier: Apache-2.0
"""Work on the stream of an engine takes its turn in the stream of an image."""

from __future__ import annotations

import pytest

from foveate.runtime.devices.cpu import CpuEvent, CpuStream
from foveate.runtime.engines.own_stream import on_own_stream


def test_work_runs_between_that_before_it_and_that_after_it() -> None:
    own, stream, order = CpuStream(), CpuStream(), list[str]()
    gate = CpuEvent(CpuStream())
    run = on_own_stream(own, stream, lambda: own.enqueue(order.append, "work"))
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
    for number, stream in enumerate(streams):
        stream.wait(gate)
        on_own_stream(own, stream, lambda n=number: own.enqueue(order.append, n))()  # type: ignore[misc]  # a default
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
        on_own_stream(own, stream, fails)()
    stream.enqueue(order.append, "after")
    gate.reach(None)
    stream.synchronize()
    assert order == ["work", "after"]
