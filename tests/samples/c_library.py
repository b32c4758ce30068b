# SPDX-License-Identifier: Apache-2.0
"""Small libraries in C that watch what a process does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compile_c(source: Path, folder: Path) -> Path:
    """Compile a library, or skip the test where there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    target = folder / f"{source.stem}.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run(["gcc", *options, f"{source}", "-o", f"{target}"], check=True)
    return target
