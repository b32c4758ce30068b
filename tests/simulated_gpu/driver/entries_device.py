# SPDX-License-Identifier: Apache-2.0
"""Entry points for the driver itself, devices and contexts."""

from __future__ import annotations

import ctypes
from functools import cache

from tests.simulated_gpu.driver.entry import INT, PTR, SIZE, UINT, entry, put
from tests.simulated_gpu.driver.faults import Refused, Status
from tests.simulated_gpu.driver.simulation import PRIMARY, Simulation

VERSION = 13000
# Attributes of the device by their numbers in cuda.h; all others are 0.
ATTRIBUTES = {
    1: 1024, 2: 1024, 3: 1024, 4: 64, 5: 2147483647, 6: 65535, 7: 65535, 8: 49152, 9: 65536,
    10: 32, 12: 65536, 13: 1500000, 14: 512, 15: 1, 16: 16, 19: 1, 31: 1, 33: 1, 36: 5000000,
    37: 128, 38: 1 << 22, 39: 1536, 40: 2, 41: 1, 81: 65536, 82: 65536, 83: 1, 97: 65536,
    102: 1, 115: 1, 119: 1,
}  # fmt: skip
COMPUTE_CAPABILITY = (75, 76)


@entry(UINT)
def cuInit(sim: Simulation, flags: int) -> None:
    assert flags == 0


@entry(PTR)
def cuDriverGetVersion(sim: Simulation, version: int) -> None:
    put(version, VERSION, INT)


# Private functions of the driver, of which NVRTC asks for some. A table begins with its size in
# bytes: nothing is in this one.
_NO_FUNCTIONS = (ctypes.c_uint64 * 16)(8)


@entry(PTR, PTR)
def cuGetExportTable(sim: Simulation, out: int, number: int) -> None:
    put(out, ctypes.addressof(_NO_FUNCTIONS))


@cache
def _text(value: str) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(value.encode())  # it stays where it is, as a literal does


def _name(status: int) -> str:
    found = status in Status.__members__.values()
    return f"CUDA_ERROR_{Status(status).name}" if found else f"CUDA_ERROR_{status}"


@entry(INT, PTR)
def cuGetErrorName(sim: Simulation, status: int, out: int) -> None:
    put(out, ctypes.addressof(_text(_name(status))))


@entry(INT, PTR)
def cuGetErrorString(sim: Simulation, status: int, out: int) -> None:
    text = f"{_name(status).removeprefix('CUDA_ERROR_').lower().replace('_', ' ')} (simulated)"
    put(out, ctypes.addressof(_text(text)))


@entry(PTR)
def cuDeviceGetCount(sim: Simulation, out: int) -> None:
    put(out, 1, INT)


@entry(PTR, INT)
def cuDeviceGet(sim: Simulation, out: int, number: int) -> None:
    if number != 0:
        raise Refused(Status.INVALID_DEVICE, f"device {number}: there is one")
    put(out, 0, INT)


@entry(PTR, INT, INT)
def cuDeviceGetName(sim: Simulation, out: int, size: int, device: int) -> None:
    name = b"Simulated GPU\0"
    ctypes.memmove(out, name, min(size, len(name)))


@entry(PTR, INT)
def cuDeviceGetUuid(sim: Simulation, out: int, device: int) -> None:
    ctypes.memmove(out, bytes(range(16)), 16)


@entry(PTR, INT, INT)
def cuDeviceGetPCIBusId(sim: Simulation, out: int, size: int, device: int) -> None:
    name = b"0000:00:00.0\0"
    ctypes.memmove(out, name, min(size, len(name)))


@entry(PTR, INT)
def cuDeviceTotalMem(sim: Simulation, out: int, device: int) -> None:
    put(out, sim.memory.capacity, SIZE)


@entry(PTR, INT, INT)
def cuDeviceGetAttribute(sim: Simulation, out: int, attribute: int, device: int) -> None:
    capability = divmod(int(sim.architecture.removeprefix("sm_")), 10)
    values = ATTRIBUTES | dict(zip(COMPUTE_CAPABILITY, capability, strict=True))
    put(out, values.get(attribute, 0), INT)


