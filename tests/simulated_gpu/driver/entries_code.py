# SPDX-License-Identifier: Apache-2.0
"""Entry points for code and launches."""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

from tests.simulated_gpu.driver.code import Kernel, Module
from tests.simulated_gpu.driver.entry import INT, PTR, SIZE, STR, UINT, entry, put
from tests.simulated_gpu.driver.faults import Refused, Status
from tests.simulated_gpu.driver.simulation import Simulation

MAX_SHARED = 48 << 10  # of the kernel and its launch, without an attribute of the function


def _load(sim: Simulation, out: int, code: int) -> None:
    put(out, sim.handle(Module(sim, ctypes.string_at(code))))


@entry(PTR, PTR, PTR, PTR, UINT, PTR, PTR, UINT)
def cuLibraryLoadData(sim: Simulation, out: int, code: int, *options: Any) -> None:
    _load(sim, out, code)


@entry(PTR, PTR)
def cuModuleLoadData(sim: Simulation, out: int, code: int) -> None:
    _load(sim, out, code)


@entry(PTR, PTR, UINT, PTR, PTR)
def cuModuleLoadDataEx(sim: Simulation, out: int, code: int, *options: Any) -> None:
    _load(sim, out, code)


@entry(PTR)
def cuLibraryUnload(sim: Simulation, library: int) -> None:
    sim.pop(library, Module).unload()


@entry(PTR)
def cuModuleUnload(sim: Simulation, library: int) -> None:
    sim.pop(library, Module).unload()


@entry(PTR, PTR, STR)
def cuLibraryGetKernel(sim: Simulation, out: int, library: int, name: bytes) -> str:
    put(out, sim.handle(sim.get(library, Module).kernel(name.decode())))
    return name.decode()


@entry(PTR, PTR, STR)
def cuModuleGetFunction(sim: Simulation, out: int, library: int, name: bytes) -> str:
    return cuLibraryGetKernel(sim, out, library, name)


@entry(PTR, PTR)
def cuKernelGetFunction(sim: Simulation, out: int, kernel: int) -> None:
    put(out, kernel)


@entry(PTR, PTR)
def cuKernelGetLibrary(sim: Simulation, out: int, kernel: int) -> None:
    module = sim.get(kernel, Kernel).module
    put(out, next(handle for handle, one in sim.objects.items() if one is module))


@entry(PTR, INT, PTR, INT)
def cuKernelGetAttribute(sim: Simulation, out: int, kind: int, kernel: int, device: int) -> None:
    cuFuncGetAttribute(sim, out, kind, kernel)


@entry(PTR, INT, PTR)
def cuFuncGetAttribute(sim: Simulation, out: int, kind: int, kernel: int) -> None:
    put(out, 1024 if kind == 0 else 0, INT)  # the most threads of a block


@entry(PTR, INT, INT)
def cuFuncSetAttribute(sim: Simulation, kernel: int, attribute: int, value: int) -> None: ...


@entry(PTR, INT)
def cuFuncSetCacheConfig(sim: Simulation, kernel: int, config: int) -> None: ...


@entry(PTR, INT, INT, INT)
def cuFuncSetBlockShape(sim: Simulation, kernel: int, x: int, y: int, z: int) -> None: ...


@entry(PTR, PTR, PTR, PTR)
def cuLaunchKernelEx(sim: Simulation, config: int, kernel: int, parameters: int, extra: int) -> str:
    words = ctypes.cast(config, ctypes.POINTER(UINT))[:7]
    stream = ctypes.cast(config + 32, ctypes.POINTER(PTR))[0]
    return cuLaunchKernel(sim, kernel, *words, stream, parameters, extra)


@entry(PTR, UINT, UINT, UINT, UINT, UINT, UINT, UINT, PTR, PTR, PTR)
def cuLaunchKernel(sim: Simulation, kernel: int, *given: Any) -> str:
    *sizes, shared, stream, parameters, extra = given
    one, grid, block = sim.get(kernel, Kernel), tuple(sizes[:3]), tuple(sizes[3:])
    detail = f"{one.name} {grid} {block} {shared}"
    static = -(-one.shared // 16) * 16 if shared else one.shared
    if 0 in grid or 0 in block or prod(block) > one.most_threads or static + shared > MAX_SHARED:
        raise Refused(Status.INVALID_VALUE, detail)
    if grid[0] > 2147483647 or max(grid[1:]) > 65535 or block[2] > 64:
        raise Refused(Status.INVALID_VALUE, detail)
    values = _values(one, parameters, extra)
    sim.streams.enqueue(
        sim.stream(stream), "launch", one.name, lambda: one.launch(grid, block, shared, values)
    )
    return detail


def _values(kernel: Kernel, parameters: int | None, extra: int | None) -> list[bytes]:
    """Copy the arguments: from a pointer to each, or from one buffer as PyCUDA gives it."""
    places = kernel.places
    if extra:  # 1, the buffer, 2, a pointer to its size, 0
        words = ctypes.cast(extra, ctypes.POINTER(PTR))[:4]
        raw = ctypes.string_at(words[1], ctypes.cast(words[3], ctypes.POINTER(SIZE))[0])
        return [raw[offset : offset + size] for offset, size in places]
    if not places:
        return []
    assert parameters, f"{kernel.name} got no arguments"
    pointers = ctypes.cast(parameters, ctypes.POINTER(PTR))[: len(places)]
    return [
        ctypes.string_at(pointer, size) for pointer, (_, size) in zip(pointers, places, strict=True)
    ]
