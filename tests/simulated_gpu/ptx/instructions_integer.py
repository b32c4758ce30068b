# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic and bits. Opcodes that floats share go to them by their type."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.simulated_gpu.ptx.access import reader, writer
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.instructions_float import FLOATS, bind_float
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program, Run, handler

Function = Callable[..., Array]
ONLY_FLOAT = ("abs", "rcp")


def _unsigned(a: Array) -> Array:
    return a.view(f"u{a.dtype.itemsize}")


def multiply_high(a: Array, b: Array) -> Array:
    """The upper half of a product, of the operands' type."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = f"{a.dtype.kind}{2 * a.dtype.itemsize}"
        product: Array = a.astype(wide) * b.astype(wide)
        return (product >> bits).astype(a.dtype)
    x, y = _unsigned(a), _unsigned(b)
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    low = (x & mask) * (y & mask)
    cross = (x >> half) * (y & mask) + (low >> half)
    middle = (x & mask) * (y >> half) + (cross & mask)
    high = (x >> half) * (y >> half) + (cross >> half) + (middle >> half)
    if a.dtype.kind == "i":
        zero = np.uint64(0)
        high = high - np.where(a < 0, y, zero) - np.where(b < 0, x, zero)
    return np.asarray(high).view(a.dtype)


def _divide(a: Array, b: Array) -> Array:
    """Towards zero; by zero all bits are set, as the hardware does."""
    quotient = a // np.where(b == 0, b.dtype.type(1), b)
    if a.dtype.kind == "i":
        quotient = quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)
    return np.where(b == 0, ~a.dtype.type(0), quotient)


def _remainder(a: Array, b: Array) -> Array:
    return np.where(b == 0, a, a - _divide(a, b) * b)


def _shift(a: Array, b: Array, function: np.ufunc) -> Array:
    """Shift by up to all bits; more counts as that."""
    bits = 8 * a.dtype.itemsize
    far = b >= bits
    moved = function(a, np.where(far, 0, b).astype(a.dtype))
    signed_right = function is np.right_shift and a.dtype.kind == "i"
    rest = a >> a.dtype.type(bits - 1) if signed_right else a.dtype.type(0)
    return np.asarray(np.where(far, rest, moved))


def _wide(a: Array) -> Array:
    return a.astype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")


def _count_leading(a: Array) -> Array:
    bits = 8 * a.dtype.itemsize
    return (bits - _bit_length(_unsigned(a))).astype(np.uint32)


def _bit_length(a: Array) -> Array:
    length = np.zeros(a.shape, np.int64)
    rest = a.astype(np.uint64)
    for step in (32, 16, 8, 4, 2, 1):
        big = rest >= np.uint64(1 << step)
        length += np.where(big, step, 0)
        rest = np.where(big, rest >> np.uint64(step), rest)
    return length + (rest > 0)


def _shift_to_top(a: Array) -> Array:
    """By how much the highest bit that differs from the sign must be shifted to be the top one."""
    found = _find_leading(a)
    none = ~np.uint32(0)
    return np.where(found == none, none, np.uint32(8 * a.dtype.itemsize - 1) - found)


def _find_leading(a: Array) -> Array:
    """Position of the highest bit that differs from the sign; all bits set if there is none."""
    bits = np.where(a < 0, ~a, a) if a.dtype.kind == "i" else a
    return (_bit_length(_unsigned(np.asarray(bits))) - 1).astype(np.int32).view(np.uint32)


def _reverse(a: Array) -> Array:
    swapped = np.unpackbits(np.ascontiguousarray(a).view(np.uint8), bitorder="little")
    turned = swapped.reshape(-1, 8 * a.dtype.itemsize)[:, ::-1]
    return np.packbits(turned, axis=1, bitorder="little").view(a.dtype)[:, 0]


FUNCTIONS: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "min": np.minimum,
    "max": np.maximum,
    "neg": lambda a: (~_unsigned(a) + _unsigned(a).dtype.type(1)).view(a.dtype),
    "div": _divide,
    "rem": _remainder,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "popc": lambda a: np.bitwise_count(a).astype(np.uint32),
    "clz": _count_leading,
    "brev": _reverse,
}
HALVES: dict[str, Function] = {
    "lo": np.multiply,
    "hi": multiply_high,
    "wide": lambda a, b: _wide(a) * _wide(b),
}


@handler(*FUNCTIONS, *ONLY_FLOAT)
def _plain(instruction: Instruction, program: Program) -> Run:
    kind = instruction.suffixes[-1]
    if kind in FLOATS:
        return bind_float(instruction, program)
    if len(instruction.suffixes) != 1:
        raise ValueError(f"suffixes {instruction.suffixes}")
    return _bind(FUNCTIONS[instruction.opcode], [kind] * 3, instruction, program)


@handler("mul", "mad")
def _multiply(instruction: Instruction, program: Program) -> Run:
    *options, kind = instruction.suffixes
    if kind in FLOATS:
        return bind_float(instruction, program)
    (half,) = options
    multiply = HALVES[half]
    if instruction.opcode == "mul":
        return _bind(multiply, [kind] * 2, instruction, program)
    total = kind if half != "wide" else f"{kind[0]}{2 * int(kind[1:])}"
    return _bind(lambda a, b, c: multiply(a, b) + c, [kind, kind, total], instruction, program)


@handler("shl", "shr")
def _shifts(instruction: Instruction, program: Program) -> Run:
    (kind,) = instruction.suffixes
    function = np.left_shift if instruction.opcode == "shl" else np.right_shift
    return _bind(lambda a, b: _shift(a, b, function), [kind, "u32"], instruction, program)


@handler("bfind")
def _bfind(instruction: Instruction, program: Program) -> Run:
    *options, kind = instruction.suffixes
    find = {(): _find_leading, ("shiftamt",): _shift_to_top}[tuple(options)]
    return _bind(find, [kind], instruction, program)


def _bind(function: Function, kinds: list[str], instruction: Instruction, program: Program) -> Run:
    """Bind a function of operands of these types."""
    write = writer(instruction.operands[0], program)
    sources = instruction.operands[1 : 1 + len(kinds)]
    reads = [reader(o, kind, program) for o, kind in zip(sources, kinds, strict=False)]

    def run(frame: Frame) -> None:
        write(frame, np.asarray(function(*[read(frame) for read in reads])))

    return run
