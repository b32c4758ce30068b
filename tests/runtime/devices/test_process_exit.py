# SPDX-License-Identifier: Apache-2.0
"""A process that ends without closing its device, on the simulated driver."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.runtime.devices.opened import GPUS
from tests.samples.kernel_compilers import require_compiler
from tests.samples.paths import ROOT

PACKAGES = {"cuda": ("cuda.core", "cuda-core"), "pycuda": ("pycuda", "pycuda")}
# What is registered first runs last, after the release of the device.
SCRIPT = """
import atexit, sys
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation
simulation = Simulation()
connection = connected(simulation)
connection.__enter__()
atexit.register(lambda: print(simulation.live_bytes, flush=True))
from tests.runtime.devices.opened import Gathering, context_of, open_gpu
context = context_of(sys.argv[1])
context.__enter__()
gathering = Gathering(open_gpu(sys.argv[1]))
gathering.run()
"""


@pytest.mark.parametrize("kind", GPUS)
def test_everything_is_released_when_the_process_ends(kind: str) -> None:
    module, package = PACKAGES[kind]
    pytest.importorskip(module, reason=f"needs the package {package}")
    require_compiler()
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout == "{'device': 0, 'pinned': 0}\n", done.stderr
    if kind == "cuda":  # PyCUDA itself aborts if its context is still current
        assert (done.returncode, done.stderr) == (0, "")
