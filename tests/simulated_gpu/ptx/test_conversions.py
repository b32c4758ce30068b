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


def test_integers_become_floats_rounded_as_asked() -> None:
    a = np.random.default_rng(0).integers(-(2**31), 2**31, 300).astype(np.int32)
    a[:4] = [16777217, -16777217, 2**31 - 1, -(2**31)]
    nearest = evaluate("cvt.rn.f32.s32", "f32 s32", a)
    np.testing.assert_array_equal(nearest, a.astype(np.float32))
    down = evaluate("cvt.rm.f32.s32", "f32 s32", a).astype(np.float64)
    up = evaluate("cvt.rp.f32.s32", "f32 s32", a).astype(np.float64)
    zero = evaluate("cvt.rz.f32.s32", "f32 s32", a).astype(np.float64)
    assert (down <= a).all()
    assert (up >= a).all()
    np.testing.assert_array_equal(zero, np.where(a > 0, down, up))
    step = np.spacing(np.abs(nearest)).astype(np.float64)
    assert (np.abs(up - down) <= step).all()


def test_narrow_registers_grow_by_sign() -> None:
    a = np.arange(-200, 200, dtype=np.int32)
    np.testing.assert_array_equal(
        evaluate("cvt.s32.s8", "s32 u32", a.view(np.uint32)), a.astype(np.int8)
    )
    np.testing.assert_array_equal(
        evaluate("cvt.u32.u8", "u32 u32", a.view(np.uint32)), a.astype(np.uint8)
    )
    np.testing.assert_array_equal(evaluate("cvt.s64.s32", "s64 s32", a), a)
    clamped = evaluate("cvt.sat.u8.s32", "u16 s32", a)
    np.testing.assert_array_equal(clamped, np.clip(a, 0, 255))


def test_float32_and_float16_convert_both_ways() -> None:
    a = numbers("f4", 2)
    with np.errstate(over="ignore"):
        same(evaluate("cvt.rn.f16.f32", "f16 f32", a), a.astype(np.float16))
    every = np.arange(1 << 10, dtype=np.uint16) * 64 + 1
    half = every.view(np.float16)
    same(evaluate("cvt.f32.f16", "f32 f16", half), half.astype(np.float32))


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
def test_directed_float16_lies_on_the_right_side(mode: str) -> None:
    a = (np.random.default_rng(1).standard_normal(300) * 100).astype(np.float32)
    found = evaluate(f"cvt.{mode}.f16.f32", "f16 f32", a)
    wide = found.astype(np.float32)
    side = {"rz": np.abs(wide) <= np.abs(a), "rm": wide <= a, "rp": wide >= a}[mode]
    assert side.all()
    assert (np.abs(wide - a) < np.spacing(np.abs(a.astype(np.float16)) + np.float16(1)) * 2).all()


def test_two_floats_make_a_pair_whose_upper_half_is_the_first() -> None:
    a, b = (np.random.default_rng(s).standard_normal(100).astype(np.float32) for s in (2, 3))
    found = evaluate("cvt.rn.f16x2.f32", "b32 f32 f32", a, b).view(np.float16).reshape(-1, 2)
    same(np.ascontiguousarray(found[:, 1]), a.astype(np.float16))
    same(np.ascontiguousarray(found[:, 0]), b.astype(np.float16))


def test_floats_are_made_whole_in_place() -> None:
    a = numbers("f4", 4)
    for mode, function in WHOLE.items():
        same(evaluate(f"cvt.{mode}.f32.f32", "f32 f32", a), function(a))
    clamped = np.where(np.isnan(a), np.float32(0), np.clip(a, 0, 1)).astype(np.float32)
    np.testing.assert_array_equal(evaluate("cvt.sat.f32.f32", "f32 f32", a), clamped)


def test_float64_rounds_to_float32() -> None:
    a = np.random.default_rng(5).standard_normal(300)
    same(evaluate("cvt.rn.f32.f64", "f32 f64", a), a.astype(np.float32))
    same(
        evaluate("cvt.f64.f32", "f64 f32", a.astype(np.float32)), a.astype(np.float32).astype(float)
    )
