# SPDX-License-Identifier: Apache-2.0
"""From an address operand to a checked place in one of the memories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tests.simulated_gpu.ptx.access import Read, reader
from tests.simulated_gpu.ptx.faults import OutOfBounds
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.operands import Operand
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program

SPACES = ("global", "shared", "param")


@dataclass(frozen=True)
class Place:
    """Where an access goes: offsets (1,) or (lanes,) into views of one memory."""

    space: str
    offsets: Array
    view: Callable[[int], Array]


def space_of(instruction: Instruction) -> str:
    """Return the space that an instruction names; generic addresses are global ones here."""
    return next((suffix for suffix in instruction.suffixes if suffix in SPACES), "global")


def address_reader(operand: Operand, program: Program) -> Read:
    """Return a function from a frame to addresses, uint64 (1,) or (lanes,)."""
    if operand.kind != "address":
        raise ValueError("no address")
    if not operand.name:
        fixed = np.array([operand.bits], np.uint64)
        return lambda _frame: fixed
    is_register = operand.name in program.text.registers
    width = program.dtype(operand.name).itemsize if is_register else 8
    base = Operand("register" if is_register else "symbol", name=operand.name)
    read = reader(base, f"u{8 * width}", program)
    offset = np.dtype(f"u{width}").type(operand.bits % (1 << 8 * width))
    if width == 8:
        return (lambda frame: read(frame) + offset) if offset else read
    return lambda frame: (read(frame) + offset).astype(np.uint64)  # wraps at 32 bits


def find(
    frame: Frame,
    space: str,
    addresses: Array,
    size: int,
    instruction: Instruction,
    *,
    reads: bool,
    writes: bool,
) -> Place:
    """Check an access, count its traffic with global memory, and return its place."""
    batch = frame.batch
    if space == "global":
        memory = batch.memory
        offsets = memory.offsets(addresses, size, reads=reads, writes=writes)
        kind = "atomic" if reads and writes else "store" if writes else "load"
        batch.counters.request(kind, frame, offsets, size, instruction)
        return Place(space, offsets, memory.view)
    if space == "param":
        return _parameter(frame, addresses, size)
    offsets = batch.shared.offsets(
        batch.block_of[frame.lanes], addresses, size, reads=reads, writes=writes
    )
    return Place(space, offsets, batch.shared.view)


def _parameter(frame: Frame, addresses: Array, size: int) -> Place:
    raw = frame.batch.parameters
    offsets = addresses.view(np.int64)
    if int(offsets.min()) < 0 or int(offsets.max()) + size > len(raw):
        raise OutOfBounds(f"reads {size} bytes outside the {len(raw)} bytes of parameters")
    return Place("param", offsets, lambda itemsize: raw[: len(raw) // 8 * 8].view(f"u{itemsize}"))
