# SPDX-License-Identifier: Apache-2.0
"""Which of the threads that wait may go on."""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.access import reader
from tests.simulated_gpu.ptx.batch import Batch
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import BARRIERS


def ready(instruction: Instruction, here: Array, batch: Batch) -> Array:
    """Return the threads whose partners have all come, as a mask of all threads.

    A barrier of a block wants every thread of the block: one that has ended never comes.
    """
    if instruction.opcode in BARRIERS and instruction.suffixes[:1] != ("warp",):
        arrived = np.bincount(batch.block_of[here], minlength=int(batch.block_of[-1]) + 1)
        whole: Array = here & (arrived == batch.block_threads)[batch.block_of]
        return whole
    lanes = np.flatnonzero(here)
    frame = Frame(batch, lanes)
    operand = instruction.operands[-1]
    if operand.kind == "register":
        frame.enter([operand.name], set())
    wanted = frame.spread(reader(operand, "u32", batch.program)(frame))
    warps = batch.warp_of[lanes]
    bits = np.ldexp(1.0, batch.lane_in_warp[lanes])
    arrived = np.bincount(warps, weights=bits, minlength=batch.warps).astype(np.uint32)
    released = np.zeros(batch.threads, bool)
    released[lanes] = (arrived[warps] & wanted) == wanted
    return released
