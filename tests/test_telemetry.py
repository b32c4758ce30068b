# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime sends no telemetry, unless the user allows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def python(home: Path, code: str, **environment: str) -> str:
    """Run a program in a process without the variables of a CI, which turn the telemetry off as well."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_onnx_runtime_writes_no_identifier_of_the_machine(tmp_path: Path) -> None:
    python(tmp_path, "import foveate; foveate.load('mini').close()")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize("wanted", ["0", "1"])
def test_the_choice_of_the_user_stays(tmp_path: Path, wanted: str) -> None:
    code = "import foveate, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert python(tmp_path, code, ORT_DISABLE_TELEMETRY=wanted) == f"{wanted}\n"
