# SPDX-License-Identifier: Apache-2.0
"""The snippets, compiled for each family of architectures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.simulated_gpu.ptx.compilation import ARCHITECTURES, kernel_of
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.launch import Kernel

from foveate.kernels.build import find_nvcc

SNIPPETS = Path(__file__).with_name("snippets.cu")
GetKernel = Callable[..., Kernel]


@pytest.fixture(scope="session", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    if find_nvcc() is None:
        pytest.skip("nvcc is not here: kernels cannot be compiled")
    return str(request.param)


@pytest.fixture(scope="session")
def snippet(architecture: str) -> GetKernel:
    """A function from a name (and bytes of dynamic shared memory) to a kernel of snippets.cu."""

    def get(name: str, dynamic_shared: int = 0) -> Kernel:
        return kernel_of(SNIPPETS, architecture, name, SNIPPETS.parent, dynamic_shared)

    return get


@pytest.fixture
def device(architecture: str) -> Device:
    """A fresh device."""
    return Device(architecture)


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def either_way(architecture: str, request: pytest.FixtureRequest) -> Device:
    """A fresh device that runs blocks and atomics in one order or in the other."""
    return Device(architecture, backwards=bool(request.param))
