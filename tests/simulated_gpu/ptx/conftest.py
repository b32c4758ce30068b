# SPDX-License-Identifier: Apache-2.0
"""The snippets, compiled for each family of architectures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.samples.kernel_compilers import require_nvcc
from tests.simulated_gpu.ptx.compilation import ARCHITECTURES, compile_file, kernel_of
from tests.simulated_gpu.ptx.driver import SimulatedGpu, simulated_gpu
from tests.simulated_gpu.ptx.launch import Kernel

SNIPPETS = Path(__file__).with_name("snippets.cu")
GetKernel = Callable[..., Kernel]


@pytest.fixture(scope="session", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    require_nvcc()
    return str(request.param)


@pytest.fixture(scope="session")
def snippet(architecture: str) -> GetKernel:
    """A function from a name (and bytes of dynamic shared memory) to a kernel of snippets.cu."""

    def get(name: str, dynamic_shared: int = 0) -> Kernel:
        return kernel_of(compile_file(SNIPPETS, architecture), name, dynamic_shared)

    return get


@pytest.fixture
def gpu(architecture: str) -> Iterator[SimulatedGpu]:
    """A GPU with fresh memory."""
    with simulated_gpu(architecture) as opened:
        yield opened


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def either_way(architecture: str, request: pytest.FixtureRequest) -> Iterator[SimulatedGpu]:
    """A GPU that runs blocks and atomics in one order or in the other."""
    with simulated_gpu(architecture, backwards=bool(request.param)) as opened:
        yield opened
