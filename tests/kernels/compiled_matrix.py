# SPDX-License-Identifier: Apache-2.0
"""Every source of kernels for every architecture, for tests of what the compilers make of it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from foveate.kernels.build import ARCHITECTURES, FOLDER, compile_kernels

# The oldest, one of the middle and the newest are compiled in every run; all of them in the slow one.
USUAL = ("sm_75", "sm_89", "sm_120")

SOURCES = sorted(
    path.relative_to(FOLDER)
    for path in FOLDER.rglob("*.cuh")
    if "__global__" in path.read_text(encoding="utf-8")
)

MATRIX = [
    pytest.param(
        source,
        architecture,
        marks=[] if architecture in USUAL else pytest.mark.slow,
        id=f"{source.stem}-{architecture}",
    )
    for source in SOURCES
    for architecture in ARCHITECTURES
]


def ptx_of(source: Path) -> str:
    """Compile a source for the oldest architecture."""
    compiled = compile_kernels(source, form="ptx", architecture="sm_75")
    return compiled.path.read_text(encoding="utf-8")


@cache
def entries_of(source: Path) -> dict[str, tuple[str, ...]]:
    """Return the types of the parameters of each kernel, as they stand in the PTX of a source."""
    found = re.findall(r"\.visible \.entry (\w+)\((.*?)\)", ptx_of(source), re.DOTALL)
    return {name: tuple(re.findall(r"\.param \.(\w+)", text)) for name, text in found}


def names_in(source: Path) -> set[str]:
    """Return the kernels of a source."""
    return set(entries_of(source))


def is_wide(name: str) -> bool:
    """Return whether each access of a kernel moves several elements."""
    return re.search(r"x(4|8|16)$", name) is not None
