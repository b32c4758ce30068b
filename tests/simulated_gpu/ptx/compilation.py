# SPDX-License-Identifier: Apache-2.0
"""PTX of CUDA sources, with lines of the source in it."""

from __future__ import annotations

import hashlib
import subprocess
from functools import lru_cache
from pathlib import Path

from tests.samples.paths import ROOT
from tests.simulated_gpu.ptx.launch import Kernel
from tests.simulated_gpu.ptx.parser import ModuleText, parse

from foveate.kernels.build import CodeCache
from foveate.kernels.compilers import FLAGS, find_nvcc

# One of each family whose PTX differs. That of sm_80 and sm_90 is that of sm_75 but in pooling, whose
# tests run for sm_80 too.
ARCHITECTURES = ("sm_75", "sm_120")

CACHE = CodeCache(ROOT / ".pytest_cache" / "ptx")


class LineInfo:
    """A compiler as in production, which also writes the lines of the source into the PTX."""

    @property
    def version(self) -> str:
        """Name, version and additional flag; part of a cache's key."""
        nvcc = find_nvcc()
        assert nvcc is not None, "nvcc is not here"
        return f"{nvcc.version} -lineinfo"

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architecture: str
    ) -> str:
        """See `foveate.kernels.compilers.Compiler.compile`."""
        nvcc = find_nvcc()
        assert nvcc is not None
        assert form == "ptx"
        command = [str(nvcc.program), "-ptx", *FLAGS, "-lineinfo"]
        command += ["-arch", architecture.replace("sm", "compute")]
        command += ["-I", str(include), "-x", "cu", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr


def compile_file(source: Path, architecture: str) -> str:
    """Compile a file that includes nothing, or take what was compiled before."""
    key = [
        LineInfo().version,
        *FLAGS,
        architecture,
        hashlib.sha256(source.read_bytes()).hexdigest(),
    ]

    def make(target: Path) -> str:
        return LineInfo().compile(
            source, target, include=source.parent, form="ptx", architecture=architecture
        )

    return CACHE.get("\n".join(key), "ptx", make).path.read_text(encoding="utf-8")


@lru_cache(maxsize=64)
def module_of(text: str) -> ModuleText:
    """Parse PTX once."""
    return parse(text)


@lru_cache(maxsize=512)
def kernel_of(text: str, name: str, dynamic_shared: int = 0) -> Kernel:
    """Bind one kernel of a file of PTX."""
    return Kernel(module_of(text), name, dynamic_shared)
