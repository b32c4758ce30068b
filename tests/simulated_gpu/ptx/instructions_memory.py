# SPDX-License-Identifier: Apache-2.0
"""Loads and stores, of single elements and of vectors."""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.access import Read, numpy_type, reader, writer
from tests.simulated_gpu.ptx.addresses import address_reader, find, space_of
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.operands import Operand
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler
from tests.simulated_gpu.ptx.variables import SIZES

__all__: list[str] = []

VECTORS = {"v2": 2, "v4": 4, "v8": 8}
# "nc" promises that nobody writes, "volatile" that no access is left out.
OPTIONS = {"global", "shared", "param", "nc", "volatile"}


def _form(instruction: Instruction) -> tuple[str, int]:
    """Return element type and number of elements."""
    *options, kind = instruction.suffixes
    counts = [VECTORS[option] for option in options if option in VECTORS]
    strange = set(options) - OPTIONS - VECTORS.keys()
    if strange:
        raise ValueError(f"suffixes {sorted(strange)}")
    return kind, counts[0] if counts else 1


def _items(operand: Operand, count: int) -> tuple[Operand, ...]:
    items = operand.items if operand.kind == "vector" else (operand,)
    if len(items) != count:
        raise ValueError(f"{len(items)} registers for {count} elements")
    return items


@handler("ld")
def _load(instruction: Instruction, program: Program) -> Run:
    kind, count = _form(instruction)
    dtype, size, space = numpy_type(kind), SIZES[kind], space_of(instruction)
    writes = [writer(item, program) for item in _items(instruction.operands[0], count)]
    address = address_reader(instruction.operands[1], program)
    shift = size.bit_length() - 1

    def run(frame: Frame) -> None:
        place = find(
            frame, space, address(frame), size * count, instruction, reads=True, writes=False
        )
        if place.space == "shared":
            lanes = frame.lanes
            frame.batch.shared.watch(place.offsets, size * count, lanes, frame.warps, reads=True)
        view, first = place.view(size), place.offsets >> shift
        for i, write in enumerate(writes):
            write(frame, view[first + i if i else first].view(dtype))

    return run


@handler("st")
def _store(instruction: Instruction, program: Program) -> Run:
    kind, count = _form(instruction)
    size, space = SIZES[kind], space_of(instruction)
    address = address_reader(instruction.operands[0], program)
    items = _items(instruction.operands[1], count)
    reads = [_bits(item, kind, program) for item in items]
    shift = size.bit_length() - 1

    def run(frame: Frame) -> None:
        place = find(
            frame, space, address(frame), size * count, instruction, reads=False, writes=True
        )
        view, first = place.view(size), place.offsets >> shift
        values = [read(frame) for read in reads]
        if place.space == "shared":
            _watch(frame, place.offsets, size, view, first, values)
        for i, value in enumerate(values):
            # Of several lanes that write one place, the last wins.
            view[first + i] = value if len(first) > 1 or len(value) == 1 else value[-1:]

    return run


def _bits(operand: Operand, kind: str, program: Program) -> Read:
    if operand.kind == "number":
        typed = reader(operand, kind, program)
        return lambda frame: typed(frame).view(f"u{SIZES[kind]}")
    return reader(operand, f"b{8 * SIZES[kind]}", program)


def _watch(
    frame: Frame, offsets: Array, size: int, view: Array, first: Array, values: list[Array]
) -> None:
    """Look for a race of a store to shared memory; `offsets` has an element for each lane."""
    pending = np.stack([frame.spread(value) for value in values], axis=1)
    old = np.stack([view[first + i] for i in range(len(values))], axis=1)
    shared = frame.batch.shared
    shared.will_write(pending)
    same = (old == pending).all(axis=1)
    shared.watch(offsets, size * len(values), frame.lanes, frame.warps, reads=False, same=same)
