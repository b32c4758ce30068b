# SPDX-License-Identifier: Apache-2.0
"""A driver that runs kernels on the CPU, compiled by a C++ compiler under sanitizers.

Every array has exactly its size, so that the address sanitizer sees an access one byte beyond it.
The process must have loaded the sanitizers first; see ``test_host_build.py``.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.kernels.host_build.library import COMPILER, compiler_flags
from tests.simulated_gpu.immediate import ImmediateContext, Kernel

from foveate.kernels.build import compile_kernels
from foveate.kernels.op import Launch
from foveate.runtime.devices.cuda import CudaDevice

KEYWORDS = Path(__file__).with_name("cuda_on_host.h")
MARK = "FOVEATE_KERNEL"


class HostCompiler:
    """A C++ compiler in place of nvcc; its "cubin" is a shared library.

    Args:
        program: ``g++`` or ``clang++``.
    """

    def __init__(self, program: str = COMPILER) -> None:
        self._command = [program, *compiler_flags(program), "-include", str(KEYWORDS)]

    @property
    def version(self) -> str:
        """Everything that the code depends on besides the sources."""
        said = subprocess.run(
            [self._command[0], "--version"], capture_output=True, text=True, check=True
        ).stdout
        texts = [KEYWORDS.read_bytes(), Path(__file__).read_bytes()]
        return "\n".join([said, *self._command, *(hashlib.sha256(t).hexdigest() for t in texts)])

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architecture: str
    ) -> str:
        """See ``foveate.kernels.compilers.Compiler.compile``."""
        assert form == "cubin", f"{form} for {architecture} is not code of the host"
        command = [*self._command, "-I", str(include)]
        text = f'#include "{source}"\n'
        expanded = self._run([*command, "-E", f"-D__global__={MARK}", "-"], text)
        names = re.findall(rf"{MARK}\b[^;{{]*?\b(foveate_\w+)\(", expanded)
        assert names, f"no kernels in {source}"
        text += "".join(f"FOVEATE_HOST_KERNEL({name})\n" for name in names)
        return self._run([*command, "-", "-o", str(target)], text)

    @staticmethod
    def _run(command: Sequence[str], text: str) -> str:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


class HostContext(ImmediateContext):
    """The calls of the driver, bound to memory of the host."""

    def __init__(self) -> None:
        super().__init__("sm_0")

    def allocate(self, size: int) -> int:
        address = int(_memory().malloc(size))
        ctypes.memset(address, 0xA5, size)
        return address

    def free(self, address: int) -> None:
        _memory().free(address)

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)

    def find(self, code: bytes, name: str) -> Kernel:
        kernel = getattr(_library(code), f"launch_{name}")

        def run(launch: Launch) -> None:
            numbers = launch.numbers
            raw = [ctypes.create_string_buffer(item.tobytes(), item.nbytes) for item in numbers]
            values = (ctypes.c_void_p * len(raw))(*(ctypes.addressof(item) for item in raw))
            sizes = (ctypes.c_int * len(raw))(*(item.nbytes for item in numbers))
            grid = (ctypes.c_uint * 3)(*launch.blocks)
            status = kernel(grid, launch.block, launch.shared_bytes, values, sizes, len(raw))
            assert status == 0, f"CUDA error {status}"

        return run


@cache
def _library(code: bytes) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.so"
        path.write_bytes(code)
        return ctypes.CDLL(str(path))


@cache
def _memory() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    return library


def compile_kernels_for_host(source: Path, program: str) -> None:
    """Compile a file of kernels, unless this very source was compiled before."""
    compiler = HostCompiler(program)
    compile_kernels(source, form="cubin", architecture="sm_0", compiler=compiler)


@cache
def host_device() -> CudaDevice:
    """Return the device of this process, which launches as on a GPU."""
    return CudaDevice(context=HostContext(), compiler=HostCompiler())
