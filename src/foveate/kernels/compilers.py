# SPDX-License-Identifier: Apache-2.0
"""The compilers of device code: nvcc of a CUDA toolkit, or NVRTC of a wheel.

Both get the same flags. ``-fmad=false``: no multiplication and addition become one, so that device
and host round alike.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from foveate.errors import BackendError
from foveate.kernels.nvrtc import NvrtcLibrary

FLAGS = ("-std=c++17", "-fmad=false")


class Compiler(Protocol):
    """Turns a source file into device code."""

    @property
    def version(self) -> str:
        """Name and version; part of a cache's key."""

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architectures: Sequence[str]
    ) -> str:
        """Write device code to ``target`` and return what the compiler says about it.

        Args:
            source: A .cuh file with kernels.
            target: File to write.
            include: Folder that includes are relative to.
            form: ``"ptx"``, ``"cubin"`` or ``"fatbin"``.
            architectures: One like ``sm_89``; for a fat binary several, the last also as PTX.

        Raises:
            BackendError: The compiler refused the source or cannot make this form. A warning
                counts as an error.
        """


@dataclass(frozen=True)
class Nvcc:
    """The compiler driver of a CUDA toolkit.

    Args:
        program: nvcc.
    """

    program: Path

    @cached_property
    def version(self) -> str:
        """Name and version."""
        command = [os.fspath(self.program), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return f"nvcc {said.strip().splitlines()[-1]}"

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architectures: Sequence[str]
    ) -> str:
        """See :meth:`Compiler.compile`."""
        command = [os.fspath(self.program), f"-{form}", *FLAGS, "-Werror", "all-warnings"]
        command += ["-I", os.fspath(include), *_targets(form, architectures)]
        if form != "ptx":
            command += ["-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
        command += ["-x", "cu", os.fspath(source), "-o", os.fspath(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BackendError(
                f"nvcc cannot compile for {', '.join(architectures)}: {done.stderr.strip()}",
                file=source,
                remedy="update the CUDA toolkit if it does not know the architecture",
            )
        return done.stderr


def _targets(form: str, architectures: Sequence[str]) -> list[str]:
    numbers = [name.removeprefix("sm_") for name in architectures]
    if form == "ptx":
        return ["-arch", f"compute_{numbers[-1]}"]
    if form == "cubin":
        return ["-arch", architectures[-1]]
    targets = []
    for number in numbers:
        targets += ["-gencode", f"arch=compute_{number},code=sm_{number}"]
    return [*targets, "-gencode", f"arch=compute_{numbers[-1]},code=compute_{numbers[-1]}"]


@dataclass(frozen=True)
class Nvrtc:
    """NVIDIA's compiler as a library; it needs no toolkit, no headers and no host compiler.

    Args:
        path: libnvrtc.
    """

    path: Path

    @cached_property
    def _library(self) -> NvrtcLibrary:
        return NvrtcLibrary(self.path)

    @property
    def version(self) -> str:
        """Name and version."""
        return f"NVRTC {self._library.version}"

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architectures: Sequence[str]
    ) -> str:
        """See :meth:`Compiler.compile`; a fat binary is beyond NVRTC."""
        if form == "fatbin":
            raise BackendError(
                "NVRTC makes no fat binaries", remedy="install a CUDA toolkit, which has nvcc"
            )
        architecture = architectures[-1]
        if form == "ptx":
            architecture = architecture.replace("sm_", "compute_")
        options = [*FLAGS, f"--gpu-architecture={architecture}", f"--include-path={include}"]
        code, log = self._library.compile(source, options, form)
        target.write_bytes(code)
        return log


def find_nvcc() -> Nvcc | None:
    """Find nvcc in CUDA_HOME, on the PATH, or where toolkits install themselves."""
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home and (Path(home) / "bin" / "nvcc").is_file():
            return Nvcc(Path(home) / "bin" / "nvcc")
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    return Nvcc(Path(found)) if found else None


def find_nvrtc() -> Nvrtc | None:
    """Find the library of the package nvidia-cuda-nvrtc."""
    package = importlib.util.find_spec("nvidia")
    for place in (package.submodule_search_locations or ()) if package else ():
        for path in sorted(Path(place).glob("*/lib/libnvrtc.so.*"), reverse=True):
            return Nvrtc(path)
    return None


def find_compiler() -> Compiler:
    """Find nvcc or, without a toolkit, NVRTC.

    Raises:
        BackendError: Neither is here.
    """
    compiler = find_nvcc() or find_nvrtc()
    if compiler is None:
        raise BackendError(
            "no compiler for CUDA kernels: nvcc is neither in CUDA_HOME nor on the PATH, and the "
            "package nvidia-cuda-nvrtc is not installed",
            remedy="install the CUDA toolkit, or run: pip install nvidia-cuda-nvrtc",
        )
    return compiler
