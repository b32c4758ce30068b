# SPDX-License-Identifier: Apache-2.0
"""Floating-point arithmetic as PTX defines it, on arrays.

NOTE: numpy rounds every float32 and float64 operation once, to nearest even. What it lacks comes
from rounding to odd (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE
Transactions on Computers 57(4), 2008): a float64 result that remembers in its last bit that it was
inexact rounds to float32 or float16 as the exact value does, in every rounding mode.

Not bit-exact, because PTX leaves the last bits to the hardware: ex2, lg2, sin, cos, tanh, rsqrt,
rcp, sqrt and div with `.approx` (and `.full`), all rounded correctly here.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from tests.simulated_gpu.ptx.memory import Array

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
# float32 and float16 have one NaN; that of float64 keeps what the operands held.
NANS = {2: np.uint16(0x7FFF), 4: np.uint32(0x7FFFFFFF)}


def canonical(value: Array) -> Array:
    """Give every NaN of a fresh float32 or float16 array the bits that PTX gives it."""
    nan = np.isnan(value)
    if value.dtype.itemsize in NANS and nan.any():
        value.view(f"u{value.dtype.itemsize}")[nan] = NANS[value.dtype.itemsize]
    return value


def flush(value: Array) -> Array:
    """Make subnormal numbers zeros of their sign (`.ftz`)."""
    small = np.abs(value) < np.finfo(value.dtype).tiny
    return np.where(small, np.copysign(value.dtype.type(0), value), value) if small.any() else value


def saturate(value: Array) -> Array:
    """Clamp to [0, 1]; NaN becomes 0 (`.sat`)."""
    zero, one = value.dtype.type(0), value.dtype.type(1)
    return np.asarray(np.where(value > zero, np.minimum(value, one), zero))


def minimum(a: Array, b: Array, *, keep_nan: bool) -> Array:
    """Return the smaller; -0 < +0; a number wins over a NaN unless NaNs are to be kept."""
    return _choose(np.fmin(a, b), a, b, keep_nan=keep_nan, zeros=np.bitwise_or)


def maximum(a: Array, b: Array, *, keep_nan: bool) -> Array:
    """Return the larger; -0 < +0; a number wins over a NaN unless NaNs are to be kept."""
    return _choose(np.fmax(a, b), a, b, keep_nan=keep_nan, zeros=np.bitwise_and)


def _choose(value: Array, a: Array, b: Array, *, keep_nan: bool, zeros: np.ufunc) -> Array:
    # Equal numbers have equal bits, except for zeros, whose signs decide.
    ties = (a == b) & (value == 0)
    if ties.any():
        bits = f"u{value.dtype.itemsize}"
        value = np.where(ties, zeros(a.view(bits), b.view(bits)).view(value.dtype), value)
    if keep_nan:
        value = np.where(np.isnan(a) | np.isnan(b), value.dtype.type(np.nan), value)
    return canonical(value)


def sum_to_odd(a: Array, b: Array) -> Array:
    """Return a + b in float64, rounded to odd."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)  # exact (Knuth)
    inexact = (error != 0) & np.isfinite(total)
    if not inexact.any():
        return total
    bits = total.view(np.int64)
    even = inexact & ((bits & 1) == 0)
    # Towards the error: away from zero where it has the sum's sign.
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(even, bits + step, bits).view(np.float64)


def round_from(value: Array, dtype: np.dtype[Any], mode: str) -> Array:
    """Round float64 (exact, or rounded to odd) to a narrower type.

    Args:
        value: float64.
        dtype: float16, float32 or float64.
        mode: "rn" (nearest even), "rz" (to zero), "rm" (down) or "rp" (up).
    """
    nearest: Array = value.astype(dtype)
    if mode == "rn" or dtype == F64:
        return nearest
    back = nearest.astype(np.float64)
    negative = value < 0
    too_high = back > value
    too_low = back < value
    down = too_high & ((mode == "rm") | ((mode == "rz") & ~negative))
    up = too_low & ((mode == "rp") | ((mode == "rz") & negative))
    infinity = dtype.type(np.inf)
    moved = np.where(down, np.nextafter(nearest, -infinity), nearest)
    return np.asarray(np.where(up, np.nextafter(nearest, infinity), moved), dtype)


def fma(a: Array, b: Array, c: Array, mode: str = "rn") -> Array:
    """Return a * b + c with one rounding."""
    if a.dtype == F64:
        return _fma64(a, b, c)
    # The product of two float32 or float16 is exact in float64.
    product = a.astype(np.float64) * b.astype(np.float64)
    return round_from(sum_to_odd(product, c.astype(np.float64)), a.dtype, mode)


def _fma64(a: Array, b: Array, c: Array) -> Array:
    """Use the algorithm of Boldo and Melquiond, or exact numbers where it may over- or underflow."""
    a, b, c = np.broadcast_arrays(a, b, c)
    product = a * b
    a_high, b_high = _high_half(a), _high_half(b)
    a_low, b_low = a - a_high, b - b_high
    low = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    sum_low = c + low
    part = sum_low - c
    error_low = (c - (sum_low - part)) + (low - part)
    total = product + sum_low
    part = total - product
    error = (product - (total - part)) + (sum_low - part)
    result = np.asarray(total + sum_to_odd(error_low, error))
    limits = [np.abs(np.frexp(x)[1]) > 450 for x in (a, b, c)]
    hard = (limits[0] | limits[1] | limits[2]) & np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    result = np.where(np.isfinite(a) & np.isfinite(b) & np.isfinite(c), result, product + c)
    for i in np.flatnonzero(hard):
        result[i] = _exact(float(a[i]), float(b[i]), float(c[i]))
    return result


def _high_half(value: Array) -> Array:
    """Return the upper 26 bits (Veltkamp)."""
    scaled = value * 134217729.0
    return np.asarray(scaled - (scaled - value))


def _exact(a: float, b: float, c: float) -> float:
    total = Fraction(a) * Fraction(b) + Fraction(c)
    if total == 0:
        return a * b + c
    try:
        return float(total)
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")
