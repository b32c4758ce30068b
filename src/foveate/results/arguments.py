# SPDX-License-Identifier: Apache-2.0
"""Checks of the arguments with which results are selected and converted."""

from __future__ import annotations

import operator
import os
from numbers import Real
from typing import Any

from foveate.errors import OptionError


def checked_number(name: str, value: object, *, most: float) -> float:
    """Return an argument as a number from 0 to ``most``.

    Raises:
        OptionError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise OptionError(f"{name} must be a number, found {value!r:.60}")
    number = float(value)
    if not 0 <= number <= most:
        raise OptionError(f"{name} must lie in 0..{most:g}, found {value}")
    return number


def checked_integer(name: str, value: Any) -> int:
    """Return an argument, which may be an integer of NumPy, as an int.

    Raises:
        OptionError: It is no integer.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise OptionError(f"{name} must be an integer, found {value!r:.60}") from error


def checked_path(name: str, value: object) -> str:
    """Return an argument, the path of a file, as text.

    Raises:
        OptionError: It is something else.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise OptionError(f"{name} must be a path, found {type(value).__name__}")
    return os.fspath(value)
