# SPDX-License-Identifier: Apache-2.0
"""Compilers of kernels: NVRTC, or nvcc of a CUDA toolkit, whichever suits the GPU and its driver."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from foveate.errors import BackendError
from foveate.system.gpu import driver_version

# Multiplications and additions are not fused, so that GPU and CPU round alike.
FLAGS = ("-std=c++17", "-fmad=false")

# Directory of NVRTC in the wheels of each major version of CUDA, from the newest to the oldest.
_WHEELS = {13: "cu13/lib", 12: "cuda_nvrtc/lib"}


class Compiler(Protocol):
    """A compiler of kernels to device code."""

    @property
    def version(self) -> str:
        """Name and version, which are part of the cache key."""

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architecture: str
    ) -> str:
        """Write device code to ``target`` and return the compiler log.

        Args:
            source: A .cuh file with kernels.
            target: File to write.
            include: Directory that includes are relative to.
            form: ``"ptx"`` or ``"cubin"``.
            architecture: A name like ``sm_89``.

        Raises:
            BackendError: The source has an error or a warning, or the compiler does not support
                the architecture.
        """


class InstalledCompiler(Compiler, Protocol):
    """A compiler of this machine."""

    @property
    def cuda(self) -> tuple[int, int]:
        """Version of CUDA that it belongs to."""

    @property
    def architectures(self) -> tuple[int, ...]:
        """Numbers of the architectures that it supports, such as 89, in ascending order."""


@dataclass(frozen=True)
class Nvcc:
    """The compiler driver of a CUDA toolkit.

    Args:
        program: Path of nvcc.
    """

    program: Path

    @cached_property
    def version(self) -> str:
        """Name and version."""
        *_, last = self._output("--version").split("\n")
        return f"nvcc {last}"

    @cached_property
    def cuda(self) -> tuple[int, int]:
        """Version of CUDA."""
        found = re.search(r"release (\d+)\.(\d+)", self._output("--version"))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    @cached_property
    def architectures(self) -> tuple[int, ...]:
        """Architectures that it lists."""
        listed = re.findall(r"compute_(\d+)", self._output("--list-gpu-arch"))
        return tuple(sorted(map(int, listed)))

    def _output(self, option: str) -> str:
        command = [os.fspath(self.program), option]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            what = f"nvcc does not run: {error}"
            raise BackendError(what, file=self.program, remedy="repair the CUDA toolkit") from error
        return done.stdout.strip()

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architecture: str
    ) -> str:
        """See :meth:`Compiler.compile`; the log of a cubin lists the registers of each kernel."""
        command = [os.fspath(self.program), f"-{form}", *FLAGS, "-Werror", "all-warnings"]
        command += ["-I", os.fspath(include), f"-arch={_target(form, architecture)}"]
        if form == "cubin":  # ptxas warns about spills, and -Werror turns warnings into errors
            command += ["-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
        command += ["-x", "cu", os.fspath(source), "-o", os.fspath(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BackendError(
                f"nvcc cannot compile for {architecture}: {done.stderr.strip()}",
                file=source,
                remedy="update the CUDA toolkit if it does not support the architecture",
            )
        return done.stderr


@dataclass(frozen=True)
class Nvrtc:
    """NVRTC through ``cuda.bindings``: it needs no toolkit, host compiler or driver.

    Args:
        cuda: Version of CUDA.
        architectures: Architectures that it lists.
    """

    cuda: tuple[int, int]
    architectures: tuple[int, ...] = ()

    @property
    def version(self) -> str:
        """Name and version."""
        return f"NVRTC {_dotted(self.cuda)}"

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architecture: str
    ) -> str:
        """See :meth:`Compiler.compile`."""
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        options = [*FLAGS, f"-I{os.fspath(include)}", f"-arch={_target(form, architecture)}"]
        _, program = nvrtc.nvrtcCreateProgram(source.read_bytes(), os.fsencode(source), 0, [], [])
        try:
            words = [word.encode() for word in options]
            (failure,) = nvrtc.nvrtcCompileProgram(program, len(words), words)
            log = _bytes_of(nvrtc, "ProgramLog", program).rstrip(b"\0\n").decode(errors="replace")
            # NVRTC has no option that makes all warnings errors.
            if failure or "warning" in log:
                raise BackendError(
                    f"NVRTC cannot compile for {architecture}: {log or failure.name}",
                    file=source,
                    remedy="update NVRTC if it does not support the architecture",
                )
            target.write_bytes(_bytes_of(nvrtc, form.upper(), program))
        finally:
            nvrtc.nvrtcDestroyProgram(program)
        return log


def _bytes_of(nvrtc: Any, what: str, program: Any) -> bytes:
    """Return a result of a compilation: ``"ProgramLog"``, ``"PTX"`` or ``"CUBIN"``."""
    _, size = getattr(nvrtc, f"nvrtcGet{what}Size")(program)
    found = bytes(size)  # zeros, which NVRTC overwrites in place
    getattr(nvrtc, f"nvrtcGet{what}")(program, found)
    return found


def _target(form: str, architecture: str) -> str:
    """Return what code is made for; PTX is for a virtual architecture, newer GPUs take it too."""
    return architecture.replace("sm_", "compute_") if form == "ptx" else architecture


def find_nvcc() -> Nvcc | None:
    """Find nvcc in CUDA_HOME, on the PATH, or where toolkits install themselves."""
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home and (Path(home) / "bin" / "nvcc").is_file():
            return Nvcc(Path(home) / "bin" / "nvcc")
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    return Nvcc(Path(found)) if found else None


def find_nvrtc() -> Nvrtc:
    """Find the newest NVRTC for the driver, in packages, a toolkit or the loader's search path.

    Raises:
        ImportError: ``cuda.bindings`` is not installed.
        RuntimeError: The library is not installed or cannot be loaded.
    """
    _load_nvrtc(driver_version())
    nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    _, major, minor = nvrtc.nvrtcVersion()
    _, architectures = nvrtc.nvrtcGetSupportedArchs()
    return Nvrtc((major, minor), tuple(sorted(architectures)))


def _load_nvrtc(driver: tuple[int, int] | None) -> None:
    """Load the NVRTC of the newest wheel that is not newer than the driver.

    ``cuda.bindings`` uses a library that is loaded already. By itself it would load the newest one
    that is installed, whose code a driver of an earlier major version refuses.
    """
    package = importlib.util.find_spec("nvidia")
    for major, folder in _WHEELS.items():
        for place in (package.submodule_search_locations or ()) if package else ():
            library = Path(place) / folder / f"libnvrtc.so.{major}"
            if library.is_file() and (driver is None or major <= driver[0]):
                # NVRTC loads its builtins by name, and not all releases look next to themselves.
                builtins = library.parent.glob(f"libnvrtc-builtins.so.{major}.*")
                for one in (*builtins, library):
                    ctypes.CDLL(os.fspath(one))
                return


@dataclass(frozen=True)
class Choice:
    """A compiler with what it makes for a GPU.

    Args:
        compiler: The compiler.
        form: ``"ptx"`` or ``"cubin"``.
        architecture: Architecture of the code; an earlier one than the GPU's only for PTX.
    """

    compiler: Compiler
    form: str
    architecture: str


def choose_compiler(form: str, architecture: str) -> Choice:
    """Choose a compiler whose code the driver of this machine can load.

    NVRTC comes before nvcc, which needs a C++ compiler that fits it. For an architecture that
    neither knows, the choice is PTX of the newest earlier one, which the driver compiles.

    Args:
        form: Form of the code that is preferred.
        architecture: Architecture of the GPU, a name like ``sm_89``.

    Raises:
        BackendError: No compiler is installed, or none suits the driver and the GPU.
    """
    found = _installed()
    driver = driver_version()
    fitting = [one for one in found if driver is None or one.cuda[0] <= driver[0]]
    number = int("".join(filter(str.isdigit, architecture)))
    for one in fitting:
        if number in one.architectures:
            return Choice(one, form, architecture)
    known = [(older, one) for one in fitting for older in one.architectures if older < number]
    if known:
        newest, one = max(known, key=lambda pair: pair[0])
        return Choice(one, "ptx", f"sm_{newest}")
    raise BackendError(
        f"no compiler for kernels of {architecture}: {'; '.join(map(_describe, found))}; "
        + (f"the driver supports CUDA {_dotted(driver)}" if driver else "there is no driver"),
        remedy=_remedy(found, driver),
    )


def _installed() -> list[InstalledCompiler]:
    """Return the compilers of this machine, in the order in which they are preferred.

    Raises:
        BackendError: There is none.
    """
    nvcc = find_nvcc()
    try:
        return [find_nvrtc(), *([nvcc] if nvcc else [])]
    except (ImportError, RuntimeError) as error:
        if nvcc is not None:
            return [nvcc]
        raise BackendError(
            "no compiler for CUDA kernels: nvcc is neither in CUDA_HOME nor on the PATH, and NVRTC "
            f"cannot be loaded: {error}",
            remedy="run: pip install 'foveate[cuda]', or install the CUDA toolkit",
        ) from error


def _describe(one: InstalledCompiler) -> str:
    first, last = one.architectures[:1], one.architectures[-1:]
    span = f", for sm_{first[0]} to sm_{last[0]}" if first else ""
    return f"{type(one).__name__} is of CUDA {_dotted(one.cuda)}{span}"


def _remedy(found: list[InstalledCompiler], driver: tuple[int, int] | None) -> str:
    """Return what makes a compiler suit the driver or the GPU."""
    if driver is None or any(one.cuda[0] <= driver[0] for one in found):
        return "use a GPU of sm_75 or later, or run on the CPU: device='cpu'"
    update = "update the driver to one of CUDA 13"
    return f"run: pip install 'foveate[cuda12]', or {update}" if driver[0] == 12 else update


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
