# SPDX-License-Identifier: Apache-2.0
"""A driver that runs kernels on the CPU, compiled by a C++ compiler under sanitizers.

Every array has exactly its size, so that the address sanitizer sees an access one byte beyond it.
The process must have loaded the sanitizers first; see ``test_host_build.py``.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.kernels.host_build.library import COMPILER, compiler_flags

from foveate.errors import BackendError
from foveate.kernels.build import compile_kernels
from foveate.kernels.op import Launch
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_context import CudaContext

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


class HostContext(CudaContext):
    """The calls of the driver that our device makes, on memory and kernels of the host.

    All work is done at once, and nothing is recorded. A launch gets the arguments with their sizes,
    which the real call does not carry, so that the kernel can compare them with its parameters.
    """

    def __init__(self) -> None:
        self._handles = itertools.count(1)
        self._kernels: dict[int, tuple[int, bytes]] = {}
        self._code: dict[int, bytes] = {}
        # Nothing is ever pending, so that the other calls have nothing to do.
        self._calls: dict[str, Callable[..., Any]] = {
            "cuMemAllocAsync": _allocate,
            "cuMemHostAlloc": _allocate,
            "cuMemFreeAsync": _free,
            "cuMemFreeHost": _free,
            "cuMemcpyAsync": _copy,
            "cuStreamCreate": self._new,
            "cuEventCreate": self._new,
            "cuLibraryLoadData": self._load,
            "cuLibraryGetKernel": self._find,
        }
        super().__init__()

    def call(self, name: str, *arguments: Any) -> Any:
        """Do what the driver does."""
        self.check_usable()
        return self._calls[name](*arguments) if name in self._calls else 0

    def launch(self, kernel: int, launch: Launch, stream: int) -> None:
        """Run a kernel to its end."""
        assert stream
        library, name = self._kernels[kernel]
        numbers = launch.numbers
        raw = [ctypes.create_string_buffer(item.tobytes(), item.nbytes) for item in numbers]
        values = (ctypes.c_void_p * len(raw))(*(ctypes.addressof(item) for item in raw))
        sizes = (ctypes.c_int * len(raw))(*(item.nbytes for item in numbers))
        grid = (ctypes.c_uint * 3)(*launch.blocks)
        run = getattr(_library(self._code[library]), f"launch_{name.decode()}")
        status = run(grid, launch.block, launch.shared_bytes, values, sizes, len(raw))
        assert status == 0, f"CUDA error {status}"

    def begin_capture(self, stream: int) -> None:
        """Refuse, so that every launch of a program enqueues everything."""
        raise BackendError(f"nothing is recorded here, and nothing on stream {stream}")

    def _open(self) -> tuple[str, int]:
        return "sm_0", 0

    def _new(self, *_: Any) -> int:
        return next(self._handles)

    def _load(self, code: bytes, *_: Any) -> int:
        self._code[handle := next(self._handles)] = code
        return handle

    def _find(self, library: int, name: bytes) -> int:
        self._kernels[handle := next(self._handles)] = (library, name)
        return handle


def _allocate(size: int, _: int) -> int:
    address = int(_memory().malloc(size))
    ctypes.memset(address, 0xA5, size)
    return address


def _free(address: int, *_: int) -> None:
    _memory().free(address)


def _copy(target: int, source: int, size: int, _: int) -> None:
    ctypes.memmove(target, source, size)


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
