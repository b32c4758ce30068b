# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
from tests.samples.scripted_device import ScriptedDevice

from foveate.kernels.op import Op
from foveate.runtime.devices import CpuDevice, CpuStream

FLOAT = np.dtype(np.float32)


def first(ready: Sequence[int]) -> int:
    return ready[0]


def last(ready: Sequence[int]) -> int:
    return ready[-1]


DEVICES = [CpuDevice, partial(ScriptedDevice, first), partial(ScriptedDevice, last)]


@pytest.mark.parametrize("make", DEVICES)
def test_a_stream_keeps_its_order(make: Callable[[], CpuDevice]) -> None:
    stream, seen = make().stream(), list[object]()
    for number in range(50):
        stream.enqueue(seen.append, number)
    stream.synchronize()
    assert seen == list(range(50))


@pytest.mark.parametrize("make", DEVICES)
def test_a_wait_orders_two_streams(make: Callable[[], CpuDevice]) -> None:
    device, seen = make(), list[object]()
    producer, consumer = device.stream(), device.stream()
    producer.enqueue(time.sleep, 0.01)
    producer.enqueue(seen.append, "made")
    consumer.wait(producer.record())
    consumer.enqueue(seen.append, "used")
    consumer.synchronize()
    assert seen == ["made", "used"]


def test_a_missing_wait_is_a_wrong_order_in_a_script() -> None:
    device, seen = ScriptedDevice(last), list[object]()
    producer, consumer = device.stream(), device.stream()
    producer.enqueue(seen.append, "made")
    consumer.enqueue(seen.append, "used")
    consumer.synchronize()
    assert seen == ["used"]


def test_nothing_runs_in_a_script_before_somebody_waits() -> None:
    stream, seen = ScriptedDevice(first).stream(), list[object]()
    stream.enqueue(seen.append, 1)
    assert seen == []
    stream.synchronize()
    assert seen == [1]


def test_a_script_without_a_possible_step_is_a_deadlock() -> None:
    device = ScriptedDevice(first)
    one, other = device.stream(), device.stream()
    never = ScriptedDevice(first).stream().record()
    one.wait(never)
    with pytest.raises(AssertionError, match="deadlock"):
        one.synchronize()
    assert isinstance(other, CpuStream)


def fail() -> None:
    raise ValueError("broken")


@pytest.mark.parametrize("make", DEVICES)
def test_an_error_stops_the_stream_until_it_is_reported(make: Callable[[], CpuDevice]) -> None:
    stream, seen = make().stream(), list[object]()
    stream.enqueue(fail)
    stream.enqueue(seen.append, "skipped")
    with pytest.raises(ValueError, match="broken"):
        stream.synchronize()
    stream.enqueue(seen.append, "after")
    stream.synchronize()
    assert seen == ["after"]


def test_an_error_does_not_stop_a_stream_that_waits_for_its_turn() -> None:
    device, seen = CpuDevice(), list[object]()
    broken, other = device.stream(), device.stream()
    broken.enqueue(fail)
    other.wait(broken.record())
    other.enqueue(seen.append, "done")
    other.synchronize()
    assert seen == ["done"]


def test_a_program_launches_operations_on_what_was_sent_each_time() -> None:
    def double(source: np.ndarray, target: np.ndarray, *, plus: float) -> None:
        np.multiply(source, 2, out=target)
        target += plus

    op = Op("double", cpu=double, outputs=("target",))
    device = CpuDevice()
    stream, source, target = device.stream(), device.mirror((3,), FLOAT), device.mapped((3,), FLOAT)
    program = device.program(
        [stream],
        lambda: device.launch(op, stream, source.buffer, target.buffer, plus=0.5),
        capturable=True,
    )
    for offset in (0, 10):
        source.array[:] = [offset + 1, offset + 2, offset + 3]
        source.send(stream)
        end = program.launch()
        target.fetch(stream)
        end.synchronize()
        assert target.array.tolist() == [2 * offset + number for number in (2.5, 4.5, 6.5)]


def test_a_program_waits_for_all_streams_and_raises_the_error_of_one() -> None:
    device, seen = CpuDevice(), list[str]()
    main, side = device.stream(), device.stream()

    def enqueue() -> None:
        main.enqueue(fail)
        side.enqueue(time.sleep, 0.05)
        side.enqueue(seen.append, "side")

    end = device.program([main, side], enqueue, capturable=False).launch()
    with pytest.raises(ValueError, match="broken"):
        end.synchronize()
    assert seen == ["side"]


def test_views_share_memory() -> None:
    buffer = CpuDevice().allocate((24,), np.dtype(np.uint8))
    view = buffer.view((2, 3), FLOAT)
    view.array[:] = 1
    assert buffer.array.view(np.float32).tolist() == [1] * 6
    assert view.part(1, 2).shape == (1, 3)
    with pytest.raises(AssertionError, match="24 are here"):
        buffer.view((7,), FLOAT)


def test_threads_end_with_their_streams() -> None:
    before = set(threading.enumerate())
    streams = [CpuDevice().stream() for _ in range(5)]
    for stream in streams:
        stream.synchronize()
    fresh = set(threading.enumerate()) - before
    assert len(fresh) == 5
    del streams, stream
    gc.collect()
    for thread in fresh:
        thread.join(5)
        assert not thread.is_alive()
