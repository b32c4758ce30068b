# SPDX-License-Identifier: Apache-2.0
"""Floating-point arithmetic as PTX defines it, where numpy differs."""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.memory import Array

# float32 and float16 have one NaN; that of float64 keeps what the operands held.
NANS = {2: np.uint16(0x7FFF), 4: np.uint32(0x7FFFFFFF)}


def canonical(value: Array) -> Array:
    """Give every NaN of a fresh float32 or float16 array the bits that PTX gives it."""
    nan = np.isnan(value)
    if value.dtype.itemsize in NANS and nan.any():
        value.view(f"u{value.dtype.itemsize}")[nan] = NANS[value.dtype.itemsize]
    return value


def minimum(a: Array, b: Array) -> Array:
    """Return the smaller; -0 < +0; a number wins over a NaN."""
    return _choose(np.fmin(a, b), a, b, np.bitwise_or)


def maximum(a: Array, b: Array) -> Array:
    """Return the larger; -0 < +0; a number wins over a NaN."""
    return _choose(np.fmax(a, b), a, b, np.bitwise_and)


def _choose(value: Array, a: Array, b: Array, zeros: np.ufunc) -> Array:
    # Equal numbers have equal bits, except for zeros, whose signs decide.
    ties = (a == b) & (value == 0)
    if ties.any():
        bits = f"u{value.dtype.itemsize}"
        value = np.where(ties, zeros(a.view(bits), b.view(bits)).view(value.dtype), value)
    return canonical(value)
