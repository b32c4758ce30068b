# SPDX-License-Identifier: Apache-2.0
"""Times of launches by events, beside what their bytes predict at the bandwidth of a plain copy."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TypedDict

import numpy as np
from tests.gpu.operations import CASES, Call
from tests.kernels.running import buffers_of, empty, flat, mirrors_of

from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_streams import CudaStream

BYTE = np.dtype(np.uint8)
ROUNDS, REPEATS = 9, 20
SCALES = {"letterbox": 20, "resize": 20}  # as large as images are


class Timing(TypedDict):
    """One operation: bytes that it must move, and milliseconds."""

    bytes: int
    milliseconds: float
    predicted_milliseconds: float


def copy_bandwidth(device: CudaDevice, size: int = 1 << 26) -> float:
    """Return the bytes a second, read and written, of a copy inside of the device's memory."""
    source, target = device.mirror((size,), BYTE), device.allocate((size,), BYTE)
    stream = device.stream()
    source.send(stream)
    milliseconds = _median(device, stream, lambda: device.copy(source.buffer, target, stream))
    return 2 * size / max(milliseconds * 1e-3, 1e-9)


def time_operations(
    device: CudaDevice, bandwidth: float, scales: dict[str, int] | None = None
) -> dict[str, Timing]:
    """Time each case, after one launch that compiles and loads its kernels.

    Args:
        device: The GPU.
        bandwidth: Of a copy, in bytes a second.
        scales: Size of each case; 8 where none is given.
    """
    scales = SCALES if scales is None else scales
    timings: dict[str, Timing] = {}
    for name, make in CASES.items():
        call = make(np.random.default_rng(0), scales.get(name, 8))
        stream = device.stream()
        given = mirrors_of(device, call.inputs)
        for mirror in flat(given):
            mirror.send(stream)
        buffers = buffers_of([*given, *empty(device, call.outputs)])

        def launch() -> None:
            device.launch(call.op, stream, *buffers, **call.numbers)  # noqa: B023 - called at once

        moved = _bytes_of(call)
        timings[name] = {
            "bytes": moved,
            "milliseconds": _median(device, stream, launch),
            "predicted_milliseconds": 1e3 * moved / bandwidth,
        }
    return timings


def _median(device: CudaDevice, stream: CudaStream, enqueue: Callable[[], None]) -> float:
    """Return the milliseconds of one of the calls, which are launched together as one graph."""

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
        times.append(end.milliseconds_since(begin) / REPEATS)
    return statistics.median(times)


def _bytes_of(call: Call) -> int:
    """Count inputs read once and outputs written once."""
    read = sum(
        given.nbytes if isinstance(given, np.ndarray) else sum(item.nbytes for item in given or ())
        for given in call.inputs
    )
    outputs = [one for item in call.outputs for one in (item if isinstance(item, list) else [item])]
    return read + sum(int(np.prod(s)) * np.dtype(d).itemsize for s, d in outputs)
