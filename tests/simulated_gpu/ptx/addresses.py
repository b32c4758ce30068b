# SPDX-License-Identifier: Apache-2.0
"""From an address operand to a checked place in one of the memories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tests.simulated_gpu.ptx.access import PARAM_WINDOW, Read, reader
from tests.simulated_gpu.ptx.faults import OutOfBounds
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import GLOBAL_BASE, Array
from tests.simulated_gpu.ptx.onchip import LOCAL_WINDOW, SHARED_WINDOW
from tests.simulated_gpu.ptx.operands import Operand
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program

SPACES = ("global", "shared", "local", "param", "const")


@dataclass(frozen=True)
class Place:
    """Where an access goes: offsets (1,) or (lanes,) into views of one memory."""

    space: str
    offsets: Array
    view: Callable[[int], Array]


def space_of(instruction: Instruction) -> str:
    """Return the space that an instruction names, or "generic"."""
    for suffix in instruction.suffixes:
        if suffix.partition("::")[0] in SPACES:
            return suffix.partition("::")[0]
    return "generic"


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
    if space == "generic":
        space, addresses = _resolve(addresses)
    batch = frame.batch
    if space in ("global", "const"):
        memory = batch.memory
        offsets = memory.offsets(addresses, size, reads=reads, writes=writes)
        kind = "atomic" if reads and writes else "store" if writes else "load"
        batch.counters.request(kind, frame, offsets, size, instruction)
        return Place(space, offsets, memory.view)
    if space == "param":
        return _parameter(frame, addresses, size)
    if space == "shared":
        offsets = batch.shared.offsets(
            batch.block_of[frame.lanes], addresses, size, reads=reads, writes=writes
        )
        return Place(space, offsets, batch.shared.view)
    offsets = batch.local.offsets(frame.lanes, addresses, size, reads=reads, writes=writes)
    return Place(space, offsets, batch.local.view)


def _resolve(addresses: Array) -> tuple[str, Array]:
    """Return the space of generic addresses, all of one, and the addresses in it."""
    low, high = int(addresses.min()), int(addresses.max())
    if low >= SHARED_WINDOW + (1 << 32):
        return "global", addresses
    for space, window in (("shared", SHARED_WINDOW), ("local", LOCAL_WINDOW)):
        if window <= low and high < window + (1 << 32):
            return space, addresses - np.uint64(window)
    if low >= PARAM_WINDOW and high < LOCAL_WINDOW:
        return "param", addresses
    position = int(np.argmin(addresses))
    raise OutOfBounds(f"accesses address {low:#x}, which belongs to no memory", position)


def _parameter(frame: Frame, addresses: Array, size: int) -> Place:
    raw = frame.batch.parameters
    offsets = (addresses - np.uint64(PARAM_WINDOW)).view(np.int64)
    if int(offsets.min()) < 0 or int(offsets.max()) + size > len(raw):
        raise OutOfBounds(f"reads {size} bytes outside the {len(raw)} bytes of parameters")
    return Place("param", offsets, lambda itemsize: raw[: len(raw) // 8 * 8].view(f"u{itemsize}"))


assert GLOBAL_BASE > SHARED_WINDOW + (1 << 32)
