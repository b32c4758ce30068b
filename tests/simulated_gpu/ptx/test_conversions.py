# SPDX-License-Identifier: Apache-2.0
"""`cvt` in its forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.simulated_gpu.ptx.single import evaluate
from tests.simulated_gpu.ptx.test_float_instructions import numbers, same

WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@pytest.mark.parametrize("kind", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("mode", WHOLE)
def test_floats_become_integers_clamped(mode: str, kind: str) -> None:
    a = np.concatenate(
        [numbers("f4", 1), np.array([127.5, 128, 255.5, -0.5, 2**31, 2**63, -129], "f4")]
    )
    bits, signed = int(kind[1:]), kind[0] == "s"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    size = max(bits, 16)
    found = evaluate(f"cvt.{mode}.{kind}.f32", f"{kind[0]}{size} f32", a)
    for x, z in zip(a.tolist(), found.tolist(), strict=True):
        if math.isnan(x):
            want = 0 if bits < 64 else (low if signed else 1 << 63)
        else:
            whole = float(WHOLE[mode](np.float64(x)))
            want = low if whole < low else high if whole > high else int(whole)
        assert z == want


def test_integers_become_the_nearest_floats() -> None:
    a = np.random.default_rng(0).integers(-(2**31), 2**31, 300).astype(np.int32)
    a[:4] = [16777217, -16777217, 2**31 - 1, -(2**31)]
    np.testing.assert_array_equal(evaluate("cvt.rn.f32.s32", "f32 s32", a), a.astype(np.float32))


def test_narrow_registers_grow_by_sign() -> None:
    a = np.arange(-200, 200, dtype=np.int32)
    np.testing.assert_array_equal(
        evaluate("cvt.s32.s8", "s32 u32", a.view(np.uint32)), a.astype(np.int8)
    )
    np.testing.assert_array_equal(
        evaluate("cvt.u32.u8", "u32 u32", a.view(np.uint32)), a.astype(np.uint8)
    )
    np.testing.assert_array_equal(evaluate("cvt.s64.s32", "s64 s32", a), a)


def test_float32_and_float16_convert_both_ways() -> None:
    a = numbers("f4", 2)
    with np.errstate(over="ignore"):
        same(evaluate("cvt.rn.f16.f32", "f16 f32", a), a.astype(np.float16))
    every = np.arange(1 << 10, dtype=np.uint16) * 64 + 1
    half = every.view(np.float16)
    same(evaluate("cvt.f32.f16", "f32 f16", half), half.astype(np.float32))


def test_floats_are_made_whole_in_place() -> None:
    a = numbers("f4", 4)
    for mode, function in WHOLE.items():
        same(evaluate(f"cvt.{mode}.f32.f32", "f32 f32", a), function(a))


def test_float64_rounds_to_float32() -> None:
    a = np.random.default_rng(5).standard_normal(300)
    same(evaluate("cvt.rn.f32.f64", "f32 f64", a), a.astype(np.float32))
    same(
        evaluate("cvt.f64.f32", "f64 f32", a.astype(np.float32)), a.astype(np.float32).astype(float)
    )
