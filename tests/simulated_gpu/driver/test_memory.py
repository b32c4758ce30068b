# SPDX-License-Identifier: Apache-2.0
"""Memory of the device, page-locked and mapped memory, and copies between them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from tests.samples.kernel_compilers import require_nvcc
from tests.simulated_gpu.driver.faults import Status
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.raw import Raw
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.ptx.compilation import compile_file

STORE = """
extern "C" __global__ void store(unsigned* x) { x[threadIdx.x] = threadIdx.x + 1; }
"""


def test_the_cpu_cannot_touch_memory_of_the_device(raw: Raw) -> None:
    script = f"import ctypes; ctypes.c_uint8.from_address({raw.memory()}).value"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode < 0  # ended by a signal


def test_a_copy_there_and_back_keeps_the_bytes(raw: Raw) -> None:
    there, stream = raw.memory(), raw.stream()
    source, target = raw.pinned(), raw.pinned()
    source[:] = np.arange(1024) % 251
    raw.copy(there, source, 1024, stream)
    raw.copy(target, there, 1024, stream)
    raw("cuStreamSynchronize", stream)
    assert np.array_equal(source, target)


def test_pageable_memory_is_staged_before_a_copy_returns(raw: Raw) -> None:
    there, stream, target = raw.memory(4), raw.stream(), raw.pinned(4)
    source = np.arange(4, dtype=np.uint8)
    raw.copy(there, source, 4, stream)
    source[:] = 0
    raw.copy(target, there, 4, stream)
    raw("cuStreamSynchronize", stream)
    assert target.tolist() == [0, 1, 2, 3]


def test_a_copy_to_pageable_memory_returns_when_it_is_done(raw: Raw) -> None:
    there, stream, target = raw.memory(4), raw.stream(), np.zeros(4, np.uint8)
    raw.fill(there, 7, 4, stream)
    raw.copy(target, there, 4, stream)
    assert target.tolist() == [7] * 4


def test_a_kernel_writes_mapped_memory(raw: Raw, simulated: Simulation, tmp_path: Path) -> None:
    require_nvcc()
    source = tmp_path / "store.cu"
    source.write_text(STORE)
    code = compile_file(source, "sm_75").encode() + b"\0"
    library = raw("cuLibraryLoadData", code, [], [], 0, [], [], 0)
    kernel, stream = raw("cuLibraryGetKernel", library, b"store"), raw.stream()
    mapped = raw.pinned(128)
    pointer = np.array([int(raw("cuMemHostGetDevicePointer", mapped.ctypes.data, 0))], np.uint64)
    arguments = np.array([pointer.ctypes.data], np.uint64)
    raw("cuLaunchKernel", kernel, 1, 1, 1, 32, 1, 1, 0, stream, arguments.ctypes.data, 0)
    raw("cuStreamSynchronize", stream)
    assert mapped.view(np.uint32).tolist() == list(range(1, 33))
    (task,) = simulated.streams.history
    start = mapped.ctypes.data - simulated.memory.data.ctypes.data
    assert task.accesses.writes.tolist() == [[start, start + 128]]


def test_free_and_live_bytes_are_counted() -> None:
    with connected(Simulation(capacity=4096)) as simulated:
        raw = Raw()
        memory, _ = raw.memory(1000), raw.pinned(2000)
        assert raw("cuMemGetInfo") == (3096, 4096)
        assert simulated.live_bytes == {"device": 1000, "pinned": 2000}
        assert raw.status("cuMemAlloc", 3097) == Status.OUT_OF_MEMORY
        raw("cuMemFree", memory)
        assert simulated.live_bytes == {"device": 0, "pinned": 2000}
        raw.memory(4096)


def test_gaps_are_used_when_the_arena_is_full() -> None:
    with connected(Simulation(capacity=8192)):
        raw = Raw()
        for _ in range(50):
            raw("cuMemFree", raw.memory(3000))
        pieces = [raw.memory(700) for _ in range(6)]
        assert len(set(pieces)) == 6


def test_memory_is_freed_once(raw: Raw) -> None:
    memory = raw.memory()
    raw("cuMemFree", memory)
    assert raw.status("cuMemFree", memory) == Status.INVALID_VALUE


def test_a_kind_of_memory_is_known_by_its_address(raw: Raw) -> None:
    kind = raw._driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    assert int(raw("cuPointerGetAttribute", kind, raw.memory())) == 2
    assert int(raw("cuPointerGetAttribute", kind, raw.pinned().ctypes.data)) == 1
    pageable = np.zeros(4).ctypes.data
    assert raw.status("cuPointerGetAttribute", kind, pageable) == Status.INVALID_VALUE


def test_a_copy_of_bytes_that_nothing_wrote_is_noted(raw: Raw, simulated: Simulation) -> None:
    first, second, target, stream = raw.memory(8), raw.memory(8), raw.pinned(8), raw.stream()
    raw.fill(first, 1, 4, stream)
    raw.copy(second, first, 8, stream)
    raw.copy(target, second, 4, stream)
    raw("cuStreamSynchronize", stream)
    assert simulated.unwritten == []
    raw.copy(target, second, 8, stream)
    raw("cuStreamSynchronize", stream)
    assert simulated.unwritten == ["DtoH 8"]


def test_work_on_memory_that_is_freed_is_a_fault(raw: Raw) -> None:
    memory, stream = raw("cuMemAllocAsync", 64, raw.stream()), raw.stream()
    raw("cuCtxSynchronize")
    raw("cuMemFreeAsync", memory, stream)
    raw.fill(int(memory), 1, 64, stream)
    assert raw.status("cuStreamSynchronize", stream) == Status.ILLEGAL_ADDRESS
