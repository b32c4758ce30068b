# SPDX-License-Identifier: Apache-2.0
"""Floating-point instructions against exact arithmetic on fractions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulated_gpu.ptx import floats
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.single import evaluate

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.5, 3.4e38, -3.4e38, 1e-45, -1e-45, 1.2e-38, 1e-39]
EDGES += [float("inf"), float("-inf"), float("nan"), 65504.0, 65520.0, 6e-8, 2**-24, 2**-25, 0.1]


def numbers(dtype: str, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    drawn = generator.standard_normal(150) * np.exp2(generator.integers(-12, 12, 150))
    edges = generator.permutation(np.array(EDGES * 5))
    with np.errstate(over="ignore"):
        return np.concatenate([drawn, edges]).astype(dtype)


def same(found: Array, want: Array) -> None:
    """Assert equal bits, but for the bits of a NaN."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(want))
    number = ~np.isnan(want)
    bits = f"u{found.dtype.itemsize}"
    np.testing.assert_array_equal(found.view(bits)[number], want.view(bits)[number])


def nearest(value: Fraction, mode: str = "rn") -> float:
    """Round an exact value, in the range of normal numbers, to float32."""
    exponent = math.floor(math.log2(abs(value))) - 23
    while abs(value) >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while abs(value) < Fraction(2) ** (exponent + 23):
        exponent -= 1
    scaled = value / Fraction(2) ** exponent
    rounding: dict[str, Callable[[Fraction], int]] = {
        "rn": round,
        "rz": math.trunc,
        "rm": math.floor,
        "rp": math.ceil,
    }
    whole = rounding[mode](scaled)
    return float(whole * Fraction(2) ** exponent)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in ("add", "sub", "mul") for kind in ("f16", "f32", "f64")),
        *(("div.rn", kind) for kind in ("f32", "f64")),
    ],
)
def test_arithmetic_is_that_of_numpy(name: str, kind: str) -> None:
    dtype = f"f{int(kind[1:]) // 8}"
    a, b = numbers(dtype, 1), numbers(dtype, 2)
    operation: Callable[[Array, Array], Array] = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div.rn": np.divide,
    }[name]  # fmt: skip
    with np.errstate(all="ignore"):
        same(evaluate(f"{name}.{kind}", f"{kind} {kind} {kind}", a, b), operation(a, b))


def test_a_fresh_nan_has_the_bits_of_ptx() -> None:
    infinity = np.full(1, np.inf, np.float32)
    found = evaluate("sub.f32", "u32 f32 f32", infinity, infinity)
    assert found.tolist() == [0x7FFFFFFF]
    half = np.full(1, np.inf, np.float16)
    assert evaluate("sub.f16", "u16 f16 f16", half, half).tolist() == [0x7FFF]


@settings(max_examples=200)
@given(
    *[st.floats(0.5, 2, width=32).map(lambda v: v) for _ in range(2)],
    st.floats(-4, 4, width=32),
    st.integers(-40, 40),
)
def test_fma_rounds_once(a: float, b: float, c: float, exponent: int) -> None:
    c = math.ldexp(c, exponent)
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0 or abs(exact) < Fraction(2) ** -100:
        return
    inputs = [np.array([v], np.float32) for v in (a, b, c)]
    for mode in ("rn", "rz", "rm", "rp"):
        found = floats.fma(inputs[0], inputs[1], inputs[2], mode)
        assert float(found[0]) == nearest(exact, mode)


def test_fma_keeps_what_a_product_and_a_sum_would_lose() -> None:
    a = np.array([1 + 2**-12, 4097.0, 1 + 2**-23], np.float32)
    c = np.array([-1.0, -16785409.0, -1.0], np.float32)
    found = evaluate("fma.rn.f32", "f32 f32 f32 f32", a, a, c)
    want = [float(Fraction(float(x)) ** 2 + Fraction(float(z))) for x, z in zip(a, c, strict=True)]
    assert found.tolist() == np.array(want, np.float32).tolist()
    assert found[0] != a[0] * a[0] + c[0]


@settings(max_examples=200)
@given(*[st.floats(allow_nan=False, allow_infinity=False) for _ in range(3)])
def test_fma_of_float64_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        want = float(exact)
    except OverflowError:
        want = math.inf if exact > 0 else -math.inf
    with np.errstate(all="ignore"):
        found = floats.fma(np.array([a]), np.array([b]), np.array([c]))
    assert float(found[0]) == want


def test_fma_of_float16_rounds_once() -> None:
    generator = np.random.default_rng(3)
    a, b, c = (generator.standard_normal(300).astype(np.float16) for _ in range(3))
    c = (c * np.exp2(generator.integers(-12, 10, 300))).astype(np.float16)
    found = evaluate("fma.rn.f16", "f16 f16 f16 f16", a, b, c)
    for x, y, z, w in zip(*(v.astype(float).tolist() for v in (a, b, c, found)), strict=True):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        step = Fraction(2) ** max(math.floor(math.log2(abs(exact))) - 10, -24) if exact else 1
        assert Fraction(w) == round(exact / step) * step


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
@pytest.mark.parametrize("name", ["add", "mul", "sub"])
def test_directed_roundings_are_exact(name: str, mode: str) -> None:
    generator = np.random.default_rng(4)
    a, b = (generator.standard_normal(300).astype(np.float32) for _ in range(2))
    found = evaluate(f"{name}.{mode}.f32", "f32 f32 f32", a, b)
    for x, y, z in zip(a.tolist(), b.tolist(), found.tolist(), strict=True):
        p, q = Fraction(x), Fraction(y)
        exact = {"add": p + q, "sub": p - q, "mul": p * q}[name]
        assert z == nearest(exact, mode)


