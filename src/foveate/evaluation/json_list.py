# SPDX-License-Identifier: Apache-2.0
"""A JSON list in a file, element by element: gigabytes take a few megabytes of memory.

The list is the whole file, or the "annotations" of an object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

_CHUNK = 1 << 20
# Largest size of an element in bytes. Without it, one without an end would take the whole file.
_LONGEST = 1 << 26
_SPACE = re.compile(r"[ \t\n\r]*")


class Element(NamedTuple):
    """An element of the list.

    Args:
        value: Value as ``json.loads`` gives it, except for strings outside ASCII.
        start: Place of its first byte in the file.
        end: Place after its last byte.
    """

    value: Any
    start: int
    end: int


def elements(file: BinaryIO, beside: dict[str, Any]) -> Iterator[Element]:
    """Yield the elements of a JSON list, one after the other.

    Args:
        file: File of the list, or of an object with the list as its "annotations".
        beside: Dictionary that receives the other values of the object, after the last element.

    Raises:
        ValueError: The file is not JSON, or is JSON of another form. Elements before the damage
            have been yielded.
    """
    text = _Text(file)
    if text.take("[", "{") == "[":
        yield from _list(text)
    else:
        mark = ","
        while mark == ",":
            key = text.element().value
            text.take(":")
            if key == "annotations":
                text.take("[")
                yield from _list(text)
            else:
                beside[str(key)] = text.whole()
            mark = text.take(",", "}")
    text.take("")


def _list(text: _Text) -> Iterator[Element]:
    mark = "]" if text.peek() == "]" else ","
    if mark == "]":
        text.take("]")
    while mark == ",":
        yield text.element()
        mark = text.take(",", "]")


class _Text:
    """A window of a file, as text with one character per byte, so that places are bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._text = ""
        self._first = 0  # byte of the file
        self._at = 0  # place in the window
        self._scan = json.JSONDecoder().raw_decode
        self._read()
        if self._text.startswith(("\xff\xfe", "\xfe\xff")):
            raise ValueError("it is UTF-16, and must be UTF-8")
        self._at = 3 if self._text.startswith("\xef\xbb\xbf") else 0  # the byte order mark

    def peek(self) -> str:
        """Skip whitespace and return the next character; "" at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def take(self, *allowed: str) -> str:
        """Skip whitespace, and return and consume the next character."""
        found = self.peek()
        if found not in allowed:
            words = [repr(mark) if mark else "the end of the file" for mark in (*allowed, found)]
            raise ValueError(f"expected {' or '.join(words[:-1])}, found {words[-1]}")
        self._at += len(found)
        return found

    def element(self) -> Element:
        """Read an element, however long it is."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
            except json.JSONDecodeError as error:
                where = self._first + error.pos
                if len(self._text) - self._at > _LONGEST or not self._read():
                    raise ValueError(f"{error.msg.lower()} at byte {where}") from error
                continue
            found = Element(value, self._first + self._at, self._first + end)
            if end == len(self._text) and self._read():
                continue  # a number may continue in the next part of the file
            self._at = found.end - self._first
            return found

    def whole(self) -> Any:
        """Read a value, with strings outside ASCII decoded."""
        found = self.element()
        return json.loads(self._text[found.start - self._first : self._at].encode("latin-1"))

    def _read(self) -> bool:
        """Drop the consumed text, and read as much as is kept; return False at the end."""
        rest = self._text[self._at :]
        more = self._file.read(max(_CHUNK, len(rest)))
        self._text, self._first, self._at = rest + more.decode("latin-1"), self._first + self._at, 0
        return bool(more)
