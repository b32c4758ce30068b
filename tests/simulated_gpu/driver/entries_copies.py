# SPDX-License-Identifier: Apache-2.0
"""Entry points for copies and fills."""

from __future__ import annotations

from ctypes import c_ubyte, c_uint64, c_ushort

import numpy as np
from tests.simulated_gpu.driver.entry import PTR, SIZE, UINT, entry
from tests.simulated_gpu.driver.memory import written
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.driver.work import Stream

DEVICE = 2  # a value of CUmemorytype


def _copy(sim: Simulation, target: int, source: int, size: int, stream: Stream) -> str:
    memory = sim.memory
    for address in (target, source):
        memory.check(address, size)
    kinds = [(memory.piece(one) or ("pageable",))[0] for one in (target, source)]
    letters = ["D" if kind == "device" else "H" for kind in kinds]
    detail = f"{letters[1]}to{letters[0]} {size}"
    if "pageable" in kinds:
        sim.streams.captures.refuse_captured(stream, f"a copy {detail} of pageable memory")
        detail += " pageable"
    staged = None
    if kinds[1] == "pageable":  # staged before the call returns
        staged = memory.bytes_at(source, size, write=False).copy()

    def run() -> None:
        known = memory.states_at(source, size)
        if letters[0] == "H" and not written(known):
            sim.unwritten.append(detail)
        content = memory.bytes_at(source, size, write=False) if staged is None else staged
        memory.bytes_at(target, size, write=True)[:] = content
        state = memory.states_at(target, size)
        if letters == ["D", "D"] and state is not None and known is not None:
            state[:] = known

    if size:
        sim.streams.enqueue(stream, "copy", detail, run)
    if kinds[0] == "pageable":  # returns when it is done
        sim.streams.synchronize(stream.ends)
    return detail


@entry(PTR, PTR, SIZE, PTR)
def cuMemcpyAsync(sim: Simulation, target: int, source: int, size: int, stream: int) -> str:
    return _copy(sim, target, source, size, sim.stream(stream))


@entry(PTR, PTR, SIZE, PTR)
def cuMemcpyHtoDAsync(sim: Simulation, target: int, source: int, size: int, stream: int) -> str:
    return _copy(sim, target, source, size, sim.stream(stream))


@entry(PTR, PTR, SIZE, PTR)
def cuMemcpyDtoHAsync(sim: Simulation, target: int, source: int, size: int, stream: int) -> str:
    return _copy(sim, target, source, size, sim.stream(stream))


@entry(PTR, PTR, SIZE, PTR)
def cuMemcpyDtoDAsync(sim: Simulation, target: int, source: int, size: int, stream: int) -> str:
    return _copy(sim, target, source, size, sim.stream(stream))


@entry(PTR, PTR)
def cuMemcpy2DAsync(sim: Simulation, copy: int, stream: int) -> str:
    # CUDA_MEMCPY2D: source and target as x, y, kind, host, device, array and pitch; width and height.
    words = (c_uint64 * 16).from_address(copy)
    (x0, y0, kind, _, source, _, from_pitch), (x1, y1, to_kind, _, target, _, to_pitch) = (
        words[:7],
        words[7:14],
    )
    width, height = words[14:]
    assert (kind & 0xFFFFFFFF, to_kind & 0xFFFFFFFF) == (DEVICE, DEVICE), "only within the GPU"
    assert width <= min(from_pitch, to_pitch), "rows overlap"
    for row in range(height):
        to, of = target + x1 + (y1 + row) * to_pitch, source + x0 + (y0 + row) * from_pitch
        _copy(sim, to, of, width, sim.stream(stream))
    return f"DtoD {width} x {height}"


@entry(PTR, PTR, SIZE)
def cuMemcpy(sim: Simulation, target: int, source: int, size: int) -> str:
    detail = _copy(sim, target, source, size, sim.streams.legacy)
    sim.streams.synchronize(sim.streams.legacy.ends)
    return detail


@entry(PTR, PTR, SIZE)
def cuMemcpyHtoD(sim: Simulation, target: int, source: int, size: int) -> str:
    return cuMemcpy(sim, target, source, size)


@entry(PTR, PTR, SIZE)
def cuMemcpyDtoH(sim: Simulation, target: int, source: int, size: int) -> str:
    return cuMemcpy(sim, target, source, size)


@entry(PTR, PTR, SIZE)
def cuMemcpyDtoD(sim: Simulation, target: int, source: int, size: int) -> str:
    return cuMemcpy(sim, target, source, size)


# Fills ----------------------------------------------------------------------------------------------
def _fill(sim: Simulation, target: int, value: int, kind: str, count: int, stream: Stream) -> str:
    pattern = np.array([value], kind).view(np.uint8)
    size = count * len(pattern)
    sim.memory.check(target, size)

    def run() -> None:
        sim.memory.bytes_at(target, size, write=True)[:] = np.tile(pattern, count)

    sim.streams.enqueue(stream, "set", f"{size}", run)
    return f"{size}"


@entry(PTR, c_ubyte, SIZE, PTR)
def cuMemsetD8Async(sim: Simulation, target: int, value: int, count: int, stream: int) -> str:
    return _fill(sim, target, value, "u1", count, sim.stream(stream))


@entry(PTR, c_ushort, SIZE, PTR)
def cuMemsetD16Async(sim: Simulation, target: int, value: int, count: int, stream: int) -> str:
    return _fill(sim, target, value, "u2", count, sim.stream(stream))


@entry(PTR, UINT, SIZE, PTR)
def cuMemsetD32Async(sim: Simulation, target: int, value: int, count: int, stream: int) -> str:
    return _fill(sim, target, value, "u4", count, sim.stream(stream))


@entry(PTR, c_ubyte, SIZE)
def cuMemsetD8(sim: Simulation, target: int, value: int, count: int) -> str:
    return _fill(sim, target, value, "u1", count, sim.streams.legacy)


@entry(PTR, UINT, SIZE)
def cuMemsetD32(sim: Simulation, target: int, value: int, count: int) -> str:
    return _fill(sim, target, value, "u4", count, sim.streams.legacy)
