# SPDX-License-Identifier: Apache-2.0
"""The launchers of TensorRT's plugins, compiled for the host under sanitizers, called from NumPy.

Every array is copied to memory of exactly its size, so that the address sanitizer sees an access
one byte beyond it. Every launch is compared with the shapes in ``tests.kernels.plugin_ops``.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.kernels.plugin_ops import shape_of, staged_rows, upsample_bands

from foveate.kernels.build import FOLDER, CodeCache, included_sources

HERE = Path(__file__).parent
FLAGS = (
    *("-std=c++17", "-O1", "-g1", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
LAUNCHERS = {
    path.parent.name: path.relative_to(FOLDER) for path in sorted(FOLDER.rglob("launch.cu"))
}

Argument = np.ndarray[Any, Any] | np.generic | Sequence[np.ndarray[Any, Any]] | int | float | None


COMPILER = os.environ.get("FOVEATE_HOST_COMPILER", "g++")
"""What the libraries of this process are compiled by: g++, or clang++."""

# Both have the address sanitizer in a library, which has to be loaded before all others.
SANITIZERS = {"g++": "libasan.so", "clang++": "libclang_rt.asan-x86_64.so"}


def compile_library(op: str, compiler: str = COMPILER) -> Path:
    """Compile the launchers of an operation, unless this very source was compiled before."""
    words, source = HERE / "cuda_on_host.h", LAUNCHERS[op]
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    texts = [words.read_bytes(), *included_sources(source).values()]
    flags = compiler_flags(compiler)
    key = [op, *flags, version.stdout, *(text.decode() for text in texts)]

    def make(target: Path) -> str:
        command = [compiler, *flags, "-include", str(words), "-I", str(FOLDER)]
        done = subprocess.run(
            [*command, str(FOLDER / source), "-o", str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return CodeCache.of_user().get("\n".join(key), "so", make).path


def compiler_flags(compiler: str) -> list[str]:
    """Return the flags of a shared library under sanitizers."""
    if compiler == "clang++":
        # It warns of flags for the linker where it only expands macros.
        return [*FLAGS, "-shared-libasan", "-Wno-unused-command-line-argument"]
    return [*FLAGS, "-fno-gnu-unique"]  # each library has variables of its own


def sanitizer_of(compiler: str) -> Path | None:
    """Find the library of a compiler's address sanitizer; None if one of both is missing."""
    if shutil.which(compiler) is None:
        return None
    named = subprocess.run(
        [compiler, f"-print-file-name={SANITIZERS[compiler]}"],
        capture_output=True,
        text=True,
        check=True,
    )
    library = Path(named.stdout.strip())
    return library if library.is_absolute() else None


def sanitized_environment(compiler: str) -> dict[str, str]:
    """Return the environment of a process that may load a library of a compiler."""
    return os.environ | {
        "FOVEATE_HOST_COMPILER": compiler,
        "LD_PRELOAD": str(sanitizer_of(compiler)),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


@cache
def _load(op: str) -> ctypes.CDLL:
    library = ctypes.CDLL(str(compile_library(op)))
    library.host_launches.restype = ctypes.c_char_p
    return library


@cache
def _memory() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    return library


class _Lent:
    """Arrays in memory of exactly their size, for the time of a call."""

    def __init__(self) -> None:
        self._held: list[tuple[int, np.ndarray[Any, Any]]] = []

    def __enter__(self) -> _Lent:
        return self

    def put(self, array: np.ndarray[Any, Any]) -> int:
        assert array.flags.c_contiguous
        address = _memory().malloc(array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        self._held.append((address, array))
        return int(address)

    def __exit__(self, *_: object) -> None:
        for address, array in self._held:
            if array.flags.writeable:
                ctypes.memmove(array.ctypes.data, address, array.nbytes)
            _memory().free(address)


def launch(op: str, launcher: str, *arguments: Argument) -> int:
    """Call a launcher and return its status.

    Args:
        op: Directory of the operation.
        launcher: Its name.
        arguments: Arrays, sequences of arrays (as an array of their addresses), integers, floats
            (32 bits), ``np.float64`` (64 bits), None for a null pointer; without the stream.
    """
    library = _load(op)
    with _Lent() as lent:
        given: list[Any] = []
        for argument in arguments:
            if argument is None:
                given.append(ctypes.c_void_p(None))
            elif isinstance(argument, np.ndarray):
                given.append(ctypes.c_void_p(lent.put(argument)))
            elif isinstance(argument, Sequence):
                table = np.array([lent.put(array) for array in argument], np.uint64)
                given.append(ctypes.c_void_p(lent.put(table)))
            elif isinstance(argument, np.float64):
                given.append(ctypes.c_double(float(argument)))
            elif isinstance(argument, float):
                given.append(ctypes.c_float(argument))
            else:
                given.append(ctypes.c_int(int(argument)))
        status = int(getattr(library, launcher)(*given, ctypes.c_void_p(None)))
    for line in library.host_launches().decode().splitlines():
        check_launch(line)
    return status


def check_launch(line: str) -> None:
    """Compare one launch of a launcher with the shapes that the interpreter's launches have."""
    name, *words = line.split()
    given = tuple(int(word) for word in words[:7])
    numbers = [int(word[1:]) for word in words[7:] if word[0] == "i"]
    grid, block, shared_bytes = shape_of(name, numbers)
    assert given == (*grid, block, 1, 1, shared_bytes), line
    if "upsample_map" in name:
        assert tuple(numbers[-2:]) == upsample_bands(*numbers[1:5]), line
    elif "paste_windows" in name:
        assert numbers[-1] == staged_rows(numbers[1]), line
