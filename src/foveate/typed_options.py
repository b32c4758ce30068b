# SPDX-License-Identifier: Apache-2.0
"""A base class for dataclasses of options that checks the types of their values."""

import types
from contextlib import suppress
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from foveate.errors import OptionError

LONGEST_TIMEOUT = 1_000_000
"""Longest timeout in seconds: eleven days."""


@dataclass(frozen=True)
class TypedOptions:
    """Base of frozen option dataclasses that turns NumPy scalars into Python's, lists into tuples.

    Raises:
        OptionError: A value does not have the annotated type of its field.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name in (item.name for item in fields(self)):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, _converted(hints[name], value))
            except (TypeError, OverflowError) as error:
                what = f"{name} must be {_described(hints[name])}, found {value!r:.60}"
                raise OptionError(what) from error

    def _check_at_least(self, **bounds: float) -> None:
        """Check numbers among the fields against lower bounds, by name.

        Raises:
            OptionError: A number is smaller than its bound.
        """
        for name, bound in bounds.items():
            value = getattr(self, name)
            if isinstance(value, (int, float)) and value < bound:
                raise OptionError(f"{name} must be at least {bound:g}, found {value:g}")


def check_timeout(seconds: float) -> None:
    """Check a timeout that a library takes in milliseconds, as an integer of 32 bits.

    Raises:
        OptionError: It is not above 0, or does not fit.
    """
    if not seconds > 0:
        raise OptionError(f"timeout must be above 0, found {seconds:g}")
    if seconds > LONGEST_TIMEOUT:
        raise OptionError(f"timeout must be at most {LONGEST_TIMEOUT} seconds, found {seconds:g}")


def _described(kind: Any) -> str:
    """Return a type as users write it, and the choices of a Literal as those of a union."""
    origin, items = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(map(repr, items))
    if origin in (Union, types.UnionType):
        return " | ".join(map(_described, items))
    if kind is types.NoneType:
        return "None"
    text = kind.__name__ if isinstance(kind, type) and not items else str(kind)
    return text.replace("float", "finite float")


def _converted(kind: Any, value: Any) -> Any:
    """Return a value converted to the annotated type, or raise TypeError."""
    origin, items = get_origin(kind) or kind, get_args(kind)
    if isinstance(value, np.generic):
        value = value.item()
    if origin in (Union, types.UnionType):
        for item in items:
            with suppress(TypeError):
                return _converted(item, value)
    elif origin is Literal:
        if value in items:
            return value
    elif origin is tuple and isinstance(value, (tuple, list)):
        parts = items[:1] * len(value) if items[-1] is Ellipsis else items
        if len(parts) == len(value):
            return tuple(map(_converted, parts, value))
    elif origin is float:
        if type(value) in (int, float) and isfinite(value):
            return value
    # A bool is an int to Python: True must not pass for 1.
    elif isinstance(value, origin) and (origin is bool or not isinstance(value, bool)):
        return value
    raise TypeError
