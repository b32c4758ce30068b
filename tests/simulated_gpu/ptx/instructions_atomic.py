# SPDX-License-Identifier: Apache-2.0
"""Atomics.

NOTE: Lanes that meet at one address take turns, from the first thread to the last, or backwards;
a kernel whose result depends on that is not deterministic on a device either.
"""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.access import numpy_type, reader, writer
from tests.simulated_gpu.ptx.addresses import address_reader, find, space_of
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler
from tests.simulated_gpu.ptx.variables import SIZES

__all__: list[str] = []

UPDATES: dict[str, np.ufunc] = {"add": np.add, "min": np.minimum, "max": np.maximum}


@handler("atom")
def _atomic(instruction: Instruction, program: Program) -> Run:
    *_, name, kind = instruction.suffixes
    update, space = UPDATES[name], space_of(instruction)
    to, place_of, by = instruction.operands
    write, read = writer(to, program), reader(by, kind, program)
    address = address_reader(place_of, program)
    size, dtype = SIZES[kind], numpy_type(kind)

    def run(frame: Frame) -> None:
        place = find(frame, space, address(frame), size, instruction, reads=True, writes=True)
        offsets = frame.spread(place.offsets)
        if place.space == "shared":
            frame.batch.shared.watch(
                offsets, size, frame.lanes, frame.warps, reads=False, atomic=True
            )
        cells = place.view(size).view(dtype)
        where = offsets >> (size.bit_length() - 1)
        values = frame.spread(read(frame))
        write(frame, _take_turns(cells, where, values, update, frame.batch.backwards))

    return run


def _take_turns(cells: Array, where: Array, b: Array, update: np.ufunc, backwards: bool) -> Array:
    """Update cells lane after lane; return what each lane found."""
    rank = np.arange(len(where))
    order = np.lexsort((-rank if backwards else rank, where))
    sorted_places = where[order]
    starts = np.flatnonzero(np.r_[True, sorted_places[1:] != sorted_places[:-1]])
    lengths = np.diff(np.r_[starts, len(where)])
    old = np.empty(len(where), cells.dtype)
    if update is np.add and cells.dtype.kind != "f":
        return _add_all(cells, sorted_places, order, b, starts, lengths, old)
    for turn in range(int(lengths.max())):
        now = order[starts[lengths > turn] + turn]
        found = cells[where[now]]
        old[now] = found
        cells[where[now]] = update(found, b[now])
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
