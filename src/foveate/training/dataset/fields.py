# SPDX-License-Identifier: Apache-2.0
"""Fields of records that other programs wrote, read the same way in data sets and in results."""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["box", "flag", "integer", "number", "text"]

_DIGITS = re.compile(r"-?[0-9]{1,19}")
_MOST = 2**63 - 1  # that an array of int64 holds


def integer(value: Any) -> int:
    """Read an id or a size: an integer, a float that is one, or a string of digits.

    Raises:
        ValueError: It is none of these, or fits no array.
    """
    number = None
    if (
        type(value) is int
        or (isinstance(value, float) and value.is_integer())
        or (isinstance(value, str) and _DIGITS.fullmatch(value))
    ):
        number = int(value)
    if number is None or abs(number) > _MOST:
        raise ValueError(f"{_short(value)} is no integer")
    return number


def flag(value: Any) -> bool:
    """Read 0 or 1; raises ValueError for anything else."""
    if (number := integer(value)) not in (0, 1):
        raise ValueError(f"{_short(value)} is neither 0 nor 1")
    return bool(number)


def number(value: Any) -> float:
    """Read a finite number, or a string of one; raises ValueError for anything else."""
    try:
        read = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        read = math.nan
    if not math.isfinite(read):
        raise ValueError(f"{_short(value)} is no finite number")
    return read


def box(value: Any) -> list[float]:
    """Read x, y, width, height; raises ValueError for anything else, or a negative size."""
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"{_short(value)} is no box")
    values = [number(v) for v in value]
    if min(values[2:]) < 0:
        raise ValueError(f"{_short(value)} is no box")
    return values


def text(value: Any) -> str:
    """Read a name that a file can have; raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is no text")
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"{_short(value)} is no text") from error
    return value


def _short(value: Any) -> str:
    shown = ascii(value) if not isinstance(value, int) or abs(value) <= _MOST else "a huge number"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
