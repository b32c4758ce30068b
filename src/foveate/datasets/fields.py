# SPDX-License-Identifier: Apache-2.0
"""Fields of records and JSON files that other programs wrote, read the same way everywhere."""

import codecs
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from foveate.errors import DataError
from foveate.images.decoding import MAX_PIXELS

Value = TypeVar("Value")

_DIGITS = re.compile(r"-?[0-9]{1,19}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FARTHEST = 1e7  # pixels, of a box; float32 still resolves single pixels
_MOST = 2**63 - 1  # largest int64


def field(record: Any, key: str, read: Callable[[Any], Value]) -> Value:
    """Read a field of a record by one of the functions below.

    Raises:
        ValueError: The record is not an object, lacks the field, or has an invalid value in it.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"it is {type(record).__name__} and not an object")
    if key not in record:
        raise ValueError(f"{key!r} is missing")
    try:
        return read(record[key])
    except (TypeError, ValueError) as error:
        raise ValueError(f"its {key}: {error}") from error


def integer(value: Any) -> int:
    """Read an id or a size: an integer, a float that is one, or a string of digits.

    Raises:
        ValueError: It is none of these, or exceeds 64 bits.
    """
    whole = isinstance(value, float) and value.is_integer()
    digits = isinstance(value, str) and _DIGITS.fullmatch(value)
    if not (type(value) is int or whole or digits) or abs(int(value)) > _MOST:
        raise ValueError(f"{short(value)} is not an integer")
    return int(value)


def flag(value: Any) -> bool:
    """Read 0 or 1, or a boolean, as COCO Annotator writes; other values raise ValueError."""
    number = int(value) if isinstance(value, bool) else integer(value)
    if number not in (0, 1):
        raise ValueError(f"{short(value)} is neither 0 nor 1")
    return bool(number)


def number(value: Any) -> float:
    """Read a finite number, or a string of one; other values raise ValueError."""
    try:
        read = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        read = math.nan
    if not math.isfinite(read):
        raise ValueError(f"{short(value)} is not a finite number")
    return read


def size(value: Any) -> float:
    """Read a finite number that is not negative; other values raise ValueError."""
    if (read := number(value)) < 0:
        raise ValueError(f"{short(value)} is negative")
    return read


def box(value: Any) -> list[float]:
    """Read x, y, width, height; other values, negative sizes and distant boxes raise ValueError."""
    values = [number(v) for v in value] if isinstance(value, list) and len(value) == 4 else []
    if not values or min(values[2:]) < 0 or max(map(abs, values)) > _FARTHEST:
        raise ValueError(f"{short(value)} is not a box")
    return values


def image_size(record: Any, height: str, width: str) -> tuple[int, int]:
    """Read the number of rows and of columns of an image from two fields.

    Raises:
        ValueError: One is missing, not an integer, or out of range.
    """
    rows, columns = field(record, height, integer), field(record, width, integer)
    if min(rows, columns) < 1 or rows * columns > MAX_PIXELS:
        raise ValueError(f"a height of {rows} and a width of {columns}")
    return rows, columns


def text(value: Any) -> str:
    """Read a name that can be a file name and be printed; other values raise ValueError."""
    if not isinstance(value, str) or _CONTROL.search(value):
        raise ValueError(f"{short(value)} is not text")
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"{short(value)} is not text") from error
    return value


def short(value: Any) -> str:
    """Return a value for a message: in ASCII, and cut off if it is long."""
    shown = ascii(value) if not isinstance(value, int) or abs(value) <= _MOST else "a huge number"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def read_file(file: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: It does not exist, or may not be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        what = f"the file cannot be read ({error.strerror})"
        raise DataError(what, file=file, remedy="check the path") from error


def read_json(file: Path, *, remedy: str) -> Any:
    """Decode a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: It cannot be read, is not JSON, or is in another encoding.
    """
    try:
        text = read_file(file)
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError("it is UTF-16, and must be UTF-8")
        return json.loads(text.decode("utf-8-sig"))
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply", file=file, remedy=remedy) from error
    except ValueError as error:
        raise DataError(f"the JSON cannot be read ({error})", file=file, remedy=remedy) from error
