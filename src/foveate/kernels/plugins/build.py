# SPDX-License-Identifier: Apache-2.0
"""Building ``libfoveate_plugins.so``, the library of TensorRT plugins, on the machine that needs it.

The library holds the plugins of the operations that have a ``plugin.cpp``, and their kernels as a
fat binary. It links the CUDA runtime statically and needs no library of TensorRT to be loaded:
TensorRT hands over all that it calls.
"""

from __future__ import annotations

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
from foveate.kernels.build import ARCHITECTURES, FLAGS, FOLDER, Nvcc, find_nvcc
from foveate.system.files import write_file

PLUGINS = FOLDER / "plugins"

LIBRARY = "libfoveate_plugins.so"

HEADERS_PACKAGE = "kernel-lens==2.0.1"
"""A package that carries the headers of TensorRT 10.14, which are under the Apache licence."""

OLDEST_TENSORRT = (10, 0)  # the first with IPluginV3

_SUFFIXES = (".cpp", ".cu", ".cuh", ".h")
_PLACES = ("/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/include")
_HOST_FLAGS = (
    "-fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall,-Wextra,-Werror,-Wno-unknown-pragmas"
)


def source_digest(root: Path = FOLDER) -> str:
    """Return the SHA-256 of names and contents of the sources of kernels and plugins.

    Args:
        root: Folder of the sources.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.suffix in _SUFFIXES):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def require_nvcc() -> Nvcc:
    """Find nvcc.

    Raises:
        BackendError: There is none.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendError(
            "no nvcc, which compiles the plugins: it is neither in CUDA_HOME nor on the PATH",
            remedy="install the CUDA toolkit, or set CUDA_HOME to it",
        )
    return nvcc


def find_headers(given: Path | None = None) -> Path:
    """Find the folder of TensorRT's headers.

    Args:
        given: Where to look; by default TENSORRT_HOME, the system's folders, and the package
            :data:`HEADERS_PACKAGE`.

    Raises:
        BackendError: There are none, or they are too old for these plugins.
    """
    folder = next(
        (one for one in _header_places(given) if (one / "NvInferRuntime.h").is_file()), None
    )
    if folder is None:
        raise BackendError(
            "no headers of TensorRT: there is no NvInferRuntime.h",
            file=given,
            remedy="give their folder: --tensorrt-include FOLDER, or set TENSORRT_HOME, or run: "
            f"pip install --no-deps {HEADERS_PACKAGE}",
        )
    version = tensorrt_version(folder)
    if version[:2] < OLDEST_TENSORRT:
        raise BackendError(
            f"the headers are of TensorRT {'.'.join(map(str, version))}, expected "
            f"{'.'.join(map(str, OLDEST_TENSORRT))} or later",
            file=folder,
            remedy="give newer ones: --tensorrt-include FOLDER",
        )
    return folder


def _header_places(given: Path | None) -> list[Path]:
    if given is not None:
        return [given, given / "include"]
    home = os.environ.get("TENSORRT_HOME")
    places = [Path(home) / "include", Path(home)] if home else []
    places += map(Path, _PLACES)
    package = importlib.util.find_spec(HEADERS_PACKAGE.partition("==")[0].replace("-", "_"))
    for place in (package.submodule_search_locations or ()) if package else ():
        places.append(Path(place) / "include" / "tensorrt")
    return places


def tensorrt_version(headers: Path) -> tuple[int, ...]:
    """Read major, minor and patch version from a folder of headers.

    Raises:
        BackendError: They do not say it.
    """
    file = headers / "NvInferVersion.h"
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = dict(re.findall(r"#define (?:NV_TENSORRT|TRT)_(\w+?)(?:_ENTERPRISE)? (\d+)", text))
    try:
        return tuple(int(found[part]) for part in ("MAJOR", "MINOR", "PATCH"))
    except KeyError as error:
        raise BackendError(
            "the headers of TensorRT do not say their version",
            file=file,
            remedy="give complete ones: --tensorrt-include FOLDER",
        ) from error


