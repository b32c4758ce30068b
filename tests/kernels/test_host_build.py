# SPDX-License-Identifier: Apache-2.0
"""The kernels run on the CPU: over their grids as launched, under sanitizers.

The cases of an operation are in ``host_build/cases_<operation>.py``. They run in a process of their
own, into which the sanitizers are loaded first.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.kernels.compiled_matrix import SOURCES
from tests.kernels.host_build.driver import compile_kernels_for_host
from tests.kernels.host_build.library import (
    LAUNCHERS,
    compile_library,
    sanitized_environment,
    sanitizer_of,
)
from tests.samples.paths import ROOT

CASES = Path("tests/kernels/host_build")
OPS = sorted(path.stem.removeprefix("cases_") for path in (ROOT / CASES).glob("cases_*.py"))


def compiled_by(compiler: str, *marks: pytest.MarkDecorator) -> object:
    missing = pytest.mark.skipif(
        sanitizer_of(compiler) is None, reason=f"needs {compiler} with its sanitizers"
    )
    return pytest.param(compiler, marks=[missing, *marks])


@pytest.mark.parametrize("compiler", [compiled_by("g++"), compiled_by("clang++", pytest.mark.slow)])
def test_kernels_agree_with_the_reference_under_sanitizers(compiler: str) -> None:
    # Compilers are not to run with the sanitizers in them.
    for op in OPS:
        if op in LAUNCHERS:
            compile_library(op, compiler)
        else:
            compile_kernels_for_host(Path(op) / f"{op}.cuh", compiler)
    cases = [str(CASES / f"cases_{op}.py") for op in OPS]
    command = [sys.executable, "-m", "pytest", *cases, "--noconftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        # What a sanitizer writes before it ends the process must not be captured inside it.
        [*command, "-q", "--tb=short", "--capture=sys"],
        env=sanitized_environment(compiler),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_every_source_of_kernels_has_cases() -> None:
    assert {path.parent.name for path in SOURCES} == set(OPS)
