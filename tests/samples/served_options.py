# SPDX-License-Identifier: Apache-2.0
"""What `foveate serve` understands, for files that name it."""

from __future__ import annotations

import re

import pytest

from foveate.cli import invoke
from foveate.serve import create_app


def routes() -> set[str]:
    """Return the paths of the server."""
    return {str(getattr(route, "path", "")) for route in create_app().routes}


def unknown_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the options among words that `foveate serve` does not have."""
    assert invoke(["serve", "--help"]) == 0
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    return [word for word in words if word.startswith("--") and word not in known]


def value_of(words: list[str], option: str) -> str:
    """Return the value of an option."""
    return words[words.index(option) + 1]
