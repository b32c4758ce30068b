# SPDX-License-Identifier: Apache-2.0
"""Packages that a slow test installs for itself, since they are too large for the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def install(*words: str, python: str | Path = sys.executable) -> None:
    """Install packages with pip, or skip the test by their names if that is not possible."""
    run = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        names = ", ".join(word for word in words if "==" in word)
        pytest.skip(f"{names} cannot be installed: {run.stderr.strip().splitlines()[-1]}")
