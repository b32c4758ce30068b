# SPDX-License-Identifier: Apache-2.0
"""Connects a process to a simulated GPU when it starts, if this directory is on PYTHONPATH.

Few operations and images are executed, so that a self-test takes seconds.
"""

import atexit
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))

from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.errors import MissingExtraError
from foveate.runtime.engines import tensorrt
from foveate.selftest import cases, images, operations, timing
from foveate.system.tensorrt import TARGETS, Installed

# No compiler knows this architecture, so the kernels become PTX of sm_75, which is interpreted.
# The images of the step "stream" only count.
simulation = Simulation("sm_76", run_kernels="stream" not in sys.orig_argv)
stack = ExitStack()
stack.enter_context(connected(simulation))
atexit.register(stack.close)


def find_runtime(name: str) -> Installed:
    """Return the simulated TensorRT."""
    if name != "tensorrt":
        raise MissingExtraError(name, "rtx")
    return Installed(target=TARGETS[name], version="11.4.0", cuda="13")


sys.modules["tensorrt"] = SimulatedTensorRT(simulation)
vars(tensorrt)["find_runtime"] = find_runtime

for case in cases.CASES.keys() - {"nms", "letterbox", "take_masks"}:
    del cases.CASES[case]
operations.SCALES = (1, 2)
operations.TIMED_SCALES.clear()
vars(operations)["copy_bandwidth"] = partial(timing.copy_bandwidth, size=1 << 20)
timing.ROUNDS = timing.REPEATS = 1
images.STREAMED = images.REPEATED = 2
