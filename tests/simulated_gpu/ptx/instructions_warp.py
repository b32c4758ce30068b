# SPDX-License-Identifier: Apache-2.0
"""Barriers, and what the lanes of a warp exchange."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.simulated_gpu.ptx.access import numpy_type, reader, writer
from tests.simulated_gpu.ptx.faults import DivergentBarrier, Uninitialized
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler

__all__: list[str] = []


def _seats(frame: Frame) -> Array:
    """(warps * 32,) position in the frame of the thread that sits there; -1 for none."""
    seats = np.full(frame.batch.warps * 32, -1)
    seats[frame.warps * 32 + frame.batch.lane_in_warp[frame.lanes]] = np.arange(frame.count)
    return seats


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
    if suffixes[0] == "red":
        return _reduce_block(instruction, suffixes[1:], program)
    if suffixes != ["sync"] or len(instruction.operands) != 1:
        raise ValueError(f"suffixes {suffixes} with {len(instruction.operands)} operands")
    return _meet


def _meet(frame: Frame) -> None:
    batch = frame.batch
    batch.counters.barriers += 1
    batch.shared.barrier(np.unique(batch.block_of[frame.lanes]))


def _reduce_block(instruction: Instruction, suffixes: list[str], program: Program) -> Run:
    name = suffixes[0]
    *_, which = instruction.operands
    write, holds = writer(instruction.operands[0], program), reader(which, "pred", program)
    if len(instruction.operands) != 3:
        raise ValueError("a count of threads")

    def run(frame: Frame) -> None:
        _meet(frame)
        blocks = frame.batch.block_of[frame.lanes]
        found = np.bincount(blocks, weights=frame.spread(holds(frame)))[blocks]
        results = {
            "popc": found.astype(np.uint32),
            "and": found == frame.batch.block_threads,
            "or": found > 0,
        }
        write(frame, results[name])

    return run


def _source(kind: str, lane: Array, by: Array, control: Array) -> tuple[Array, Array]:
    """Return the lane that `shfl` reads, and whether it lies in range."""
    clamp, segment = control & 31, control >> 8 & 31
    top = (lane & segment) | (clamp & ~segment)
    low = lane & segment
    if kind == "up":
        source = lane - by
        valid = source >= top
    elif kind == "down":
        source = lane + by
        valid = source <= top
    elif kind == "bfly":
        source = lane ^ by
        valid = source <= top
    else:
        source = low | (by & ~segment)
        valid = source <= top
    return np.where(valid, source, lane), valid


@handler("shfl")
def _shuffle(instruction: Instruction, program: Program) -> Run:
    _, kind, _ = instruction.suffixes
    if kind not in ("up", "down", "bfly", "idx"):
        raise ValueError(kind)
    to, value, by, control, mask = instruction.operands
    items = to.items if to.kind == "pair" else (to,)
    writes = [writer(item, program) for item in items]
    reads = [reader(value, "b32", program), reader(mask, "u32", program)]
    numbers = [reader(operand, "b32", program) for operand in (by, control)]

    def run(frame: Frame) -> None:
        _check_members(frame, reads[1](frame))
        lane = frame.batch.lane_in_warp[frame.lanes]
        distance, limits = (read(frame).astype(np.int64) for read in numbers)
        source, valid = _source(kind, lane, distance & 31, limits)
        seats = _seats(frame)[frame.warps * 32 + source]
        if (seats < 0).any():
            position = int(np.argmin(seats))
            text = f"reads from lane {int(source[position])}, which takes no part"
            raise Uninitialized(text, position)
        for write, result in zip(
            writes, (frame.spread(reads[0](frame))[seats], valid), strict=False
        ):
            write(frame, result)

    return run


@handler("vote")
def _vote(instruction: Instruction, program: Program) -> Run:
    _, name, _ = instruction.suffixes
    to, which, mask = instruction.operands
    write, holds = writer(to, program), reader(which, "pred", program)
    members = reader(mask, "u32", program)
    results: dict[str, Callable[[Array, Array], Array]] = {
        "ballot": lambda votes, asked: votes & asked,
        "any": lambda votes, asked: (votes & asked) != 0,
        "all": lambda votes, asked: (votes & asked) == asked,
        "uni": lambda votes, asked: ((votes & asked) == asked) | ((votes & asked) == 0),
    }
    result = results[name]

    def run(frame: Frame) -> None:
        asked = members(frame)
        _check_members(frame, asked)
        write(frame, result(_ballot(frame, holds(frame)), frame.spread(asked)))

    return run


@handler("activemask")
def _active(instruction: Instruction, program: Program) -> Run:
    write = writer(instruction.operands[0], program)
    return lambda frame: write(frame, _ballot(frame, np.ones(1, bool)))


def _groups(frame: Frame, members: Array, value: Array) -> Array:
    """(lanes,) number of the group of lanes with one warp, member mask and value."""
    keys = np.stack([frame.warps, frame.spread(members), frame.spread(value)]).astype(np.uint64)
    return np.asarray(np.unique(keys, axis=1, return_inverse=True)[1]).reshape(-1)


@handler("match")
def _match(instruction: Instruction, program: Program) -> Run:
    how, _, kind = instruction.suffixes
    if how != "any":
        raise ValueError(how)
    to, value, mask = instruction.operands
    write, read = writer(to, program), reader(value, kind, program)
    members = reader(mask, "u32", program)

    def run(frame: Frame) -> None:
        asked = members(frame)
        _check_members(frame, asked)
        group = _groups(frame, asked, read(frame))
        bits = np.ldexp(1.0, frame.batch.lane_in_warp[frame.lanes])
        write(frame, np.bincount(group, weights=bits).astype(np.uint32)[group])

    return run


@handler("redux")
def _reduce(instruction: Instruction, program: Program) -> Run:
    _, name, kind = instruction.suffixes
    functions: dict[str, np.ufunc] = {
        "add": np.add, "min": np.minimum, "max": np.maximum,
        "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    }  # fmt: skip
    function, dtype = functions[name], numpy_type(kind)
    to, value, mask = instruction.operands
    write, read = writer(to, program), reader(value, kind, program)
    members = reader(mask, "u32", program)

    def run(frame: Frame) -> None:
        asked = members(frame)
        _check_members(frame, asked)
        group = _groups(frame, asked, np.zeros(1, np.uint32))
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(group.max() + 1))
        write(
            frame, function.reduceat(frame.spread(read(frame))[order], starts, dtype=dtype)[group]
        )

    return run
