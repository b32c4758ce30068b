# SPDX-License-Identifier: Apache-2.0
"""Compilation of kernels on the machine that runs them, with a cache per user.

The compiler is nvcc from a CUDA toolkit or, without a toolkit, the NVRTC library.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from foveate.errors import BackendError, InputError, OptionError
from foveate.system.files import file_digest, new_folder, sweep_folder
from foveate.system.private_files import cache_folder, check_private, make_private

_STANDARD = "c++17"
# Multiplications and additions are not fused, so that GPU and CPU round alike.
FLAGS = (f"-std={_STANDARD}", "-fmad=false")

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_120")
"""Architectures that every kernel is tested to compile for, from the oldest to the newest."""

FORMS = ("ptx", "cubin")

FOLDER = Path(__file__).parent
"""Directory that sources and includes are relative to."""

_INCLUDE = re.compile(rb'^#include "(.+)"$', re.MULTILINE)


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
        command = [os.fspath(self.program), "--version"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return f"nvcc {output.strip().splitlines()[-1]}"

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architecture: str
    ) -> str:
        """See :meth:`Compiler.compile`; the log of a cubin lists the registers of each kernel."""
        # PTX is for a virtual architecture, so that newer GPUs can compile it as well.
        if form == "ptx":
            options = ["-arch", architecture.replace("sm_", "compute_")]
        else:
            # ptxas warns about spills, and -Werror turns these warnings into errors.
            options = ["-arch", architecture, "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
        command = [os.fspath(self.program), f"-{form}", *FLAGS, "-Werror", "all-warnings"]
        command += ["-I", os.fspath(include), *options]
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
    """NVRTC through ``cuda.core``; it needs no toolkit, no CUDA headers and no host compiler.

    A cubin needs no driver either; for PTX, ``cuda.core`` queries the driver's supported versions.

    Args:
        version: Name and version.
    """

    version: str

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architecture: str
    ) -> str:
        """See :meth:`Compiler.compile`."""
        core = importlib.import_module("cuda.core")
        options = core.ProgramOptions(
            name=os.fspath(source),
            arch=architecture,
            std=_STANDARD,
            fma=False,
            include_path=os.fspath(include),
        )
        log = io.StringIO()
        try:
            program = core.Program(source.read_text(encoding="utf-8"), "c++", options)
            code = program.compile(form, logs=log).code
        except Exception as error:  # the class of NVRTC's errors is private to cuda.core
            raise BackendError(
                f"NVRTC cannot compile for {architecture}: {error}",
                file=source,
                remedy="update nvidia-cuda-nvrtc if it does not support the architecture",
            ) from error
        text = log.getvalue().rstrip("\0\n")
        if "warning" in text:  # NVRTC has no option that makes all warnings errors
            raise BackendError(f"NVRTC cannot compile for {architecture}: {text}", file=source)
        target.write_bytes(code)
        return text


def find_nvcc() -> Nvcc | None:
    """Find nvcc in CUDA_HOME, on the PATH, or where toolkits install themselves."""
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home and (Path(home) / "bin" / "nvcc").is_file():
            return Nvcc(Path(home) / "bin" / "nvcc")
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    return Nvcc(Path(found)) if found else None


def find_nvrtc() -> Nvrtc:
    """Find NVRTC in the package nvidia-cuda-nvrtc, in a toolkit, or on the loader's search path.

    Raises:
        ImportError: ``cuda.core`` is not installed.
        RuntimeError: The library is not installed or cannot be loaded.
    """
    importlib.import_module("cuda.core")  # cuda.bindings may be installed without it
    _, major, minor = importlib.import_module("cuda.bindings.nvrtc").nvrtcVersion()
    return Nvrtc(f"NVRTC {major}.{minor}")


def find_compiler() -> Compiler:
    """Find nvcc or, without a toolkit, NVRTC.

    Raises:
        BackendError: Neither is installed.
    """
    nvcc = find_nvcc()  # the first choice: its log lists registers and spills
    if nvcc is not None:
        return nvcc
    try:
        return find_nvrtc()
    except (ImportError, RuntimeError) as error:
        raise BackendError(
            "no compiler for CUDA kernels: nvcc is neither in CUDA_HOME nor on the PATH, and NVRTC "
            f"cannot be loaded: {error}",
            remedy="install the CUDA toolkit, or run: pip install 'foveate[cuda]'",
        ) from error


@dataclass(frozen=True)
class Compiled:
    """Compiled device code.

    Args:
        path: File of the code.
        log: Output of the compiler; nvcc lists registers, shared memory and spills per kernel.
    """

    path: Path
    log: str


@dataclass(frozen=True)
class CodeCache:
    """A cache of files, each under a key that covers everything that it was made from.

    Each file has its own directory, with a record of its SHA-256, which is created in one step. A
    file that does not match its record counts as absent and is made again. The checksum does not
    protect against other users who can write to the directory: files that they could have changed
    are refused.

    Args:
        folder: Directory of the files; it is created when needed.
    """

    folder: Path

    @classmethod
    def of_user(cls) -> CodeCache:
        """Return the cache of this user; see :func:`cache_folder`."""
        return cls(cache_folder("kernels"))

    def get(self, key: str, suffix: str, make: Callable[[Path], str]) -> Compiled:
        """Return the file of a key; make it if it is absent or damaged.

        Args:
            key: Text that differs whenever the file would differ.
            suffix: Suffix of the file name, without the dot.
            make: Function that writes the file to the given path and returns a log.

        Raises:
            BackendError: The directory cannot be written, or other users could write to it.
        """
        found = self.find(key, suffix)
        if found is not None:
            return found
        path, record = self._paths(key, suffix)
        try:
            make_private(self.folder)
            sweep_folder(self.folder)
            with new_folder(path.parent, overwrite=True) as fresh:
                fresh.chmod(0o700)  # whatever the umask, no other user can change the code
                log = make(fresh / path.name)
                (fresh / path.name).chmod(0o600)
                digest = file_digest(fresh / path.name)
                (fresh / record.name).write_text(f"{digest}\n{log}", encoding="utf-8")
        except (OSError, InputError) as error:
            raise BackendError(
                f"compiled kernels cannot be stored: {error}",
                file=self.folder,
                remedy="free some space and make the directory writable, or set FOVEATE_CACHE to "
                "another directory",
            ) from error
        return Compiled(path, log)

    def find(self, key: str, suffix: str) -> Compiled | None:
        """Return the file of a key, or None if it is absent or damaged.

        Raises:
            BackendError: Other users could have changed the file.
        """
        path, record = self._paths(key, suffix)
        try:
            check_private(path)
            digest, _, log = record.read_text(encoding="utf-8").partition("\n")
            intact = file_digest(path) == digest
        except (OSError, UnicodeDecodeError):
            return None
        return Compiled(path, log) if intact else None

    def _paths(self, key: str, suffix: str) -> tuple[Path, Path]:
        """Return the path of a file, and the path of the record with its SHA-256 and its log."""
        stem = hashlib.sha256(key.encode()).hexdigest()[:32]
        folder = self.folder / f"{stem}-{suffix}"
        return folder / f"code.{suffix}", folder / "log"


def compile_kernels(
    source: Path,
    *,
    form: str,
    architecture: str,
    compiler: Compiler | None = None,
    cache: CodeCache | None = None,
) -> Compiled:
    """Compile a file of kernels, or return the cached result of an earlier compilation.

    Args:
        source: File with kernels, relative to :data:`FOLDER`.
        form: ``"ptx"`` or ``"cubin"``.
        architecture: A name like ``sm_89``.
        compiler: Compiler to use; by default the one that :func:`find_compiler` returns.
        cache: Cache to use; by default the cache of the user.

    Raises:
        OptionError: The form or the architecture is invalid.
        BackendError: There is no compiler, or the source does not compile.
    """
    if form not in FORMS:
        raise OptionError(f"form must be one of {', '.join(FORMS)}, found {form!r}")
    if not re.fullmatch(r"sm_\d+[a-z]?", architecture):
        raise OptionError(f"architecture must be a name like sm_89, found {architecture!r}")
    compiler = compiler or find_compiler()
    # Everything that the code depends on is part of the key, so an entry never becomes stale.
    hashes = [
        f"{path.as_posix()} {hashlib.sha256(text).hexdigest()}"
        for path, text in included_sources(source).items()
    ]
    return (cache or CodeCache.of_user()).get(
        "\n".join([compiler.version, *FLAGS, form, architecture, *hashes]),
        form,
        lambda target: compiler.compile(
            FOLDER / source, target, include=FOLDER, form=form, architecture=architecture
        ),
    )


def included_sources(source: Path) -> dict[Path, bytes]:
    """Return a source and all files that it includes, by path relative to :data:`FOLDER`."""
    found: dict[Path, bytes] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = (FOLDER / path).read_bytes()
            waiting += [Path(name.decode()) for name in _INCLUDE.findall(found[path])]
    return dict(sorted(found.items()))
