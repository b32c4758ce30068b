# SPDX-License-Identifier: Apache-2.0
"""The operands of an instruction as data."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

NUMBER = re.compile(r"-?(0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|0[xX][0-9a-fA-F]+|\d+)U?$")
ADDRESS = re.compile(r"\[\s*([%$\w@.]+)?\s*(?:(\+?)\s*(-?\w+))?\s*\]$")


@dataclass(frozen=True)
class Operand:
    """One operand.

    Args:
        kind: "register", "special" (`%tid.x`), "number", "address", "vector" (`{a, b}`) or "symbol"
            (a variable, a label).
        name: Of the register, symbol, or base of the address; empty if there is none.
        bits: The number's bits, or the address's offset in bytes.
        width: Bytes of a floating-point literal, 0 of an integer.
        items: Of a vector.
    """

    kind: str
    name: str = ""
    bits: int = 0
    width: int = 0
    items: tuple[Operand, ...] = ()


def parse_operands(text: str, register: Callable[[str], str | None]) -> tuple[Operand, ...]:
    """Parse the operands behind an opcode; `register` maps a visible register to its unique name."""
    return tuple(_operand(part, register) for part in _split(text))


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _operand(text: str, register: Callable[[str], str | None]) -> Operand:
    if text.startswith("{"):
        return Operand("vector", items=parse_operands(text[1:-1], register))
    if text.startswith("["):
        return _address(text, register)
    if NUMBER.match(text):
        return _number(text)
    unique = register(text)
    if unique is not None:
        return Operand("register", name=unique)
    return Operand("special" if text.startswith("%") else "symbol", name=text)


def _address(text: str, register: Callable[[str], str | None]) -> Operand:
    found = ADDRESS.match(text)
    assert found is not None, f"no address: {text}"
    base, sign, offset = found[1] or "", found[2], found[3]
    if base and NUMBER.match(base):
        base, offset = "", base
    assert offset is None or sign or not base, text
    return Operand("address", name=register(base) or base, bits=int(offset or "0", 0))


def _number(text: str) -> Operand:
    body = text.rstrip("U")
    if body[:2] in ("0f", "0F"):
        return Operand("number", bits=int(body[2:], 16), width=4)
    if body[:2] in ("0d", "0D"):
        return Operand("number", bits=int(body[2:], 16), width=8)
    return Operand("number", bits=int(body, 0))
