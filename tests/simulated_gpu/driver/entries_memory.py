# SPDX-License-Identifier: Apache-2.0
"""Entry points for memory: allocations, copies, fills."""

from __future__ import annotations

import ctypes

from tests.simulated_gpu.driver.entry import INT, PTR, SIZE, U64, UINT, entry, put
from tests.simulated_gpu.driver.faults import Refused, Status
from tests.simulated_gpu.driver.simulation import PRIMARY, Simulation

POOL = 0xB0  # the only pool of memory


@entry(PTR, SIZE)
def cuMemAlloc(sim: Simulation, out: int, size: int) -> str:
    sim.streams.captures.refuse_unsafe("an allocation")
    put(out, sim.allocate(_positive(size), "device"))
    return f"{size}"


@entry(PTR)
def cuMemFree(sim: Simulation, address: int | None) -> None:
    _free(sim, address, "device")


@entry(PTR, SIZE, PTR, PTR)
def cuMemAllocFromPoolAsync(sim: Simulation, out: int, size: int, pool: int, stream: int) -> str:
    return cuMemAllocAsync(sim, out, size, stream)


@entry(PTR, SIZE, PTR)
def cuMemAllocAsync(sim: Simulation, out: int, size: int, stream: int) -> str:
    # A real driver makes it a node of the graph, which we do not want, or an allocation outside of
    # it on another stream, which a launch must not make either.
    sim.streams.captures.refuse_unsafe("an allocation")
    one = sim.stream(stream)
    address = sim.allocate(_positive(size), "device")
    offset = sim.memory.offset(address)
    assert offset is not None

    def allocate() -> None:  # work on the memory must come after it
        sim.memory.note(offset, size, writes=True)

    sim.streams.enqueue(one, "allocate", f"{size}", allocate)
    put(out, address)
    return f"{size}"


@entry(PTR, PTR)
def cuMemFreeAsync(sim: Simulation, address: int, stream: int) -> None:
    one = sim.stream(stream)
    sim.streams.captures.refuse_captured(one, "memory is freed in a capture")
    found = sim.memory.piece(address)
    if found is None or found[:2] != ("device", address):
        raise Refused(Status.INVALID_VALUE, f"{address:#x} is no live device memory")
    sim.streams.enqueue(one, "free", f"{found[2]}", lambda: sim.memory.give(address, "device"))


@entry(PTR, SIZE, UINT)
def cuMemHostAlloc(sim: Simulation, out: int, size: int, flags: int) -> str:
    sim.streams.captures.refuse_unsafe("an allocation")
    put(out, sim.allocate(_positive(size), "pinned"))
    return f"{size}"


@entry(PTR, SIZE)
def cuMemAllocHost(sim: Simulation, out: int, size: int) -> str:
    return cuMemHostAlloc(sim, out, size, 0)


@entry(PTR)
def cuMemFreeHost(sim: Simulation, address: int | None) -> None:
    _free(sim, address, "pinned")


@entry(PTR, PTR, UINT)
def cuMemHostGetDevicePointer(sim: Simulation, out: int, address: int, flags: int) -> None:
    found = sim.memory.piece(address)
    if found is None or found[0] != "pinned":
        raise Refused(Status.INVALID_VALUE, f"{address:#x} is not pinned")
    put(out, address)


@entry(PTR, PTR)
def cuMemHostGetFlags(sim: Simulation, out: int, address: int) -> None:
    put(out, 3, UINT)  # portable and mapped, as all pinned memory is with unified addressing


def _positive(size: int) -> int:
    if size <= 0:
        raise Refused(Status.INVALID_VALUE, "no bytes")
    return size


def _free(sim: Simulation, address: int | None, kind: str) -> None:
    if not address:
        return
    sim.streams.captures.refuse_unsafe("freeing memory")
    sim.streams.synchronize_all()
    sim.memory.give(address, kind)
    sim.memory.take_accesses()


@entry(PTR, PTR)
def cuMemGetInfo(sim: Simulation, free: int, total: int) -> None:
    put(free, sim.memory.free_bytes, SIZE)
    put(total, sim.memory.capacity, SIZE)


@entry(PTR, PTR, PTR)
def cuMemGetAddressRange(sim: Simulation, start: int, size: int, address: int) -> None:
    found = sim.memory.piece(address)
    if found is None:
        raise Refused(Status.NOT_FOUND, f"{address:#x} is not allocated")
    put(start, found[1])
    put(size, found[2], SIZE)


# Attributes of a pointer by their numbers in cuda.h.
_CONTEXT, _MEMORY_TYPE, _DEVICE_POINTER, _HOST_POINTER, _MANAGED, _ORDINAL = 1, 2, 3, 4, 8, 9


@entry(PTR, INT, PTR)
def cuPointerGetAttribute(sim: Simulation, out: int, attribute: int, address: int) -> None:
    found = sim.memory.piece(address)
    if found is None:
        raise Refused(Status.INVALID_VALUE, f"{address:#x} is not known to the driver")
    _put_attribute(sim, out, attribute, address)


@entry(UINT, PTR, PTR, PTR)
def cuPointerGetAttributes(sim: Simulation, count: int, kinds: int, out: int, address: int) -> None:
    wanted = ctypes.cast(kinds, ctypes.POINTER(INT))[:count]
    places = ctypes.cast(out, ctypes.POINTER(PTR))[:count]
    for attribute, place in zip(wanted, places, strict=True):
        _put_attribute(sim, place, attribute, address)


def _put_attribute(sim: Simulation, out: int, attribute: int, address: int | None) -> None:
    found = sim.memory.piece(address or 0)
    kind = found[0] if found else ""
    pointers = {
        _CONTEXT: PRIMARY if found else 0,
        _DEVICE_POINTER: address if found else 0,
        _HOST_POINTER: address if kind == "pinned" else 0,
    }
    if attribute in pointers:
        put(out, pointers[attribute] or 0)
    elif attribute == _MEMORY_TYPE:
        put(out, {"pinned": 1, "device": 2}.get(kind, 0), UINT)
    else:
        put(out, (0 if found else -2) if attribute == _ORDINAL else 0, INT)


# Pools: there is one, without limits ----------------------------------------------------------------
@entry(PTR, INT)
def cuDeviceGetDefaultMemPool(sim: Simulation, out: int, device: int) -> None:
    put(out, POOL)


@entry(PTR, INT)
def cuDeviceGetMemPool(sim: Simulation, out: int, device: int) -> None:
    put(out, POOL)


@entry(INT, PTR)
def cuDeviceSetMemPool(sim: Simulation, device: int, pool: int) -> None: ...


@entry(PTR, PTR)
def cuMemPoolCreate(sim: Simulation, out: int, properties: int) -> None:
    put(out, POOL)


@entry(PTR)
def cuMemPoolDestroy(sim: Simulation, pool: int) -> None: ...


@entry(PTR, SIZE)
def cuMemPoolTrimTo(sim: Simulation, pool: int, size: int) -> None: ...


@entry(PTR, INT, PTR)
def cuMemPoolSetAttribute(sim: Simulation, pool: int, attribute: int, value: int) -> None: ...


@entry(PTR, INT, PTR)
def cuMemPoolGetAttribute(sim: Simulation, pool: int, attribute: int, out: int) -> None:
    put(out, 0, U64)
