# SPDX-License-Identifier: Apache-2.0
"""Packages that a slow test installs for itself, since they are too large for the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_NO_INDEX = (
    *("Could not find a version", "No matching distribution"),
    *("Failed to establish", "connection broken"),
)


def install(*words: str, python: str | Path = sys.executable) -> None:
    """Install packages with pip, or skip the test by their names if no package index has them."""
    run = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    skip_without_index(run, ", ".join(word for word in words if "==" in word))
    assert run.returncode == 0, run.stderr


def skip_without_index(run: subprocess.CompletedProcess[str], what: str) -> None:
    """Skip the test if pip failed because it reached no package index, or one without a package."""
    if run.returncode and any(text in run.stderr for text in _NO_INDEX):
        pytest.skip(f"needs a package index with {what}")
