# SPDX-License-Identifier: Apache-2.0
"""Strict conversion of decoded JSON to typed dataclasses."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["RejectedValueError", "parse"]

T = TypeVar("T")


class RejectedValueError(ValueError):
    """A value that does not fit; the text names where it is and what was expected."""


def parse(kind: type[T], value: object, where: str = "") -> T:
    """Convert ``value`` to the dataclass ``kind``, refusing missing and unknown keys.

    Args:
        kind: A dataclass whose fields are of: int, float, str, bool, None, Any, unions,
            ``tuple[X, ...]``, ``tuple[X, Y]``, ``dict[str, X]`` and further dataclasses.
        value: What a JSON decoder returned.
        where: Path of ``value`` in the document, for messages.

    Raises:
        RejectedValueError: Something does not fit.
    """
    result: T = _convert(kind, value, where)
    return result


def _convert(kind: Any, value: object, where: str) -> Any:
    if kind is Any:
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        return _to_dataclass(kind, value, where)
    origin = get_origin(kind)
    if origin is tuple:
        return _to_tuple(get_args(kind), value, where)
    if origin is dict:
        item = get_args(kind)[1]
        mapping = _expect(value, Mapping, "an object", where)
        return {str(k): _convert(item, v, _join(where, str(k))) for k, v in mapping.items()}
    if origin in (Union, types.UnionType):
        return _to_union(get_args(kind), value, where)
    return _to_scalar(kind, value, where)


def _to_dataclass(kind: type, value: object, where: str) -> Any:
    mapping = _expect(value, Mapping, "an object", where)
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}
    for key in mapping:
        if key not in known:
            raise RejectedValueError(f"unknown key {_join(where, str(key))!r}")
    arguments = {}
    for name, entry in known.items():
        if name in mapping:
            arguments[name] = _convert(hints[name], mapping[name], _join(where, name))
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise RejectedValueError(f"the key {_join(where, name)!r} is missing")
    try:
        return kind(**arguments)
    except RejectedValueError as error:
        raise RejectedValueError(f"{where}: {error}" if where else str(error)) from error


def _to_tuple(items: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    sequence = _expect(value, list, "a list", where)
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(sequence)
    if len(items) != len(sequence):
        raise RejectedValueError(f"{where!r} needs {len(items)} values, found {len(sequence)}")
    pairs = zip(items, sequence, strict=True)
    return tuple(_convert(item, v, f"{where}[{i}]") for i, (item, v) in enumerate(pairs))


def _to_union(options: tuple[Any, ...], value: object, where: str) -> Any:
    for option in options:
        try:
            return _convert(option, value, where)
        except RejectedValueError:
            continue
    names = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise RejectedValueError(f"{where!r} must be {names}, found {value!r:.60}")


def _to_scalar(kind: type, value: object, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is a subclass of int: True must not pass for 1.
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        if isinstance(value, float) and not math.isfinite(value):
            raise RejectedValueError(f"{where!r} must be finite, found {value!r}")
        return value
    raise RejectedValueError(f"{where!r} must be {kind.__name__}, found {value!r:.60}")


def _expect(value: object, kind: type, name: str, where: str) -> Any:
    if not isinstance(value, kind):
        raise RejectedValueError(f"{where or 'the document'!r} must be {name}, found {value!r:.60}")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
