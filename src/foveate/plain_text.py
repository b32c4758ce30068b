# SPDX-License-Identifier: Apache-2.0
r"""Text for people: counted nouns, first lines of errors, and names escaped for terminals and JSON.

A byte of a file name that is not UTF-8 becomes an escape such as ``\xe9`` in both.
"""

import json
import os
import re

# Control characters, line separators, marks of the writing direction, lone surrogates, and what is
# no character in XML.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_LONE = re.compile("[\ud800-\udfff]")
_ESCAPES = re.compile(r"\\\\|\\u(d[89ab]..)\\u(d[c-f]..)|\\u(d[89a-f]..)")


def printable(text: str) -> str:
    """Escape the characters that a terminal would execute or cannot show, all on one line."""
    return _UNPRINTABLE.sub(lambda match: _escape(match[0]), text)


def counted(number: int, one: str, several: str) -> str:
    """Return a number with the words that follow it."""
    return f"{number} {one if number == 1 else several}"


def first_line(error: Exception) -> str:
    """Return the first line of an error without its period, or its class if it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def portable_name(path: str) -> str:
    r"""Return a file name as valid UTF-8.

    If the name contains a byte that is not UTF-8, or ``\x``, backslashes are doubled, so that
    different names stay different.
    """
    if os.sep != "\\" and ("\\x" in path or _LONE.search(path)):
        path = path.replace("\\", "\\\\")
    return _LONE.sub(lambda match: _escape(match[0]), path)


def json_text(value: object, *, indent: int | None = None, compact: bool = False) -> str:
    """Return JSON with a newline, in which characters that UTF-8 cannot encode are escaped.

    Args:
        value: What ``json.dumps`` takes.
        indent: Spaces per level; None for one line.
        compact: Whether nothing stands between two values but a comma or a colon.

    Raises:
        ValueError: A number is not finite.
    """
    separators = (",", ":") if compact else None
    text = json.dumps(value, indent=indent, separators=separators, allow_nan=False)
    return _ESCAPES.sub(_escape_surrogate, text) + "\n"


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # the surrogate escape of a byte that Python cannot decode
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _escape_surrogate(match: re.Match[str]) -> str:
    if match[3] is None:
        return match[0]
    return _escape(chr(int(match[3], 16))).replace("\\", "\\\\")
