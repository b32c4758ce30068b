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
ONLY_FLOAT = ("sqrt", "rsqrt", "rcp", "ex2", "lg2", "sin", "cos", "tanh", "fma", "copysign")


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


def _extract(a: Array, start: Array, length: Array) -> Array:
    """`bfe`: a field, filled up with its sign (or that of the register, if it ends beyond)."""
    bits = 8 * a.dtype.itemsize
    start, length = (start & 0xFF).astype(np.int64), (length & 0xFF).astype(np.int64)
    field = _shift(_unsigned(a), start, np.right_shift)
    keep = np.clip(np.minimum(length, bits - start), 0, bits)  # what lies in the register
    ones = ~_shift(np.full(1, ~_unsigned(a).dtype.type(0)), keep, np.left_shift)
    result = field & ones
    if a.dtype.kind == "i":
        last = np.clip(start + length - 1, 0, bits - 1)
        sign = (_shift(_unsigned(a), last, np.right_shift) & 1) != 0
        result = np.where(sign & (length > 0), result | ~ones, result)
    return np.asarray(result).view(a.dtype)


def _insert(a: Array, b: Array, start: Array, length: Array) -> Array:
    """`bfi`: the lowest bits of `a` put into `b`."""
    start, length = (start & 0xFF).astype(np.int64), (length & 0xFF).astype(np.int64)
    ones = ~_shift(np.full(1, ~a.dtype.type(0)), length, np.left_shift)
    mask = _shift(np.broadcast_to(ones, np.broadcast(ones, start).shape), start, np.left_shift)
    return (b & ~mask) | (_shift(a, start, np.left_shift) & mask)


FUNCTIONS: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "min": np.minimum,
    "max": np.maximum,
    "neg": lambda a: (~_unsigned(a) + _unsigned(a).dtype.type(1)).view(a.dtype),
    "abs": lambda a: np.where(a < 0, -a, a),
    "div": _divide,
    "rem": _remainder,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "cnot": lambda a: (a == 0).astype(a.dtype),
    "popc": lambda a: np.bitwise_count(a).astype(np.uint32),
    "clz": _count_leading,
    "brev": _reverse,
    "sad": lambda a, b, c: np.where(a > b, a - b, b - a) + c,
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


@handler("mul", "mad", "mul24", "mad24")
def _multiply(instruction: Instruction, program: Program) -> Run:
    *options, kind = instruction.suffixes
    if kind in FLOATS:
        return bind_float(instruction, program)
    (half,) = options
    multiply = HALVES[half]
    if instruction.opcode == "mul":
        return _bind(multiply, [kind] * 2, instruction, program)
    if instruction.opcode != "mad":
        raise ValueError("24 bits")
    total = kind if half != "wide" else f"{kind[0]}{2 * int(kind[1:])}"
    return _bind(lambda a, b, c: multiply(a, b) + c, [kind, kind, total], instruction, program)


@handler("shl", "shr")
def _shifts(instruction: Instruction, program: Program) -> Run:
    (kind,) = instruction.suffixes
    function = np.left_shift if instruction.opcode == "shl" else np.right_shift
    return _bind(lambda a, b: _shift(a, b, function), [kind, "u32"], instruction, program)


@handler("shf")
def _funnel(instruction: Instruction, program: Program) -> Run:
    side, mode, _ = instruction.suffixes

    def function(low: Array, high: Array, by: Array) -> Array:
        count = by & 31 if mode == "wrap" else np.minimum(by, 32)
        both = high.astype(np.uint64) << np.uint64(32) | low
        if side == "l":
            return ((both << count.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)
        return (both >> count.astype(np.uint64)).astype(np.uint32)

    return _bind(function, ["b32", "b32", "u32"], instruction, program)


@handler("bfe")
def _bfe(instruction: Instruction, program: Program) -> Run:
    return _bind(_extract, [instruction.suffixes[0], "u32", "u32"], instruction, program)


@handler("bfi")
def _bfi(instruction: Instruction, program: Program) -> Run:
    (kind,) = instruction.suffixes
    return _bind(_insert, [kind, kind, "u32", "u32"], instruction, program)


@handler("bfind")
def _bfind(instruction: Instruction, program: Program) -> Run:
    *options, kind = instruction.suffixes
    find = {(): _find_leading, ("shiftamt",): _shift_to_top}[tuple(options)]
    return _bind(find, [kind], instruction, program)


@handler("lop3")
def _lop3(instruction: Instruction, program: Program) -> Run:
    if instruction.suffixes != ("b32",):
        raise ValueError(f"suffixes {instruction.suffixes}")
    table = instruction.operands[4].bits

    def function(a: Array, b: Array, c: Array) -> Array:
        result = np.zeros(1, np.uint32)
        for case in range(8):
            if table >> case & 1:
                term = a if case & 4 else ~a
                term = term & (b if case & 2 else ~b)
                result = result | (term & (c if case & 1 else ~c))
        return result

    return _bind(function, ["b32"] * 3, instruction, program)


@handler("prmt")
def _permute(instruction: Instruction, program: Program) -> Run:
    if instruction.suffixes != ("b32",):
        raise ValueError(f"suffixes {instruction.suffixes}")

    def function(a: Array, b: Array, choice: Array) -> Array:
        both = b.astype(np.uint64) << np.uint64(32) | a
        result = np.zeros(1, np.uint32)
        for i in range(4):
            nibble = choice >> np.uint32(4 * i) & np.uint32(15)
            byte = both >> (np.uint64(8) * (nibble & 7)) & np.uint64(0xFF)
            sign = np.where(byte & np.uint64(0x80), np.uint64(0xFF), np.uint64(0))
            byte = np.where(nibble & 8, sign, byte)
            result = result | byte.astype(np.uint32) << np.uint32(8 * i)
        return result

    return _bind(function, ["b32"] * 3, instruction, program)


def _bind(function: Function, kinds: list[str], instruction: Instruction, program: Program) -> Run:
    """Bind a function of operands of these types."""
    write = writer(instruction.operands[0], program)
    sources = instruction.operands[1 : 1 + len(kinds)]
    reads = [reader(o, kind, program) for o, kind in zip(sources, kinds, strict=False)]

    def run(frame: Frame) -> None:
        write(frame, np.asarray(function(*[read(frame) for read in reads])))

    return run
