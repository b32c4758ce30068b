# SPDX-License-Identifier: Apache-2.0
"""Numbers with their units, as reports print them."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Return a time with three significant digits and its unit."""
    if seconds is None:
        return ""
    if not seconds:
        return "0"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if float(f"{seconds * factor:.3g}") < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


def flops(rate: float) -> str:
    """Return a rate of arithmetic with three significant digits and its unit."""
    if rate >= 1e12:
        return f"{rate / 1e12:.3g} TFLOP/s"
    return f"{rate / 1e9:.3g} GFLOP/s"