@entry(PTR, PTR, INT)
def cuDeviceComputeCapability(sim: Simulation, major: int, minor: int, device: int) -> None:
    cuDeviceGetAttribute(sim, major, COMPUTE_CAPABILITY[0], device)
    cuDeviceGetAttribute(sim, minor, COMPUTE_CAPABILITY[1], device)


@entry(PTR, INT)
def cuDevicePrimaryCtxRetain(sim: Simulation, out: int, device: int) -> None:
    sim.contexts[PRIMARY] = sim.contexts.get(PRIMARY, 0) + 1
    put(out, PRIMARY)


@entry(INT)
def cuDevicePrimaryCtxRelease(sim: Simulation, device: int) -> None:
    if not sim.contexts.get(PRIMARY):
        raise Refused(Status.INVALID_CONTEXT, "the primary context is not retained")
    sim.contexts[PRIMARY] -= 1
    if not sim.contexts[PRIMARY]:
        del sim.contexts[PRIMARY]


@entry(INT, PTR, PTR)
def cuDevicePrimaryCtxGetState(sim: Simulation, device: int, flags: int, active: int) -> None:
    put(flags, 0, UINT)
    put(active, PRIMARY in sim.contexts, INT)


@entry(PTR, PTR, UINT, INT)
def cuCtxCreate_v4(sim: Simulation, out: int, params: int, flags: int, device: int) -> None:
    cuCtxCreate(sim, out, flags, device)


@entry(PTR, UINT, INT)
def cuCtxCreate(sim: Simulation, out: int, flags: int, device: int) -> None:
    handle = sim.create_context()
    sim.current.append(handle)
    put(out, handle)


@entry(PTR)
def cuCtxDestroy(sim: Simulation, context: int | None) -> None:
    if context not in sim.contexts or context == PRIMARY:
        raise Refused(Status.INVALID_CONTEXT, f"{context} is no context that was created")
    sim.destroy_context(context)
    while context in sim.current:
        sim.current.remove(context)


@entry(PTR)
def cuCtxDetach(sim: Simulation, context: int) -> None:
    cuCtxDestroy(sim, context)


@entry(PTR)
def cuCtxSetCurrent(sim: Simulation, context: int | None) -> None:
    _check(sim, context)
    if sim.current:
        sim.current.pop()
    if context:
        sim.current.append(context)


@entry(PTR)
def cuCtxPushCurrent(sim: Simulation, context: int) -> None:
    _check(sim, context)
    sim.current.append(context)


def _check(sim: Simulation, context: int | None) -> None:
    if context == PRIMARY:  # cuda-core retains it once in a process
        sim.contexts.setdefault(PRIMARY, 1)
    if context and context not in sim.contexts:
        raise Refused(Status.CONTEXT_IS_DESTROYED, f"{context:#x} is no live context")


@entry(PTR)
def cuCtxPopCurrent(sim: Simulation, out: int) -> None:
    if not sim.current:
        raise Refused(Status.INVALID_CONTEXT, "no context is current")
    put(out, sim.current.pop())


@entry(PTR)
def cuCtxGetCurrent(sim: Simulation, out: int) -> None:
    put(out, sim.current[-1] if sim.current else 0)


@entry(PTR)
def cuCtxGetDevice(sim: Simulation, out: int) -> None:
    put(out, 0, INT)


@entry(PTR, PTR)
def cuCtxGetApiVersion(sim: Simulation, context: int, out: int) -> None:
    put(out, VERSION, UINT)


@entry()
def cuCtxSynchronize(sim: Simulation) -> None:
    sim.streams.captures.refuse_unsafe("a wait for everything")
    sim.streams.synchronize_all()


@entry(PTR, PTR)
def cuCtxGetStreamPriorityRange(sim: Simulation, least: int, greatest: int) -> None:
    put(least, 0, INT)
    put(greatest, -5, INT)
