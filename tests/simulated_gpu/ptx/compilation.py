# SPDX-License-Identifier: Apache-2.0
"""PTX of CUDA sources, with lines of the source in it, kept by the content it was made from."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from tests.simulated_gpu.ptx.launch import Kernel
from tests.simulated_gpu.ptx.parser import ModuleText, parse

from foveate.kernels.build import FLAGS, find_nvcc

__all__ = ["ARCHITECTURES", "FOLDER", "compile_ptx", "kernel_of", "module_of"]

# One of each family whose code differs.
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_120")

FOLDER = Path(__file__).parents[3] / "src" / "foveate" / "kernels"
CACHE = Path(__file__).parents[3] / ".pytest_cache" / "ptx"
INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)


def compile_ptx(source: Path, architecture: str, include: Path) -> str:
    """Compile a CUDA file with the flags of production, or take what was compiled before.

    Args:
        source: The file.
        architecture: As "sm_90".
        include: Folder that includes are relative to.
    """
    nvcc = find_nvcc()
    assert nvcc is not None, "nvcc is not here"
    key = "\n".join([nvcc.version, *FLAGS, architecture, _content(source, include)])
    stem = hashlib.sha256(key.encode()).hexdigest()[:32]
    kept = CACHE / f"{stem}.ptx"
    if not kept.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as aside:
            made = Path(aside) / "made.ptx"
            target = architecture.replace("sm", "compute")
            command = [str(nvcc.program), "-ptx", *FLAGS, "-lineinfo", "-arch", target]
            command += ["-I", str(include), "-x", "cu", str(source), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            made.replace(kept)
    return kept.read_text(encoding="utf-8")


def _content(source: Path, include: Path) -> str:
    """The source and all that it includes from `include`."""
    texts: dict[Path, str] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path not in texts:
            texts[path] = path.read_text(encoding="utf-8")
            waiting += [include / name for name in INCLUDE.findall(texts[path])]
    return "\n".join(texts[path] for path in sorted(texts))


@lru_cache(maxsize=64)
def module_of(source: Path, architecture: str, include: Path) -> ModuleText:
    """Compile and parse."""
    return parse(compile_ptx(source, architecture, include))


@lru_cache(maxsize=256)
def kernel_of(
    source: Path, architecture: str, name: str, include: Path, dynamic_shared: int = 0
) -> Kernel:
    """Compile, parse and bind one kernel."""
    return Kernel(module_of(source, architecture, include), name, dynamic_shared)
