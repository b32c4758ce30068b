# SPDX-License-Identifier: Apache-2.0
"""Times of work on a GPU by events, and what the bandwidth of a plain copy predicts."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_streams import CudaStream, cuda_stream
from foveate.selftest.running import Call, PreparedCall

ROUNDS, REPEATS = 9, 20


def copy_bandwidth(device: CudaDevice, size: int = 1 << 26) -> float:
    """Return the bytes per second, read and written, of a copy within the memory of the device."""
    byte = np.dtype(np.uint8)
    source, target = device.mirror((size,), byte), device.allocate((size,), byte)
    stream = device.stream()
    source.send(stream)  # memory that was never written may lie nowhere
    seconds = _median(device, stream, lambda: device.copy(source.buffer, target, stream))
    return 2 * size / max(seconds, 1e-9)


def seconds_of(device: CudaDevice, call: Call) -> tuple[float, int]:
    """Return the seconds that a call takes without its copies, and the bytes that it must move."""
    prepared = PreparedCall(device, call)
    stream = cuda_stream(prepared.stream)
    return _median(device, stream, prepared.enqueue), prepared.nbytes


def _median(device: CudaDevice, stream: CudaStream, enqueue: Callable[[], None]) -> float:
    """Return the seconds of one of the calls, which are launched together as one graph."""

    def repeat() -> None:
        for _ in range(REPEATS):
            enqueue()

    program = device.program([stream], repeat, capturable=True)
    program.launch()
    times = []
    for _ in range(ROUNDS):
        begin = stream.record(timed=True)
        program.launch()
        end = stream.record(timed=True)
        end.synchronize()
        times.append(end.milliseconds_since(begin) / REPEATS * 1e-3)
    return statistics.median(times)
