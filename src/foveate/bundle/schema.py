# SPDX-License-Identifier: Apache-2.0
"""Strict conversion of decoded JSON to typed dataclasses."""

import functools
import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from foveate.plain_text import printable

T = TypeVar("T")

_hints = functools.cache(get_type_hints)  # evaluating annotations takes most of the time
_DEEPEST = 64


class RejectedValueError(ValueError):
    """A value is invalid; the text names its place and the expected value."""


def require(condition: bool, message: str) -> None:
    """Raise RejectedValueError with a message unless a condition holds."""
    if not condition:
        raise RejectedValueError(message)


def load_json(text: str | bytes) -> Any:
    """Decode JSON, and refuse keys that occur twice.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse(kind: type[T], value: object) -> T:
    """Convert decoded JSON to a dataclass, and refuse missing and unknown keys.

    Args:
        kind: A dataclass with fields of int, float, str, bool, None, Any, unions,
            ``tuple[X, ...]``, ``tuple[X, Y]``, ``dict[str, X]``, ``Mapping[str, X]`` and other
            dataclasses.
        value: The decoded JSON.

    Raises:
        RejectedValueError: A value is missing, unknown or invalid.
    """
    result: T = _convert(kind, value, "")  # the annotation gives the result its type
    return result


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise RejectedValueError(f"the key {twice!r:.60} occurs twice")
    return found


def _convert(kind: Any, value: object, where: str) -> Any:
    if kind is Any:
        _check_writable(value, where, _DEEPEST)
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        return _to_dataclass(kind, value, where)
    origin = get_origin(kind)
    if origin is tuple:
        return _to_tuple(get_args(kind), value, where)
    if origin in (dict, Mapping):
        item = get_args(kind)[1]
        mapping = _expect(value, Mapping, "an object", where)
        for key in mapping:
            _check_writable(key, where, 1)
        return {str(k): _convert(item, v, _join(where, str(k))) for k, v in mapping.items()}
    if origin in (Union, types.UnionType):
        return _to_union(get_args(kind), value, where)
    return _to_scalar(kind, value, where)


def _to_dataclass(kind: type, value: object, where: str) -> Any:
    mapping = _expect(value, Mapping, "an object", where)
    hints = _hints(kind)
    known = {entry.name: entry for entry in fields(kind)}
    for key in mapping:
        if key not in known:
            raise RejectedValueError(f"unknown key {_join(where, str(key))!r:.120}")
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
        if is_dataclass(option) and isinstance(value, Mapping):
            return _convert(option, value, where)  # its error is more specific than the one below
        try:
            return _convert(option, value, where)
        except RejectedValueError:
            continue
    names = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise RejectedValueError(f"{where!r} must be {names}, found {value!r:.60}")


def _to_scalar(kind: type, value: object, where: str) -> Any:
    # Some encoders write 1.0 as 1; float() of a huge integer would raise OverflowError.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 1000 else math.inf
    # bool is a subclass of int: True must not pass for 1.
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        if isinstance(value, float) and not math.isfinite(value):
            raise RejectedValueError(f"{where!r} must be finite, found {value!r}")
        if isinstance(value, str) and printable(value) != value:
            raise RejectedValueError(f"{where!r} must be printable text, found {value!r:.60}")
        return value
    raise RejectedValueError(f"{where!r} must be {kind.__name__}, found {value!r:.60}")


def _check_writable(value: object, where: str, depth: int) -> None:
    """Check that a value of any type can be written as JSON again."""
    if depth == 0:
        raise RejectedValueError(f"{where!r} is nested too deeply")
    if isinstance(value, (list, dict)):
        for item in value:
            _check_writable(item, where, depth - 1)
            if isinstance(value, dict):
                _check_writable(value[item], where, depth - 1)
    elif isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise RejectedValueError(f"{where!r} must be text, found a lone surrogate")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RejectedValueError(f"{where!r} must be finite, found {value!r}")


def _expect(value: object, kind: type, name: str, where: str) -> Any:
    if not isinstance(value, kind):
        raise RejectedValueError(f"{where or 'the document'!r} must be {name}, found {value!r:.60}")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
