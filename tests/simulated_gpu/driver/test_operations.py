# SPDX-License-Identifier: Apache-2.0
"""The operations of the device on the real cuda-core, over the simulated driver."""

from __future__ import annotations

import numpy as np
import pytest
from tests.gpu.operations import CASES, assert_right
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.errors import BackendError
from foveate.kernels.compilers import find_nvcc
from foveate.runtime.devices.cuda import CudaDevice

pytest.importorskip("cuda.core", reason="needs the package cuda-core")


@pytest.mark.parametrize("case", CASES)
def test_operations_give_the_results_of_the_cpu(simulated: Simulation, case: str) -> None:
    if find_nvcc() is None:
        pytest.skip("nvcc is not here: kernels cannot be compiled")
    device = CudaDevice(code="ptx")
    assert_right(device, CASES[case](np.random.default_rng(0), 1))
    assert simulated.launched
    assert simulated.conflicts == []


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_the_architecture_is_that_of_the_simulation(architecture: str) -> None:
    with connected(Simulation(architecture)):
        assert CudaDevice().architecture == architecture


def test_outside_of_the_simulation_there_is_no_device() -> None:
    with connected(Simulation()):
        CudaDevice()
    with pytest.raises(BackendError, match="the GPU 0 cannot be used"):
        CudaDevice()
