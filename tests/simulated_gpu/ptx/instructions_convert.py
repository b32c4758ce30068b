# SPDX-License-Identifier: Apache-2.0
"""`cvt` and `cvta`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tests.simulated_gpu.ptx import floats
from tests.simulated_gpu.ptx.access import numpy_type, reader, writer
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler

Function = Callable[[Array], Array]

WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@handler("cvt")
def _convert(instruction: Instruction, program: Program) -> Run:
    *options, to, source = instruction.suffixes
    if options and (options[1:] or options[0] not in {*WHOLE, "rn"}):
        raise ValueError(f"suffixes {options}")
    write = writer(instruction.operands[0], program)
    function = _conversion(numpy_type(source), numpy_type(to), WHOLE.get("".join(options)))
    read = reader(instruction.operands[1], source, program)
    return lambda frame: write(frame, np.asarray(function(read(frame))))


def _conversion(source: np.dtype[Any], to: np.dtype[Any], whole: Function | None) -> Function:
    if source.kind == "f" and to.kind == "f":
        return lambda a: floats.canonical(np.array(whole(a) if whole else a, to))
    if source.kind == "f":
        if whole is None:
            raise ValueError("no rounding to an integer")
        return lambda a: _to_integer(a, to, whole)
    return lambda a: a.astype(to)


def _to_integer(a: Array, to: np.dtype[Any], whole: Function) -> Array:
    """Clamped to what the integer can hold."""
    limits = np.iinfo(to)
    value = whole(a.astype(np.float64))
    inside = np.where(np.isnan(value), 0.0, value)
    low, high = float(limits.min), float(limits.max)
    safe = np.where((inside >= low) & (inside < high), inside, 0.0).astype(to)
    result = np.where(inside >= high, to.type(limits.max), safe)
    result = np.where(inside < low, to.type(limits.min), result)
    wide = a.dtype == np.float64 or to.itemsize == 8
    strange = to.type(limits.min if to.kind == "i" else 1 << 8 * to.itemsize - 1)
    return np.where(np.isnan(value), strange if wide else to.type(0), result)


@handler("cvta")
def _to_address(instruction: Instruction, program: Program) -> Run:
    if instruction.suffixes != ("to", "global", "u64"):
        raise ValueError(f"suffixes {instruction.suffixes}")
    write = writer(instruction.operands[0], program)
    read = reader(instruction.operands[1], "u64", program)
    return lambda frame: write(frame, read(frame))  # such addresses are generic ones
