# SPDX-License-Identifier: Apache-2.0
"""float32, float64 and float16 arithmetic; pairs of float16 (`f16x2`) element by element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.simulated_gpu.ptx import floats
from tests.simulated_gpu.ptx.access import Read, reader, writer
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.operands import Operand
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run

FLOATS = ("f32", "f64", "f16", "f16x2")
MODES = ("rn", "rz", "rm", "rp")
Function = Callable[..., Array]


def _exactly(name: str, a: Array, b: Array, mode: str) -> Array:
    """a (name) b with one rounding in a mode that numpy lacks."""
    wide = a.astype(np.float64), b.astype(np.float64)
    if a.dtype == np.float64:
        raise ValueError(f"float64 with .{mode}")
    if name == "mul":
        return floats.round_from(wide[0] * wide[1], a.dtype, mode)
    return floats.round_from(
        floats.sum_to_odd(wide[0], wide[1] if name == "add" else -wide[1]), a.dtype, mode
    )


def _through_float64(function: Callable[[Array], Array]) -> Function:
    def compute(a: Array) -> Array:
        return np.asarray(function(a.astype(np.float64))).astype(a.dtype)

    return compute


def _sign(a: Array, change: str) -> Array:
    bits = a.view(f"u{a.dtype.itemsize}")
    top = bits.dtype.type(1 << (8 * a.dtype.itemsize - 1))
    return np.asarray(bits ^ top if change == "neg" else bits & ~top).view(a.dtype)


UNARY: dict[str, Function] = {
    "sqrt": np.sqrt,
    "rcp": lambda a: a.dtype.type(1) / a,
    "rsqrt": _through_float64(lambda a: 1 / np.sqrt(a)),
    "ex2": _through_float64(np.exp2),
    "lg2": _through_float64(np.log2),
    "sin": _through_float64(np.sin),
    "cos": _through_float64(np.cos),
    "tanh": _through_float64(np.tanh),
}
BINARY: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "copysign": lambda a, b: np.copysign(b, a),
}
KNOWN = {"approx", "full", "ftz", "sat", "NaN", "relu", "rn", "rz", "rm", "rp", "noftz"}


def _function(instruction: Instruction, mode: str) -> Function:
    """Return the function of the operands, its result rounded in `mode`."""
    name, suffixes = instruction.opcode, instruction.suffixes
    if name in ("neg", "abs"):
        return lambda a: _sign(a, name)
    if name in ("min", "max"):
        choose = floats.minimum if name == "min" else floats.maximum
        return lambda *values: _fold(choose, values, keep_nan="NaN" in suffixes)
    if name in ("fma", "mad"):
        return lambda a, b, c: floats.canonical(floats.fma(a, b, c, mode))
    if mode != "rn":
        if name not in ("add", "sub", "mul"):
            raise ValueError(f"rounding {mode}")
        return lambda a, b: floats.canonical(_exactly(name, a, b, mode))
    plain = UNARY.get(name) or BINARY[name]
    return lambda *values: floats.canonical(np.asarray(plain(*values)))


def _fold(choose: Callable[..., Array], values: tuple[Array, ...], *, keep_nan: bool) -> Array:
    result = values[0]
    for value in values[1:]:
        result = choose(result, value, keep_nan=keep_nan)
    return result


def bind_float(instruction: Instruction, program: Program) -> Run:
    """Bind an instruction whose last suffix is a floating-point type."""
    *options, kind = instruction.suffixes
    if set(options) - KNOWN:
        raise ValueError(f"suffixes {sorted(set(options) - KNOWN)}")
    mode = next((option for option in options if option in MODES), "rn")
    function = _finished(_function(instruction, mode), options)
    write = writer(instruction.operands[0], program)
    sources = [_reader(operand, kind, program) for operand in instruction.operands[1:]]

    def run(frame: Frame) -> None:
        result = function(*[read(frame) for read in sources])
        if kind == "f16x2":
            result = np.ascontiguousarray(result).view(np.uint32)[..., 0]
        write(frame, result)

    return run


def _reader(operand: Operand, kind: str, program: Program) -> Read:
    if kind != "f16x2":
        return reader(operand, kind, program)
    pairs = reader(operand, "b32", program)
    return lambda frame: np.ascontiguousarray(pairs(frame)).view(np.float16).reshape(-1, 2)


def _finished(function: Function, options: list[str]) -> Function:
    """Add what suffixes ask for before and after the operation."""
    if not {"ftz", "sat", "relu"}.intersection(options):
        return function

    def compute(*values: Array) -> Array:
        if "ftz" in options:
            values = tuple(map(floats.flush, values))
        result = function(*values)
        if "ftz" in options:
            result = floats.flush(result)
        if "sat" in options:
            result = floats.saturate(result)
        if "relu" in options:
            zero = result.dtype.type(0)
            result = np.where(result > 0, result, np.where(np.isnan(result), result, zero))
        return result

    return compute
