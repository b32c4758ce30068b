# SPDX-License-Identifier: Apache-2.0
"""How instructions read and write their operands, typed as PTX types them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.operands import Operand
from tests.simulated_gpu.ptx.program import Program
from tests.simulated_gpu.ptx.variables import SIZES

Read = Callable[[Frame], Array]
Write = Callable[[Frame, Array], None]

_FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


def numpy_type(kind: str) -> np.dtype[Any]:
    """The numpy type of a PTX type; packed pairs and bits are unsigned."""
    if kind == "pred":
        return np.dtype(bool)
    if kind in _FLOATS:
        return np.dtype(_FLOATS[kind])
    return np.dtype(f"{'i' if kind[0] == 's' else 'u'}{SIZES[kind]}")


def reader(operand: Operand, kind: str, program: Program) -> Read:
    """Return a function from a frame to the operand's values, (1,) or (lanes,) of `kind`."""
    dtype = numpy_type(kind)
    if operand.kind == "register":
        return _register_reader(operand, dtype, program)
    if operand.kind == "number":
        value = constant(operand, dtype)
        return lambda _frame: value
    if operand.kind == "special":
        name = operand.name
        return lambda frame: frame.batch.special(name, frame).astype(dtype)
    if operand.kind == "symbol":
        at = np.array([program.symbols[operand.name].offset], np.uint64).astype(dtype)
        return lambda _frame: at
    raise ValueError(f"an operand of kind {operand.kind}")


def _register_reader(operand: Operand, dtype: np.dtype[Any], program: Program) -> Read:
    name, stored = operand.name, program.dtype(operand.name)
    if dtype.kind == "b":
        return lambda frame: frame.values[name]
    if stored.itemsize == dtype.itemsize:
        return lambda frame: frame.values[name].view(dtype)
    if stored.itemsize > dtype.itemsize:
        narrow = np.dtype(f"u{dtype.itemsize}")
        return lambda frame: frame.values[name].astype(narrow).view(dtype)
    raise ValueError(f"{name} is narrower than {dtype}")


def constant(operand: Operand, dtype: np.dtype[Any]) -> Array:
    """Return a literal as an array (1,)."""
    if operand.width and dtype.kind == "f":
        raw = operand.bits.to_bytes(operand.width, "little")
        return np.frombuffer(raw, f"<f{operand.width}").astype(dtype)
    mask = (1 << 8 * dtype.itemsize) - 1
    bits = np.array([operand.bits & mask], f"u{dtype.itemsize}")
    return bits != 0 if dtype.kind == "b" else bits.view(dtype)


def writer(operand: Operand, program: Program) -> Write:
    """Return a function that writes values of any type; narrow ones are extended by their sign."""
    if operand.kind != "register":
        raise ValueError(f"a destination of kind {operand.kind}")
    name, stored = operand.name, program.dtype(operand.name)

    def write(frame: Frame, value: Array) -> None:
        if value.dtype.itemsize == stored.itemsize:
            frame.values[name] = value.view(stored)
        elif value.dtype.itemsize < stored.itemsize:
            signed = value.dtype.kind == "i"
            wide = value.astype(f"i{stored.itemsize}") if signed else value.astype(stored)
            frame.values[name] = wide.view(stored)
        else:
            frame.values[name] = value.view(f"u{value.dtype.itemsize}").astype(stored)

    return write
