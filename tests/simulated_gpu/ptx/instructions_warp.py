# SPDX-License-Identifier: Apache-2.0
"""Barriers, and votes of the lanes of a warp."""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.access import reader, writer
from tests.simulated_gpu.ptx.faults import DivergentBarrier
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler

__all__: list[str] = []


def _ballot(frame: Frame, holds: Array) -> Array:
    """(lanes,) uint32: bit i is set if lane i of the warp is active and its predicate holds."""
    bits = np.ldexp(1.0, frame.batch.lane_in_warp[frame.lanes]) * frame.spread(holds)
    sums = np.bincount(frame.warps, weights=bits, minlength=frame.batch.warps)
    return np.asarray(sums.astype(np.uint32)[frame.warps])


def _check_members(frame: Frame, members: Array) -> None:
    own = np.uint32(1) << frame.batch.lane_in_warp[frame.lanes].astype(np.uint32)
    outside = (members & own) == 0
    if outside.any():
        text = "takes part in an exchange whose member mask leaves it out"
        raise DivergentBarrier(text, int(np.argmax(outside)))


@handler("bar", "barrier")
def _barrier(instruction: Instruction, program: Program) -> Run:
    suffixes = [s for s in instruction.suffixes if s not in ("aligned", "cta")]
    if suffixes == ["warp", "sync"]:
        members = reader(instruction.operands[0], "u32", program)

        def meet(frame: Frame) -> None:
            _check_members(frame, members(frame))
            frame.batch.shared.warp_barrier(np.unique(frame.warps))

        return meet
    if suffixes != ["sync"] or len(instruction.operands) != 1:
        raise ValueError(f"suffixes {suffixes} with {len(instruction.operands)} operands")
    return _meet


def _meet(frame: Frame) -> None:
    batch = frame.batch
    batch.counters.barriers += 1
    batch.shared.barrier(np.unique(batch.block_of[frame.lanes]))


@handler("vote")
def _vote(instruction: Instruction, program: Program) -> Run:
    if instruction.suffixes != ("sync", "ballot", "b32"):
        raise ValueError(f"suffixes {instruction.suffixes}")
    to, which, mask = instruction.operands
    write, holds = writer(to, program), reader(which, "pred", program)
    members = reader(mask, "u32", program)

    def run(frame: Frame) -> None:
        asked = members(frame)
        _check_members(frame, asked)
        write(frame, _ballot(frame, holds(frame)) & frame.spread(asked))

    return run
