# SPDX-License-Identifier: Apache-2.0
"""What nvcc makes of the launchers: their host side too, which the host build replaces."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from foveate.kernels.compilers import FLAGS, find_nvcc
from foveate.kernels.compiling import FOLDER

LAUNCHERS = sorted(FOLDER.glob("*/launch.cu"))
HOST_FLAGS = "-Wall,-Wextra,-Werror,-Wno-unknown-pragmas"


@pytest.mark.skipif(find_nvcc() is None, reason="needs nvcc of a CUDA toolkit")
@pytest.mark.parametrize("source", LAUNCHERS, ids=lambda path: path.parent.name)
def test_both_sides_of_a_launcher_compile(source: Path, tmp_path: Path) -> None:
    nvcc = find_nvcc()
    assert nvcc is not None
    made = tmp_path / "launch.o"
    command = [str(nvcc.program), "-c", *FLAGS, "-arch=compute_75", "-code=compute_75"]
    command += ["-Werror", "all-warnings", "-Xcompiler", HOST_FLAGS, "-I", str(FOLDER)]
    done = subprocess.run(
        [*command, str(source), "-o", str(made)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"foveate_launch_" in made.read_bytes()


def test_every_operation_with_kernels_has_a_launcher() -> None:
    with_kernels = {path.parent for path in FOLDER.glob("*/*.cuh") if path.parent.name != "device"}
    assert {path.parent for path in LAUNCHERS} == with_kernels
