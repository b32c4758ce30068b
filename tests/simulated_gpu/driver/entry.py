# SPDX-License-Identifier: Apache-2.0
"""Entry points of the driver as functions, by the names that are exported."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, TypeVar

Function = Callable[..., str | None]
F = TypeVar("F", bound=Function)

PTR, UINT, INT, SIZE, U64, STR = c_void_p, c_uint, c_int, c_size_t, c_uint64, c_char_p
"""Types of arguments: pointer or handle, unsigned, int, size, 64 bits, string."""

ENTRIES: dict[str, tuple[Function, tuple[Any, ...]]] = {}


def entry(*types: Any) -> Callable[[F], F]:
    """Register a function as the entry point of its name.

    It gets the simulation and the arguments, and may return details for the list of calls.
    """

    def register(function: F) -> F:
        ENTRIES[function.__name__] = (function, types)
        return function

    return register


def put(target: int | None, value: float, kind: Any = c_void_p) -> None:
    """Write a result through a pointer, unless it is null."""
    if target:
        ctypes.cast(target, ctypes.POINTER(kind))[0] = value
