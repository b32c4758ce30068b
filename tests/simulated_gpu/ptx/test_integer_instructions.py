# SPDX-License-Identifier: Apache-2.0
"""Each integer instruction against Python's integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.simulated_gpu.ptx.faults import UnknownInstructionError
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.single import evaluate

EDGES = [0, 1, 2, 3, 7, 31, 32, 33, 255, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
EDGES += [0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 0x0123456789ABCDEF]


def numbers(bits: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, 1 << 64, 200, dtype=np.uint64, endpoint=False)
    edges = generator.permutation(np.array(EDGES * 6, np.uint64))[:100]
    return np.concatenate([edges, drawn]).astype(f"u{bits // 8}")


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


TWO: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "min": min,
    "max": max,
    "mul.lo": lambda a, b: a * b,
    "div": lambda a, b: quotient(a, b) if b else -1,
    "rem": lambda a, b: a - quotient(a, b) * b if b else a,
}


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("sign", ["s", "u"])
@pytest.mark.parametrize("name", TWO)
def test_arithmetic_wraps_as_integers_of_its_width(name: str, sign: str, bits: int) -> None:
    a, b = numbers(bits, 1), numbers(bits, 2)
    kind = f"{sign}{bits}"
    found = evaluate(f"{name}.{kind}", f"u{bits} {kind} {kind}", a, b)
    for x, y, z in zip(a.tolist(), b.tolist(), found.tolist(), strict=True):
        p, q = (signed(x, bits), signed(y, bits)) if sign == "s" else (x, y)
        assert z == TWO[name](p, q) % (1 << bits)


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_high_and_wide_products_are_exact(kind: str) -> None:
    bits = int(kind[1:])
    a, b, c = numbers(bits, 3), numbers(bits, 4), numbers(bits, 5)
    forms = {"mul.hi": [a, b], "mad.hi": [a, b, c]}
    if bits < 64:
        forms["mul.wide"] = [a, b]
    for name, inputs in forms.items():
        size = 2 * bits if "wide" in name else bits
        found = evaluate(f"{name}.{kind}", " ".join([f"u{size}"] + [kind] * len(inputs)), *inputs)
        for *operands, z in zip(*[i.tolist() for i in inputs], found.tolist(), strict=True):
            x, y, *rest = [signed(o, bits) if kind[0] == "s" else o for o in operands]
            product = x * y if "wide" in name else (x * y) >> bits
            assert z == (product + sum(rest)) % (1 << size)


def test_a_wide_product_takes_a_wide_summand() -> None:
    a, b, c = numbers(32, 6), numbers(32, 7), numbers(64, 8)
    found = evaluate("mad.wide.s32", "u64 s32 s32 s64", a, b, c)
    want = [
        (signed(x, 32) * signed(y, 32) + z) % (1 << 64)
        for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    ]
    assert found.tolist() == want


@pytest.mark.parametrize("kind", ["b32", "b64"])
def test_logic_works_on_every_bit(kind: str) -> None:
    bits = int(kind[1:])
    a, b = numbers(bits, 9), numbers(bits, 10)
    for name, function in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        found = evaluate(f"{name}.{kind}", f"{kind} {kind} {kind}", a, b)
        np.testing.assert_array_equal(found, function(a, b))
    np.testing.assert_array_equal(evaluate(f"not.{kind}", f"{kind} {kind}", a), ~a)


@pytest.mark.parametrize("kind", ["b32", "s32", "u32", "b64", "s64", "u16"])
def test_shifts_by_more_than_the_width_empty_the_register(kind: str) -> None:
    bits = int(kind[1:])
    a = numbers(bits, 11)
    by = np.random.default_rng(0).integers(0, 80, len(a)).astype(np.uint32)
    left = evaluate(f"shl.b{bits}", f"u{bits} u{bits} u32", a, by)
    right = evaluate(f"shr.{kind}", f"u{bits} u{bits} u32", a, by)
    for x, n, z, w in zip(a.tolist(), by.tolist(), left.tolist(), right.tolist(), strict=True):
        assert z == (x << n) % (1 << bits)
        assert w == ((signed(x, bits) if kind[0] == "s" else x) >> n) % (1 << bits)


def test_bits_are_counted_found_and_reversed() -> None:
    a, d = numbers(32, 14), numbers(64, 15)
    assert evaluate("popc.b32", "u32 u32", a).tolist() == [x.bit_count() for x in a.tolist()]
    assert evaluate("popc.b64", "u32 u64", d).tolist() == [x.bit_count() for x in d.tolist()]
    assert evaluate("clz.b32", "u32 u32", a).tolist() == [32 - x.bit_length() for x in a.tolist()]
    assert evaluate("clz.b64", "u32 u64", d).tolist() == [64 - x.bit_length() for x in d.tolist()]
    turned = [int(f"{x:032b}"[::-1], 2) for x in a.tolist()]
    assert evaluate("brev.b32", "u32 u32", a).tolist() == turned
    highest = [(x.bit_length() - 1) % (1 << 32) for x in a.tolist()]
    assert evaluate("bfind.u32", "u32 u32", a).tolist() == highest
    shifts = [31 - position if position < 32 else position for position in highest]
    assert evaluate("bfind.shiftamt.u32", "u32 u32", a).tolist() == shifts


def test_comparisons_know_the_sign() -> None:
    a, b = numbers(32, 25), numbers(32, 26)
    for sign, view in (("s", np.int32), ("u", np.uint32)):
        for name, function in (("lt", np.less), ("ge", np.greater_equal), ("ne", np.not_equal)):
            body = f"setp.{name}.{sign}32 %p1, {{1}}, {{2}}; selp.u32 {{0}}, 1, 0, %p1"
            found = evaluate(body, "u32 u32 u32", a, b)
            np.testing.assert_array_equal(found, function(a.view(view), b.view(view)))


def test_registers_are_packed_and_unpacked() -> None:
    d = numbers(64, 27)
    body = "mov.b64 {{%r20, %r21}}, {1}; mov.b64 {0}, {{%r21, %r20}}"
    found = evaluate(body, "u64 u64", d)
    np.testing.assert_array_equal(found, d << np.uint64(32) | d >> np.uint64(32))


def test_an_unknown_instruction_is_named() -> None:
    a = numbers(32, 28)
    with pytest.raises(
        UnknownInstructionError, match=r"`frobnicate\.u32 %r10, %r1`.*unknown opcode"
    ):
        evaluate("frobnicate.u32", "u32 u32", a)
    with pytest.raises(UnknownInstructionError, match=r"`add\.sat\.s32 .*unknown form"):
        evaluate("add.sat.s32", "u32 u32 u32", a, a)
