# SPDX-License-Identifier: Apache-2.0
"""Parameters, and variables in shared memory: their sizes and places."""

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
    r"\.(?P<space>param|shared)\s+(?P<options>.*?)(?P<name>[$%\w]+)\s*(?P<array>\[\d*\])?$",
    re.DOTALL,
)
ALIGN = re.compile(r"\.align\s+(\d+)")


@dataclass(frozen=True)
class Variable:
    """A variable of `size` bytes at byte `offset` of its space."""

    name: str
    space: str
    size: int
    align: int
    offset: int = 0


def parse_variable(text: str) -> Variable:
    """Parse a declaration, a parameter's included."""
    found = DECLARATION.match(" ".join(text.split()))
    assert found is not None, f"no declaration: {text}"
    kind = next(word[1:] for word in reversed(found["options"].split()) if word[1:] in SIZES)
    # An alignment behind `.ptr` is that of what a pointer parameter points at.
    align = ALIGN.search(found["options"].partition(".ptr")[0])
    count = int(found["array"][1:-1] or "0") if found["array"] else 1
    return Variable(
        found["name"], found["space"], SIZES[kind] * count, int(align[1]) if align else SIZES[kind]
    )


def place(variable: Variable, variables: dict[str, Variable]) -> None:
    """Put a variable behind the others of its space."""
    end = max((other.offset + other.size for other in variables.values()), default=0)
    offset = -(-end // variable.align) * variable.align
    variables[variable.name] = replace(variable, offset=offset)
