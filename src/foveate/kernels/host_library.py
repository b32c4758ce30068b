# SPDX-License-Identifier: Apache-2.0
"""The compiled part of the host versions: built on request, used if it is there.

It holds the few operations that C++ makes at least twice as fast as numpy. Each has a version in
numpy beside it with the same results, so nothing needs it. The code is compiled for this very
processor, hence the processor's abilities are part of the key that it is kept under.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
from pathlib import Path

from foveate.errors import BackendError
from foveate.kernels.compiling import FOLDER, CodeCache, Compiled, source_hashes

__all__ = ["SOURCES", "build_host_library", "find_compiler", "host_library", "load_library"]

SOURCES = tuple(Path(f"{op}/host.cpp") for op in ("bilinear_upsample", "nms", "roi_max_pool"))
"""What is compiled, relative to the folder of the kernels."""

_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=off",  # as on devices: coordinates round twice, see device/numbers.cuh
    "-fno-trapping-math",  # lets comparisons of floats become vector instructions
    "-fno-math-errno",
    "-fPIC",
    "-fvisibility=hidden",
    "-shared",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
)
_SUFFIX = "so"


def find_compiler() -> str:
    """Find a C++ compiler: CXX of the environment, or a usual name on the PATH.

    Raises:
        BackendError: There is none.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise BackendError(
        f"no C++ compiler: none of {', '.join(names)} is on the PATH",
        remedy="install one (on Debian and Ubuntu: apt-get install g++), or do without: the "
        "compiled part of the host is optional",
    )


def build_host_library(cache: CodeCache | None = None) -> Compiled:
    """Compile the library, or take what was compiled before; programs started later use it.

    Args:
        cache: By default the user's.

    Raises:
        BackendError: There is no compiler, or it refused, or the cache cannot be written.
    """
    compiler = find_compiler()
    return (cache or CodeCache.of_user()).get(
        _key(), _SUFFIX, lambda target: _compile(compiler, target)
    )


@functools.cache
def host_library() -> ctypes.CDLL | None:
    """Return the library if it was built for this processor from these sources, else None."""
    built = CodeCache.of_user().find(_key(), _SUFFIX)
    return None if built is None else load_library(built)


def load_library(built: Compiled) -> ctypes.CDLL | None:
    """Load what was built, or return None if this system cannot."""
    try:
        library = ctypes.CDLL(os.fspath(built.path))
    except OSError:  # as on a system whose C++ library is older than the compiler's
        return None
    library.foveate_host_suppress.restype = ctypes.c_longlong
    library.foveate_host_paint.restype = None
    library.foveate_host_roi_max_pool.restype = None
    return library


def _compile(compiler: str, target: Path) -> str:
    sources = [os.fspath(FOLDER / source) for source in SOURCES]
    command = [compiler, *_FLAGS, "-I", os.fspath(FOLDER), *sources, "-o", os.fspath(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackendError(
            f"{compiler} cannot compile the host's part: {done.stderr.strip()}",
            remedy="set CXX to a compiler that knows C++17; without it everything works in numpy",
        )
    return f"{compiler}\n{done.stderr}"


def _key() -> str:
    return "\n".join(["host", *_FLAGS, *_processor(), *(source_hashes(s) for s in SOURCES)])


def _processor() -> list[str]:
    """Return what the code of ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    words = ("flags", "Features", "model name", "CPU part")
    told = [line for line in lines if line.startswith(words)]
    # All processors of a machine are told; the first stands for them.
    return [platform.system(), platform.machine(), *sorted(set(told))]
