# SPDX-License-Identifier: Apache-2.0
"""Atomics: `atom` (which returns the old value) and `red` (which does not).

NOTE: Lanes that meet at one address take turns, from the first thread to the last, or backwards;
a kernel whose result depends on that is not deterministic on a device either.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.simulated_gpu.ptx.access import numpy_type, reader, writer
from tests.simulated_gpu.ptx.addresses import address_reader, find, space_of
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler
from tests.simulated_gpu.ptx.variables import SIZES

__all__: list[str] = []

Update = Callable[[Array, Array, Array], Array]
SCOPES = {"relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "noftz"}
UPDATES: dict[str, Update] = {
    "add": lambda old, b, _c: old + b,
    "and": lambda old, b, _c: old & b,
    "or": lambda old, b, _c: old | b,
    "xor": lambda old, b, _c: old ^ b,
    "min": lambda old, b, _c: np.minimum(old, b),
    "max": lambda old, b, _c: np.maximum(old, b),
    "exch": lambda old, b, _c: np.broadcast_to(b, old.shape),
    "cas": lambda old, b, c: np.where(old == b, c, old),
    "inc": lambda old, b, _c: np.where(old >= b, old.dtype.type(0), old + old.dtype.type(1)),
    "dec": lambda old, b, _c: np.where((old == 0) | (old > b), b, old - old.dtype.type(1)),
}


@handler("atom", "red")
def _atomic(instruction: Instruction, program: Program) -> Run:
    *options, kind = instruction.suffixes
    names = [
        o for o in options if o not in SCOPES and o.partition("::")[0] not in ("global", "shared")
    ]
    (name,) = names
    if kind == "f16x2":
        raise ValueError(kind)
    update, space = UPDATES[name], space_of(instruction)
    operands = list(instruction.operands)
    write = writer(operands.pop(0), program) if instruction.opcode == "atom" else None
    address = address_reader(operands[0], program)
    reads = [reader(operand, kind, program) for operand in operands[1:]]
    size, dtype = SIZES[kind], numpy_type(kind)

    def run(frame: Frame) -> None:
        place = find(frame, space, address(frame), size, instruction, reads=True, writes=True)
        offsets = frame.spread(place.offsets)
        if place.space == "shared":
            frame.batch.shared.watch(
                offsets, size, frame.lanes, frame.warps, reads=False, atomic=True
            )
        cells = place.view(size).view(dtype)
        values = [frame.spread(read(frame)) for read in reads]
        values.append(values[0])
        where = offsets >> (size.bit_length() - 1)
        old = _take_turns(cells, where, values[0], values[1], update, frame.batch.backwards)
        if write is not None:
            write(frame, old)

    return run


def _take_turns(
    cells: Array, where: Array, b: Array, c: Array, update: Update, backwards: bool
) -> Array:
    """Update cells lane after lane; return what each lane found."""
    rank = np.arange(len(where))
    order = np.lexsort((-rank if backwards else rank, where))
    sorted_places = where[order]
    starts = np.flatnonzero(np.r_[True, sorted_places[1:] != sorted_places[:-1]])
    lengths = np.diff(np.r_[starts, len(where)])
    old = np.empty(len(where), cells.dtype)
    if update is UPDATES["add"] and cells.dtype.kind != "f":
        return _add_all(cells, sorted_places, order, b, starts, lengths, old)
    for turn in range(int(lengths.max())):
        now = order[starts[lengths > turn] + turn]
        found = cells[where[now]]
        old[now] = found
        cells[where[now]] = update(found, b[now], c[now])
    return old


def _add_all(
    cells: Array, places: Array, order: Array, b: Array, starts: Array, lengths: Array, old: Array
) -> Array:
    """Integer addition, whose turns are running sums."""
    terms = b[order]
    running = np.cumsum(terms, dtype=cells.dtype)
    before = running - terms
    base = np.repeat(before[starts], lengths)
    old[order] = cells[places] + (before - base)
    ends = starts + lengths - 1
    cells[places[starts]] += running[ends] - before[starts]
    return old
