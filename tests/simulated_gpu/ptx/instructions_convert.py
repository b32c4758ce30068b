# SPDX-License-Identifier: Apache-2.0
"""`cvt` and `cvta`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tests.simulated_gpu.ptx import floats
from tests.simulated_gpu.ptx.access import PARAM_WINDOW, numpy_type, reader, writer
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.onchip import LOCAL_WINDOW, SHARED_WINDOW
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler

Function = Callable[[Array], Array]

# What is added to an address in a space to make it generic.
WINDOW_OF = {
    "global": 0,
    "const": 0,
    "param": PARAM_WINDOW,
    "shared": SHARED_WINDOW,
    "local": LOCAL_WINDOW,
}
WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
KNOWN = {*WHOLE, "rn", "rz", "rm", "rp", "ftz", "sat", "relu"}


@handler("cvt")
def _convert(instruction: Instruction, program: Program) -> Run:
    *options, to, source = instruction.suffixes
    if set(options) - KNOWN:
        raise ValueError(f"suffixes {sorted(set(options) - KNOWN)}")
    write = writer(instruction.operands[0], program)
    if to == "f16x2":
        return _pack(instruction, program)
    function = _conversion(numpy_type(source), numpy_type(to), options)
    read = reader(instruction.operands[1], source, program)
    return lambda frame: write(frame, np.asarray(function(read(frame))))


def _pack(instruction: Instruction, program: Program) -> Run:
    """Two float32 make a pair: the first becomes the upper half."""
    *options, _, source = instruction.suffixes
    convert = _conversion(numpy_type(source), np.dtype(np.float16), options)
    write = writer(instruction.operands[0], program)
    high, low = (reader(operand, source, program) for operand in instruction.operands[1:])

    def run(frame: Frame) -> None:
        upper = convert(high(frame)).view(np.uint16).astype(np.uint32)
        write(frame, upper << np.uint32(16) | convert(low(frame)).view(np.uint16))

    return run


def _conversion(source: np.dtype[Any], to: np.dtype[Any], options: list[str]) -> Function:
    if source.kind == "f" and to.kind == "f":
        return lambda a: _float_to_float(a, to, options)
    if source.kind == "f":
        (name,) = [option for option in options if option in WHOLE]
        return lambda a: _to_integer(floats.flush(a) if "ftz" in options else a, to, WHOLE[name])
    if to.kind == "f":
        mode = next(option for option in options if option in ("rn", "rz", "rm", "rp"))
        return lambda a: _from_integer(a, to, mode)
    if "sat" in options:
        return lambda a: _clamp(a, to)
    return lambda a: a.astype(to)


def _float_to_float(a: Array, to: np.dtype[Any], options: list[str]) -> Array:
    if "ftz" in options and a.dtype == np.float32:
        a = floats.flush(a)
    whole = next((WHOLE[option] for option in options if option in WHOLE), None)
    if whole is not None:
        a = np.asarray(whole(a))
    mode = next((option for option in options if option in ("rn", "rz", "rm", "rp")), "rn")
    result = floats.round_from(a.astype(np.float64), to, mode) if a.dtype != to else a.copy()
    if "ftz" in options and to == np.float32:
        result = floats.flush(result)
    if "sat" in options:
        result = floats.saturate(result)
    if "relu" in options:
        result = np.where(np.isnan(result) | (result > 0), result, result.dtype.type(0))
    return floats.canonical(result)


def _to_integer(a: Array, to: np.dtype[Any], whole: Callable[[Array], Array]) -> Array:
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


def _from_integer(a: Array, to: np.dtype[Any], mode: str) -> Array:
    if mode == "rn" or (to == np.float64 and a.dtype.itemsize < 8):
        return a.astype(np.float64).astype(to) if to == np.float16 else a.astype(to)
    if a.dtype.itemsize == 8:
        raise ValueError("64 bits in a directed rounding")
    return floats.round_from(a.astype(np.float64), to, mode)


def _clamp(a: Array, to: np.dtype[Any]) -> Array:
    limits, own = np.iinfo(to), np.iinfo(a.dtype)
    low, high = max(limits.min, own.min), min(limits.max, own.max)
    return np.clip(a, a.dtype.type(low), a.dtype.type(high)).astype(to)


@handler("cvta")
def _to_address(instruction: Instruction, program: Program) -> Run:
    *to, space, kind = instruction.suffixes
    window = np.uint64(WINDOW_OF[space.partition("::")[0]])
    write = writer(instruction.operands[0], program)
    read = reader(instruction.operands[1], kind, program)
    if to:
        return lambda frame: write(frame, read(frame) - window)
    return lambda frame: write(frame, read(frame) + window)
