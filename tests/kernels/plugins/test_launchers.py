# SPDX-License-Identifier: Apache-2.0
"""The launchers as nvcc compiles them, with the launches that the build for the CPU replaces."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.samples.kernel_compilers import needs_nvcc

from foveate.kernels.build import FOLDER
from foveate.kernels.compilers import FLAGS, find_nvcc

LAUNCHERS = sorted(FOLDER.rglob("launch.cu"))
HOST_FLAGS = "-Wall,-Wextra,-Werror,-Wno-unknown-pragmas"

# The functions that `<<<...>>>` calls in several toolkits. nvcc also calls functions with two leading
# underscores, which register the kernels when the program is loaded.
LAUNCHING = {"cudaGetLastError", "cudaLaunchKernel", "cudaLaunchKernelExC"}


@pytest.fixture(scope="module", params=LAUNCHERS, ids=lambda path: path.parent.name)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the launchers of a plugin to an object file."""
    nvcc = find_nvcc()
    assert nvcc is not None
    made = tmp_path_factory.mktemp("launcher") / "launch.o"
    command = [str(nvcc.program), "-c", *FLAGS, "-arch=compute_75", "-code=compute_75"]
    command += ["-Werror", "all-warnings", "-Xcompiler", HOST_FLAGS, "-I", str(FOLDER)]
    done = subprocess.run(
        [*command, str(request.param), "-o", str(made)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return made


@needs_nvcc
def test_both_sides_of_a_launcher_compile(compiled: Path) -> None:
    assert b"foveate_launch_" in compiled.read_bytes()


@needs_nvcc
def test_a_launcher_calls_nothing_except_launches(compiled: Path) -> None:
    """A wait, a copy or an allocation would be a call of another function."""
    undefined = subprocess.run(
        ["nm", "--undefined-only", str(compiled)], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in undefined.stdout.splitlines()}
    assert "cudaGetLastError" in names
    assert {name for name in names if re.match(r"cu(da)?[A-Z]", name)} <= LAUNCHING
    assert {name for name in names if re.match(r"(m|c|re)alloc|_Zn[wa]|mmap", name)} == set()


def test_every_plugin_has_a_launcher() -> None:
    plugins = {path.parent for path in FOLDER.rglob("plugin.cpp")}
    assert {path.parent for path in LAUNCHERS} == plugins
