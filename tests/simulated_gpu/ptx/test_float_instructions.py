# SPDX-License-Identifier: Apache-2.0
"""Floating-point instructions against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
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


@pytest.mark.parametrize("kind", ["f16", "f32", "f64"])
def test_minimum_and_maximum_know_nan_and_the_sign_of_zero(kind: str) -> None:
    dtype = f"f{int(kind[1:]) // 8}"
    nan = float("nan")
    a = np.array([1.0, nan, nan, 0.0, -0.0, 2.0, -1.0], dtype)
    b = np.array([nan, 2.0, nan, -0.0, 0.0, 1.0, -3.0], dtype)
    types = f"{kind} {kind} {kind}"
    same(evaluate(f"max.{kind}", types, a, b), np.array([1, 2, nan, 0.0, 0.0, 2, -1], dtype))
    same(evaluate(f"min.{kind}", types, a, b), np.array([1, 2, nan, -0.0, -0.0, 1, -3], dtype))


def test_signs_and_reciprocals() -> None:
    a = numbers("f4", 7)
    with np.errstate(all="ignore"):
        same(evaluate("neg.f32", "f32 f32", a), -a)
        same(evaluate("abs.f32", "f32 f32", a), np.abs(a))
        same(evaluate("rcp.rn.f32", "f32 f32", a), np.float32(1) / a)


def test_unordered_comparisons_hold_for_nan() -> None:
    a, b = numbers("f4", 10), numbers("f4", 11)
    nan = np.isnan(a) | np.isnan(b)
    for name, plain in (("lt", a < b), ("ge", a >= b), ("eq", a == b), ("ne", (a != b) & ~nan)):
        for suffix, want in (("", plain), ("u", plain | nan)):
            body = f"setp.{name}{suffix}.f32 %p1, {{1}}, {{2}}; selp.u32 {{0}}, 1, 0, %p1"
            body = body.replace("{1}", "%f1").replace("{2}", "%f2")
            body = f"mov.b32 %f1, {{1}}; mov.b32 %f2, {{2}}; {body}"
            np.testing.assert_array_equal(evaluate(body, "u32 b32 b32", a, b), want)