@pytest.mark.parametrize("kind", ["f16", "f32", "f64"])
def test_minimum_and_maximum_know_nan_and_the_sign_of_zero(kind: str) -> None:
    dtype = f"f{int(kind[1:]) // 8}"
    nan = float("nan")
    a = np.array([1.0, nan, nan, 0.0, -0.0, 2.0, -1.0], dtype)
    b = np.array([nan, 2.0, nan, -0.0, 0.0, 1.0, -3.0], dtype)
    types = f"{kind} {kind} {kind}"
    same(evaluate(f"max.{kind}", types, a, b), np.array([1, 2, nan, 0.0, 0.0, 2, -1], dtype))
    same(evaluate(f"min.{kind}", types, a, b), np.array([1, 2, nan, -0.0, -0.0, 1, -3], dtype))
    if kind != "f64":
        kept = evaluate(f"max.NaN.{kind}", types, a, b)
        same(kept, np.array([nan, nan, nan, 0.0, 0.0, 2, -1], dtype))


def test_flush_and_saturation() -> None:
    a, b = numbers("f4", 5), numbers("f4", 6)
    tiny = np.finfo(np.float32).tiny
    with np.errstate(all="ignore"):
        flushed = [np.where(np.abs(v) < tiny, np.copysign(np.float32(0), v), v) for v in (a, b)]
        product = flushed[0] * flushed[1]
        want = np.where(np.abs(product) < tiny, np.copysign(np.float32(0), product), product)
        same(evaluate("mul.ftz.f32", "f32 f32 f32", a, b), want)
        total = a + b
    clamped = np.where(np.isnan(total), np.float32(0), np.clip(total, 0, 1)).astype(np.float32)
    np.testing.assert_array_equal(evaluate("add.sat.f32", "f32 f32 f32", a, b), clamped)


def test_signs_roots_and_reciprocals() -> None:
    a = numbers("f4", 7)
    with np.errstate(all="ignore"):
        same(evaluate("neg.f32", "f32 f32", a), -a)
        same(evaluate("abs.f32", "f32 f32", a), np.abs(a))
        same(evaluate("sqrt.rn.f32", "f32 f32", a), np.sqrt(a))
        same(evaluate("rcp.rn.f32", "f32 f32", a), np.float32(1) / a)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("ex2.approx", np.exp2),
        ("lg2.approx", np.log2),
        ("sin.approx", np.sin),
        ("cos.approx", np.cos),
        ("rsqrt.approx", lambda x: 1 / np.sqrt(x)),
        ("tanh.approx", np.tanh),
    ],
)
def test_approximations_are_close(name: str, function: Callable[[Array], Array]) -> None:
    a = np.random.default_rng(8).uniform(0.01, 3, 200).astype(np.float32)
    found = evaluate(f"{name}.f32", "f32 f32", a)
    np.testing.assert_allclose(found, function(a.astype(np.float64)), rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "fma.rn", "max"])
def test_pairs_of_float16_are_two_float16(name: str) -> None:
    generator = np.random.default_rng(9)
    count = 3 if name.startswith("fma") else 2
    inputs = [generator.standard_normal(200).astype(np.float16) for _ in range(count)]
    words = [v.view(np.uint32) for v in inputs]
    kinds = " ".join(["b32"] * (count + 1))
    pairs = evaluate(f"{name}.f16x2", kinds, *words).view(np.float16)
    same(pairs, evaluate(f"{name}.f16", " ".join(["f16"] * (count + 1)), *inputs))


def test_unordered_comparisons_hold_for_nan() -> None:
    a, b = numbers("f4", 10), numbers("f4", 11)
    nan = np.isnan(a) | np.isnan(b)
    for name, plain in (("lt", a < b), ("ge", a >= b), ("eq", a == b), ("ne", (a != b) & ~nan)):
        for suffix, want in (("", plain), ("u", plain | nan)):
            body = f"setp.{name}{suffix}.f32 %p1, {{1}}, {{2}}; selp.u32 {{0}}, 1, 0, %p1"
            body = body.replace("{1}", "%f1").replace("{2}", "%f2")
            body = f"mov.b32 %f1, {{1}}; mov.b32 %f2, {{2}}; {body}"
            np.testing.assert_array_equal(evaluate(body, "u32 b32 b32", a, b), want)
    body = "mov.b32 %f1, {1}; testp.finite.f32 %p1, %f1; selp.u32 {0}, 1, 0, %p1"
    np.testing.assert_array_equal(evaluate(body, "u32 b32", a), np.isfinite(a))
