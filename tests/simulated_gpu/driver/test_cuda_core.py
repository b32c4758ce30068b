# SPDX-License-Identifier: Apache-2.0
"""The real cuda-core on the simulated driver."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from tests.samples.kernel_compilers import require_nvcc
from tests.simulated_gpu.driver.graph import Executable, Graph
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.ptx.compilation import compile_file

COUNT = """
extern "C" __global__ void count(int* x, int first) { x[threadIdx.x] = first + threadIdx.x; }
"""


@pytest.fixture
def core(simulated: Simulation) -> Any:
    """The module ``cuda.core``, with the device current."""
    module = pytest.importorskip("cuda.core", reason="needs the package cuda-core")
    module.Device(0).set_current()
    return module


@pytest.fixture
def kernel(core: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A kernel that counts from a number."""
    require_nvcc()
    source = tmp_path_factory.mktemp("source") / "count.cu"
    source.write_text(COUNT)
    code = compile_file(source, "sm_75").encode()
    return core.ObjectCode.from_ptx(code, name="count").get_kernel("count")


def pinned(core: Any, stream: Any) -> tuple[Any, Any]:
    """Return page-locked memory of 32 integers, as a buffer and as an array."""
    buffer = core.LegacyPinnedMemoryResource().allocate(128, stream=stream)
    return buffer, np.from_dlpack(buffer).view(np.int32)


def test_a_launch_and_a_copy_wait_for_an_event(core: Any, kernel: Any) -> None:
    device = core.Device(0)
    first, second = device.create_stream(), device.create_stream()
    memory = device.allocate(128, stream=first)
    buffer, array = pinned(core, first)
    config = core.LaunchConfig(grid=1, block=32)
    core.launch(first, config, kernel, memory, np.int32(5))
    second.wait(first.record())
    buffer.copy_from(memory, stream=second)
    second.sync()
    assert array.tolist() == list(range(5, 37))


def test_a_graph_holds_what_it_needs(core: Any, kernel: Any, simulated: Simulation) -> None:
    device = core.Device(0)
    stream = device.create_stream()
    memory = device.allocate(128, stream=stream)
    buffer, array = pinned(core, stream)
    stream.sync()
    builder = stream.create_graph_builder().begin_building()
    core.launch(builder, core.LaunchConfig(grid=1, block=32), kernel, memory, np.int32(7))
    graph = builder.end_building().complete()
    for _ in range(2):
        graph.launch(stream)
        buffer.copy_from(memory, stream=stream)
        stream.sync()
        assert array.tolist() == list(range(7, 39))
    assert simulated.conflicts == []
    del graph, builder
    gc.collect()
    assert (simulated.count(Graph), simulated.count(Executable)) == (0, 0)


def test_all_memory_is_released_with_its_owners(core: Any, simulated: Simulation) -> None:
    device = core.Device(0)
    stream = device.create_stream()
    memory, (buffer, array) = device.allocate(100, stream=stream), pinned(core, stream)
    assert simulated.live_bytes == {"device": 100, "pinned": 128}
    del memory, buffer, array
    gc.collect()
    stream.sync()
    assert simulated.live_bytes == {"device": 0, "pinned": 0}


def test_the_error_of_the_driver_is_raised(core: Any, simulated: Simulation) -> None:
    stream = core.Device(0).create_stream()
    with pytest.raises(Exception, match="CUDA_ERROR_OUT_OF_MEMORY"):
        core.Device(0).allocate(1 << 40, stream=stream)
