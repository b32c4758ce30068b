# SPDX-License-Identifier: Apache-2.0
"""Tests with packages of other tools that the tests do not install: large ones, and one with code of the GPL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tests.samples.packages import install
from tests.samples.paths import ROOT


def make_environment(folder: Path, *packages: str) -> Path:
    """Return the interpreter of a new environment with packages, and with those of this process."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    inner = folder / "lib" / version / "site-packages"
    (inner / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install(*packages, python=python)
    return python


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "files"),
    [
        ("supervision==0.31.2 trackers==2.6.1", "tests/results/test_with_supervision.py"),
        ("supervision==0.28.0 trackers==2.6.1", "tests/results/test_with_supervision.py"),
        ("labelme==6.3.1", "tests/labeling/test_with_labelme.py"),
        ("av==18.1.0", "tests/video/test_pyav.py"),
        ("datumaro==1.13.12", "tests/labeling/test_with_datumaro.py"),
        (
            "cvat-sdk[masks]==2.80.0",
            "tests/examples/test_cvat_function.py tests/labeling/test_with_cvat.py",
        ),
    ],
)
def test_the_tools_themselves_read_what_is_written(
    packages: str, files: str, tmp_path: Path
) -> None:
    python = make_environment(tmp_path / "environment", *packages.split())
    # Warnings of these packages are not ours.
    command = [str(python), "-m", "pytest", "-W", "ignore", "-p", "no:cacheprovider", "-q"]
    command += files.split()
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed in ", done.stdout, re.MULTILINE), done.stdout  # none is skipped