def find_architectures() -> tuple[str, ...]:
    """Ask the driver which architectures the GPUs of this machine have.

    Raises:
        BackendError: There is no driver or no GPU.
    """
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        found = sorted({f"sm_{line.replace('.', '')}" for line in done.stdout.split()})
    except (OSError, subprocess.SubprocessError):
        found = []
    if not found or not all(re.fullmatch(r"sm_\d+", name) for name in found):
        raise BackendError(
            "no GPU to build for: nvidia-smi names none",
            remedy=f"name one: --arch {ARCHITECTURES[4]}, or build for all: --arch all",
        )
    return tuple(found)


def build_library(output: Path, *, architectures: Sequence[str], headers: Path, nvcc: Nvcc) -> Path:
    """Compile the plugin library, and write a stamp beside it.

    The stamp, ``output`` with the suffix ``.json``, names the sources, by which a compilation of
    engines sees that the library is not of another version.

    Args:
        output: Library to write; what is there is replaced in one step.
        architectures: Names like ``sm_89``, or ``all`` for :data:`ARCHITECTURES`; the newest one's
            PTX is added, which newer GPUs run.
        headers: See :func:`find_headers`.
        nvcc: See :func:`require_nvcc`.

    Returns:
        The library.

    Raises:
        OptionError: An architecture is unknown.
        BackendError: The compiler refused.
        InputError: The file cannot be written.
    """
    chosen = _ordered(architectures)
    sources = source_digest()
    stamp = {
        "sources": sources,
        "architectures": chosen,
        "tensorrt": ".".join(map(str, tensorrt_version(headers))),
        "compiler": nvcc.version,
    }
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / LIBRARY
        _compile(made, chosen, headers, nvcc)
        # Between the two a stamp may be of the library before: it is then refused as stale.
        write_file(output, made.read_bytes())
    write_file(output.with_suffix(".json"), (json.dumps(stamp, indent=1) + "\n").encode())
    return output


def _ordered(architectures: Sequence[str]) -> list[str]:
    """Return architectures from the oldest to the newest, each once."""
    names = ARCHITECTURES if list(architectures) == ["all"] else tuple(architectures)
    wrong = [name for name in names if not re.fullmatch(r"sm_\d{2,3}", name)]
    if wrong or not names:
        raise OptionError(
            "architectures must be names like sm_89, or all alone, found "
            f"{', '.join(wrong) or 'none'}",
            remedy=f"known are {', '.join(ARCHITECTURES)}",
        )
    return sorted(set(names), key=lambda name: int(name.removeprefix("sm_")))


def _compile(target: Path, architectures: Sequence[str], headers: Path, nvcc: Nvcc) -> None:
    plugins = sorted(PLUGINS.glob("*/plugin.cpp"))
    sources = [*plugins, *(path.with_name("launch.cu") for path in plugins)]
    sources += sorted(PLUGINS.glob("*.cpp"))
    numbers = [name.removeprefix("sm_") for name in architectures]
    codes = [f"arch=compute_{number},code=sm_{number}" for number in numbers]
    codes.append(f"arch=compute_{numbers[-1]},code=compute_{numbers[-1]}")
    command = [os.fspath(nvcc.program), "-shared", *FLAGS, "-O3", "--threads", "0"]
    command += [word for code in codes for word in ("-gencode", code)]
    command += ["-Werror", "all-warnings", "-Xcompiler", _HOST_FLAGS, "-cudart", "static"]
    # A symbol of ours or of the CUDA runtime must meet none of the program that loads the library.
    command += ["-Xlinker", "--exclude-libs,ALL,--no-undefined"]
    command += ["-isystem", os.fspath(headers), "-I", os.fspath(FOLDER)]
    command += [*map(os.fspath, sources), "-o", os.fspath(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackendError(
            f"nvcc cannot compile the plugins for {', '.join(architectures)}: "
            f"{(done.stderr + done.stdout).strip()}",
            remedy="update the CUDA toolkit if it does not know the architecture, and see that g++ "
            "is installed",
        )
