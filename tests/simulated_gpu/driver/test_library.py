# SPDX-License-Identifier: Apache-2.0
"""The simulated driver is there when a test asks for it, and only then."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.errors import BackendError
from foveate.runtime.devices.cuda import CudaDevice
from foveate.system.gpu import current_gpu

pytest.importorskip("cuda.core", reason="needs the package cuda-core")


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_the_architecture_is_that_of_the_simulation(architecture: str) -> None:
    with connected(Simulation(architecture)):
        assert CudaDevice().architecture == architecture


def test_outside_of_the_simulation_there_is_no_device() -> None:
    with connected(Simulation()):
        assert current_gpu() is not None
    assert current_gpu() is None
    with pytest.raises(BackendError, match="the GPU 0 cannot be used"):
        CudaDevice()


def test_a_process_ends_well_whose_objects_outlive_the_simulation() -> None:
    script = """
import numpy as np
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation
from cuda.core import Device
from foveate.runtime.devices.cuda import CudaDevice
with connected(Simulation()):
    ours = CudaDevice()
    mirror, stream = ours.mirror((4,), np.dtype("f4")), ours.stream()
    device = Device(0)
    theirs = device.create_stream()
    memory, event = device.allocate(100, stream=theirs), theirs.record()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
