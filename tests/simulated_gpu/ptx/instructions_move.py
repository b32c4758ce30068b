# SPDX-License-Identifier: Apache-2.0
"""Moves, comparisons and choices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.simulated_gpu.ptx.access import Read, numpy_type, reader, writer
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.operands import Operand
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler
from tests.simulated_gpu.ptx.variables import SIZES

__all__: list[str] = []

COMPARE: dict[str, np.ufunc] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}


@handler("mov")
def _move(instruction: Instruction, program: Program) -> Run:
    to, source = instruction.operands
    kind = instruction.suffixes[-1]
    if source.kind == "vector":
        return _pack(to, source.items, kind, program)
    if to.kind == "vector":
        return _unpack(to.items, source, kind, program)
    if source.kind == "special":
        kind = "u64" if SIZES.get(kind) == 8 else "u32"
    write, read = writer(to, program), reader(source, kind, program)
    return lambda frame: write(frame, read(frame))


def _pack(to: Operand, items: tuple[Operand, ...], kind: str, program: Program) -> Run:
    bits = 8 * SIZES[kind] // len(items)
    write = writer(to, program)
    reads = [reader(item, f"b{bits}", program) for item in items]
    wide = numpy_type(kind)

    def run(frame: Frame) -> None:
        total = np.zeros(1, wide)
        for i, read in enumerate(reads):
            total = total | read(frame).astype(wide) << wide.type(i * bits)
        write(frame, total)

    return run


def _unpack(items: tuple[Operand, ...], source: Operand, kind: str, program: Program) -> Run:
    bits = 8 * SIZES[kind] // len(items)
    read = reader(source, kind, program)
    writes = [writer(item, program) for item in items]
    narrow = np.dtype(f"u{bits // 8}")

    def run(frame: Frame) -> None:
        value = read(frame)
        for i, write in enumerate(writes):
            write(frame, (value >> value.dtype.type(i * bits)).astype(narrow))

    return run


def _comparison(name: str, kind: str) -> Callable[[Array, Array], Array]:
    if kind not in ("f16", "f32", "f64"):
        return COMPARE[name]
    if name in ("num", "nan"):
        nan = name == "nan"
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == nan
    if name.endswith("u") and name != "u":
        plain = COMPARE[name[:-1]]
        return lambda a, b: plain(a, b) | np.isnan(a) | np.isnan(b)
    if name == "ne":  # ordered, unlike that of C
        return lambda a, b: (a < b) | (a > b)
    return COMPARE[name]


@handler("setp")
def _compare(instruction: Instruction, program: Program) -> Run:
    name, kind = instruction.suffixes
    compare = _comparison(name, kind)
    to, one, other = instruction.operands
    write, reads = writer(to, program), [reader(o, kind, program) for o in (one, other)]
    return lambda frame: write(frame, np.asarray(compare(reads[0](frame), reads[1](frame))))


@handler("selp")
def _select(instruction: Instruction, program: Program) -> Run:
    kind = f"b{8 * SIZES[instruction.suffixes[-1]]}"
    to, yes, no, which = instruction.operands
    write, predicate = writer(to, program), reader(which, "pred", program)
    first, second = _bits(yes, instruction, kind, program), _bits(no, instruction, kind, program)
    return lambda frame: write(frame, np.where(predicate(frame), first(frame), second(frame)))


def _bits(operand: Operand, instruction: Instruction, kind: str, program: Program) -> Read:
    """Read as bits, but a literal as what the instruction says it is."""
    if operand.kind != "number":
        return reader(operand, kind, program)
    typed = reader(operand, instruction.suffixes[-1], program)
    return lambda frame: typed(frame).view(numpy_type(kind))
