# SPDX-License-Identifier: Apache-2.0
"""Connects a process to a simulated GPU when it starts, if this directory is on PYTHONPATH.

Few operations are executed, and each only once, so that a self-test takes seconds.
"""

import atexit
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))

from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.selftest import cases, operations, timing

stack = ExitStack()
# No compiler knows this architecture, so the kernels become PTX of sm_75, which is interpreted.
stack.enter_context(connected(Simulation("sm_76")))
atexit.register(stack.close)

for name in cases.CASES.keys() - {"nms", "letterbox", "take_masks"}:
    del cases.CASES[name]
operations.SCALES = (1, 2)
operations.TIMED_SCALES.clear()
vars(operations)["copy_bandwidth"] = partial(timing.copy_bandwidth, size=1 << 20)
timing.ROUNDS = timing.REPEATS = 1
