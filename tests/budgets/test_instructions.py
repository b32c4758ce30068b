# SPDX-License-Identifier: Apache-2.0
"""Instructions of chosen paths between the networks, counted by callgrind."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.budgets.budget import Budgets, Count
from tests.samples.c_library import compile_c
from tests.samples.paths import ROOT

REQUESTS = Path(__file__).with_name("valgrind_requests.c")
pytestmark = pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")


def versions() -> str:
    """Return what decides how many instructions the same Python code takes."""
    # Valgrind shows every processor with AVX2 to a program as the same one.
    avx2 = "AVX2" if re.search(r"\bavx2\b", Path("/proc/cpuinfo").read_text()) else "no AVX2"
    python = f"CPython {platform.python_version()} ({platform.python_compiler()})"
    return f"{python}, NumPy {np.__version__}, OpenCV {cv2.__version__}, {avx2}"


def instructions(folder: Path) -> dict[str, Count]:
    options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
    program = [sys.executable, "-m", "tests.budgets.hot_paths", f"{compile_c(REQUESTS, folder)}"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([f"{ROOT}", f"{ROOT / 'src'}"]),
        "PYTHONHASHSEED": "0",
    }
    subprocess.run(
        ["valgrind", *options, *program], capture_output=True, check=True, env=environment
    )
    found = {}
    for file in folder.glob("counts*"):
        text = file.read_text()
        if name := re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE):
            total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
            assert total is not None, text
            found[name[1]] = Count(value=int(total[1]), unit="instructions")
    return found


def test_paths_take_no_more_instructions_than_budgeted(tmp_path: Path, budgets: Budgets) -> None:
    budgets.check("instructions of one call", instructions(tmp_path), versions=versions())
