# SPDX-License-Identifier: Apache-2.0
"""The kernels run on the host: over their grids as launched, under sanitizers.

The cases of an operation are in ``host_build/cases_<operation>.py``. They run in a process of their
own, into which the sanitizers are loaded first.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.kernels.host_build.library import (
    SOURCES,
    compile_library,
    sanitized_environment,
    sanitizer_of,
)

ROOT = Path(__file__).parents[2]


def compiled_by(compiler: str, *marks: pytest.MarkDecorator) -> object:
    missing = pytest.mark.skipif(
        sanitizer_of(compiler) is None, reason=f"needs {compiler} with its sanitizers"
    )
    return pytest.param(compiler, marks=[missing, *marks])


@pytest.mark.parametrize("op", SOURCES)
@pytest.mark.parametrize("compiler", [compiled_by("g++"), compiled_by("clang++", pytest.mark.slow)])
def test_kernels_agree_with_the_reference_under_sanitizers(compiler: str, op: str) -> None:
    compile_library(op, compiler)
    cases = Path("tests/kernels/host_build") / f"cases_{op}.py"
    command = [sys.executable, "-m", "pytest", str(cases), "--noconftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        # What a sanitizer writes before it ends the process must not be captured inside it.
        [*command, "-q", "-x", "--tb=short", "--capture=sys"],
        env=sanitized_environment(compiler),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
