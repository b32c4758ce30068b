# SPDX-License-Identifier: Apache-2.0
"""Builds ``libfoveate_plugins.so``, the library of TensorRT plugins, on the machine that needs it.

The library contains the plugins of all directories with a ``plugin.cpp``, and their kernels as a
fat binary. It links the CUDA runtime statically and no library of TensorRT: TensorRT passes every
object that the plugins call.
"""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from foveate.errors import BackendError, OptionError
from foveate.kernels.build import ARCHITECTURES, FOLDER
from foveate.kernels.compilers import FLAGS, Nvcc, find_nvcc
from foveate.system.files import write_file

PLUGINS = FOLDER / "plugins"

LIBRARY = "libfoveate_plugins.so"

HEADERS_PACKAGE = "kernel-lens==2.0.1"
"""A package that contains the headers of TensorRT 10.14, which have the Apache license."""

OLDEST_TENSORRT = (10, 0)  # the first release with IPluginV3

_GIVEN = "pass their directory: foveate kernels build --tensorrt-include DIRECTORY"
_SUFFIXES = (".cpp", ".cu", ".cuh", ".h")
_HEADER_FOLDERS = (
    "/usr/include/x86_64-linux-gnu",
    "/usr/include/aarch64-linux-gnu",
    "/usr/include",
)
_HOST_FLAGS = (
    "-fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall,-Wextra,-Werror,-Wno-unknown-pragmas"
)


def source_digest(root: Path = FOLDER) -> str:
    """Return the SHA-256 of the names and contents of all sources of kernels and plugins.

    Args:
        root: Directory of the sources.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.suffix in _SUFFIXES):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def require_nvcc() -> Nvcc:
    """Find nvcc; NVRTC does not suffice, since the plugins are C++ for the CPU as well.

    Raises:
        BackendError: There is no nvcc.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendError(
            "no nvcc, which compiles the plugins: it is neither in CUDA_HOME nor on the PATH",
            remedy="install the CUDA toolkit, or set CUDA_HOME to its directory, or compile engines without "
            "plugins: --no-plugins",
        )
    return nvcc


def find_headers(given: Path | None = None) -> Path:
    """Find the directory of TensorRT's headers.

    Args:
        given: Directory of the headers or of an installation; by default TENSORRT_HOME, the
            directories of the system and the package :data:`HEADERS_PACKAGE` are searched.

    Raises:
        BackendError: There are no headers, or they are too old for these plugins.
    """
    folder = next(
        (one for one in _header_folders(given) if (one / "NvInferRuntime.h").is_file()), None
    )
    if folder is None:
        raise BackendError(
            "TensorRT's headers were not found: there is no NvInferRuntime.h",
            file=given,
            remedy=f"run: pip install --no-deps {HEADERS_PACKAGE}, or set TENSORRT_HOME, or {_GIVEN}",
        )
    version = tensorrt_version(folder)
    if version[:2] < OLDEST_TENSORRT:
        raise BackendError(
            f"expected headers of TensorRT {'.'.join(map(str, OLDEST_TENSORRT))} or later, found "
            f"{'.'.join(map(str, version))}",
            file=folder,
            remedy=f"update them, or {_GIVEN}",
        )
    return folder


def _header_folders(given: Path | None) -> list[Path]:
    """Return the directories to search, in order."""
    if given is not None:
        return [given, given / "include"]
    home = os.environ.get("TENSORRT_HOME")
    folders = [Path(home) / "include", Path(home)] if home else []
    folders += map(Path, _HEADER_FOLDERS)
    package = importlib.util.find_spec(HEADERS_PACKAGE.partition("==")[0].replace("-", "_"))
    for place in (package.submodule_search_locations or ()) if package else ():
        folders.append(Path(place) / "include" / "tensorrt")
    return folders


def tensorrt_version(headers: Path) -> tuple[int, ...]:
    """Read the major, minor and patch version from a directory of headers.

    Raises:
        BackendError: The headers do not define it.
    """
    file = headers / "NvInferVersion.h"
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    # Newer headers define NV_TENSORRT_MAJOR as TRT_MAJOR_ENTERPRISE, which has the number.
    found = dict(re.findall(r"#define (?:NV_TENSORRT|TRT)_(\w+?)(?:_ENTERPRISE)? (\d+)", text))
    try:
        return tuple(int(found[part]) for part in ("MAJOR", "MINOR", "PATCH"))
    except KeyError as error:
        raise BackendError(
            "TensorRT's headers do not define its version",
            file=file,
            remedy=f"complete them, or {_GIVEN}",
        ) from error


