# SPDX-License-Identifier: Apache-2.0
"""float32, float64 and float16 arithmetic, rounded to nearest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.simulated_gpu.ptx import floats
from tests.simulated_gpu.ptx.access import reader, writer
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run

FLOATS = ("f32", "f64", "f16")


def _sign(a: Array, change: str) -> Array:
    bits = a.view(f"u{a.dtype.itemsize}")
    top = bits.dtype.type(1 << (8 * a.dtype.itemsize - 1))
    return np.asarray(bits ^ top if change == "neg" else bits & ~top).view(a.dtype)


def _rounded(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda *values: floats.canonical(np.asarray(function(*values)))


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "add": _rounded(np.add),
    "sub": _rounded(np.subtract),
    "mul": _rounded(np.multiply),
    "div": _rounded(np.divide),
    "rcp": _rounded(lambda a: a.dtype.type(1) / a),
    "min": floats.minimum,
    "max": floats.maximum,
    "neg": lambda a: _sign(a, "neg"),
    "abs": lambda a: _sign(a, "abs"),
}


def bind_float(instruction: Instruction, program: Program) -> Run:
    """Bind an instruction whose last suffix is a floating-point type."""
    *options, kind = instruction.suffixes
    if options not in ([], ["rn"]):
        raise ValueError(f"suffixes {options}")
    function = FUNCTIONS[instruction.opcode]
    to, *sources = instruction.operands
    write, reads = writer(to, program), [reader(one, kind, program) for one in sources]
    return lambda frame: write(frame, function(*[read(frame) for read in reads]))
