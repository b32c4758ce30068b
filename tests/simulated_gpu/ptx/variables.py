# SPDX-License-Identifier: Apache-2.0
"""Variables and parameters: their space, size, place and first value."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

SIZES = {
    **dict.fromkeys(("b8", "u8", "s8"), 1),
    **dict.fromkeys(("b16", "u16", "s16", "f16", "bf16"), 2),
    **dict.fromkeys(("b32", "u32", "s32", "f32", "f16x2", "bf16x2"), 4),
    **dict.fromkeys(("b64", "u64", "s64", "f64"), 8),
    "b128": 16,
}
DECLARATION = re.compile(
    r"\.(?P<space>param|shared|local|global|const)\s+(?P<options>[^=]*?)"
    r"(?P<name>[$%\w]+)\s*(?P<array>\[\d*\])?\s*(?:=\s*(?P<value>.*))?$",
    re.DOTALL,
)
ALIGN = re.compile(r"\.align\s+(\d+)")


@dataclass(frozen=True)
class Variable:
    """A variable of `size` bytes at byte `offset` of its space; `value` holds its first bytes."""

    name: str
    space: str
    size: int
    align: int
    offset: int = 0
    value: bytes = b""


def parse_variable(text: str) -> Variable:
    """Parse a declaration, a parameter's included."""
    found = DECLARATION.match(" ".join(text.split()))
    assert found is not None, f"no declaration: {text}"
    kind = next(word[1:] for word in reversed(found["options"].split()) if word[1:] in SIZES)
    # An alignment behind `.ptr` is that of what a pointer parameter points at.
    align = ALIGN.search(found["options"].partition(".ptr")[0])
    count = int(found["array"][1:-1] or "0") if found["array"] else 1
    return Variable(
        found["name"],
        found["space"],
        SIZES[kind] * count,
        int(align[1]) if align else SIZES[kind],
        value=_bytes(found["value"], SIZES[kind]) if found["value"] else b"",
    )


def _bytes(text: str, size: int) -> bytes:
    numbers = []
    for word in text.strip("{} ").split(","):
        digits = word.strip()
        hexadecimal = digits[:2] in ("0f", "0F", "0d", "0D")
        numbers.append(int(digits[2:], 16) if hexadecimal else int(digits.rstrip("U"), 0))
    mask = (1 << 8 * size) - 1
    return b"".join((number & mask).to_bytes(size, "little") for number in numbers)


def place(variable: Variable, variables: dict[str, Variable]) -> None:
    """Put a variable behind the others of its space."""
    end = max((other.offset + other.size for other in variables.values()), default=0)
    offset = -(-end // variable.align) * variable.align
    variables[variable.name] = replace(variable, offset=offset)