def find_architectures() -> tuple[str, ...]:
    """Return the architectures of the GPUs of this machine, as nvidia-smi reports them.

    Raises:
        BackendError: There is no driver or no GPU.
    """
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        found = sorted({f"sm_{line.replace('.', '')}" for line in done.stdout.split()})
    except (OSError, subprocess.SubprocessError):
        found = []
    # Without a GPU, nvidia-smi prints a sentence and still exits with 0.
    if not found or not all(re.fullmatch(r"sm_\d+", name) for name in found):
        raise BackendError(
            "no GPU to build for: nvidia-smi reports none",
            remedy=f"pass an architecture, as in --arch {ARCHITECTURES[4]}, or --arch all",
        )
    return tuple(found)


def build_library(output: Path, *, architectures: Sequence[str], headers: Path, nvcc: Nvcc) -> Path:
    """Compile the plugin library, and write a stamp next to it.

    The stamp, ``output`` with the suffix ``.json``, contains the digest of the sources. With it,
    the compilation of engines detects a library of another version.

    Args:
        output: Library to write; an existing one is replaced in one step.
        architectures: Names like ``sm_89``, or ``all`` for :data:`ARCHITECTURES`. The library also
            contains PTX for the newest of them, which newer GPUs compile when they load it.
        headers: Directory that :func:`find_headers` returned.
        nvcc: Compiler that :func:`require_nvcc` returned.

    Returns:
        The path of the library.

    Raises:
        OptionError: An architecture is invalid.
        BackendError: The sources do not compile.
        InputError: The file cannot be written.
    """
    names = ordered(architectures)
    stamp = {
        "sources": source_digest(),
        "architectures": names,
        "tensorrt": ".".join(map(str, tensorrt_version(headers))),
        "compiler": nvcc.version,
    }
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch) / LIBRARY
        _compile(library, names, headers, nvcc)
        # If the second write fails, the old stamp does not match the library, which is then refused.
        write_file(output, library.read_bytes())
    write_file(output.with_suffix(".json"), (json.dumps(stamp, indent=1) + "\n").encode())
    return output


def ordered(architectures: Sequence[str]) -> list[str]:
    """Return the architectures from the oldest to the newest, without repetitions.

    Args:
        architectures: Names like ``sm_89``, or ``all`` for :data:`ARCHITECTURES`.

    Raises:
        OptionError: An architecture is invalid.
    """
    names = ARCHITECTURES if list(architectures) == ["all"] else tuple(architectures)
    wrong = [name for name in names if not re.fullmatch(r"sm_\d{2,3}", name)]
    if wrong or not names:
        raise OptionError(
            "architectures must be names like sm_89, or all alone, found "
            f"{', '.join(wrong) or 'none'}",
            remedy=f"tested are {', '.join(ARCHITECTURES)}",
        )
    return sorted(set(names), key=lambda name: int(name.removeprefix("sm_")))


def _compile(target: Path, architectures: Sequence[str], headers: Path, nvcc: Nvcc) -> None:
    """Compile and link all sources of the library in one command."""
    plugins = sorted(PLUGINS.glob("*/plugin.cpp"))
    sources = [*plugins, *(path.with_name("launch.cu") for path in plugins)]
    sources += sorted(PLUGINS.glob("*.cpp"))
    numbers = [name.removeprefix("sm_") for name in architectures]
    codes = [f"arch=compute_{number},code=sm_{number}" for number in numbers]
    codes.append(f"arch=compute_{numbers[-1]},code=compute_{numbers[-1]}")
    command = [os.fspath(nvcc.program), "-shared", *FLAGS, "-O3", "--threads", "0"]
    command += [word for code in codes for word in ("-gencode", code)]
    command += ["-Werror", "all-warnings", "-Xcompiler", _HOST_FLAGS, "-cudart", "static"]
    # Our symbols and those of the CUDA runtime must not clash with those of the loading program.
    command += ["-Xlinker", "--exclude-libs,ALL,--no-undefined"]
    command += ["-isystem", os.fspath(headers), "-I", os.fspath(FOLDER)]
    command += [*map(os.fspath, sources), "-o", os.fspath(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackendError(
            f"nvcc cannot compile the plugins for {', '.join(architectures)}: "
            f"{(done.stderr + done.stdout).strip()}",
            remedy="update the CUDA toolkit if it does not support an architecture, and check that "
            "g++ is installed",
        )
