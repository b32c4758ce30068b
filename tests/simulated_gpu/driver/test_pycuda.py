# SPDX-License-Identifier: Apache-2.0
"""The real PyCUDA on the simulated driver."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.samples.kernel_compilers import require_nvcc
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.ptx.compilation import compile_file

TWICE = """
extern "C" __global__ void twice(float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= 2;
}
"""


@pytest.fixture
def cuda(simulated: Simulation) -> Iterator[Any]:
    """The module ``pycuda.driver``, with a context that is current."""
    module = pytest.importorskip("pycuda.driver", reason="needs the package pycuda")
    module.init()
    context = module.Device(0).make_context()
    yield module
    context.pop()
    context.detach()


def test_copies_go_through_pinned_memory(cuda: Any, simulated: Simulation) -> None:
    numbers = cuda.pagelocked_empty(1000, np.float32)
    numbers[:] = np.arange(1000)
    memory, found = cuda.mem_alloc(numbers.nbytes), cuda.pagelocked_empty(1000, np.float32)
    stream = cuda.Stream()
    cuda.memcpy_htod_async(memory, numbers, stream)
    cuda.memcpy_dtoh_async(found, memory, stream)
    assert not np.array_equal(found, numbers)  # nothing runs before somebody waits
    stream.synchronize()
    assert np.array_equal(found, numbers)
    assert simulated.bytes_copied() == {"HtoD": 4000, "DtoH": 4000}


def test_a_kernel_writes_an_array_of_the_gpu(cuda: Any, tmp_path: Path) -> None:
    require_nvcc()
    from pycuda import gpuarray

    source = tmp_path / "twice.cu"
    source.write_text(TWICE)
    module = cuda.module_from_buffer(compile_file(source, "sm_75").encode())
    numbers = np.arange(1000, dtype=np.float32)
    array, stream = gpuarray.to_gpu(numbers), cuda.Stream()
    launch = module.get_function("twice")
    launch(array.gpudata, np.int32(1000), block=(128, 1, 1), grid=(8, 1), stream=stream)
    stream.synchronize()
    assert np.array_equal(array.get(), 2 * numbers)


def test_device_and_memory_are_those_of_the_simulation(cuda: Any, simulated: Simulation) -> None:
    memory = cuda.mem_alloc(1 << 20)
    assert cuda.Context.get_device().compute_capability() == (7, 5)
    assert cuda.mem_get_info() == (simulated.memory.capacity - (1 << 20), simulated.memory.capacity)
    memory.free()
    assert simulated.live_bytes["device"] == 0


def test_a_context_that_is_destroyed_has_no_memory(simulated: Simulation) -> None:
    cuda = pytest.importorskip("pycuda.driver", reason="needs the package pycuda")
    cuda.init()
    context = cuda.Device(0).make_context()
    memory = cuda.mem_alloc(100)
    context.pop()
    context.detach()
    del memory
    gc.collect()
    assert simulated.live_bytes["device"] == 0
