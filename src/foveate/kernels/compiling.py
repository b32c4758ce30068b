# SPDX-License-Identifier: Apache-2.0
"""Compiling kernels on the machine that runs them, once.

Compiled code is kept in a folder of the user. Its key holds everything that the code depends on:
the sources, the flags, the compiler, the architecture. A file and its SHA-256 appear together, in a
folder of their own, so that nobody reads half of them; a damaged one counts as absent and is made
again. The checksum is no protection from others who can write there, so that what they could have
changed is not loaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.errors import BackendError, InputError, OptionError
from foveate.kernels.compilers import FLAGS, Compiler, find_compiler
from foveate.system.files import file_digest, new_folder, sweep_folder
from foveate.system.private_files import cache_folder, check_private, make_private

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_120")
"""What fat binaries are made for; newer ones run the last one's PTX."""

FORMS = ("ptx", "cubin", "fatbin")

FOLDER = Path(__file__).parent
"""Folder that sources and includes are relative to."""

_INCLUDE = re.compile(rb'^#include "(.+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Compiled:
    """Device code.

    Args:
        path: File that holds it.
        log: What the compiler said: registers, shared memory and spills of each kernel.
    """

    path: Path
    log: str


@dataclass(frozen=True)
class CodeCache:
    """Files by what they were made from.

    Args:
        folder: Where they are kept; made when needed.
    """

    folder: Path

    @classmethod
    def of_user(cls) -> CodeCache:
        """Return the cache of this user, see :func:`cache_folder`."""
        return cls(cache_folder("kernels"))

    def get(self, key: str, suffix: str, make: Callable[[Path], str]) -> Compiled:
        """Return the file of a key, made if it is not there or is damaged.

        Args:
            key: Everything the file depends on.
            suffix: Of the file's name.
            make: Writes the file to the path that it is given, and returns a log.

        Raises:
            BackendError: The folder cannot be written, or others could write there.
        """
        found = self.find(key, suffix)
        if found is not None:
            return found
        path, record = self._paths(key, suffix)
        try:
            make_private(self.folder)
            sweep_folder(self.folder)
            with new_folder(path.parent, overwrite=True) as fresh:
                fresh.chmod(0o700)
                log = make(fresh / path.name)
                (fresh / path.name).chmod(0o600)
                digest = file_digest(fresh / path.name)
                (fresh / record.name).write_text(f"{digest}\n{log}", encoding="utf-8")
        except (OSError, InputError) as error:
            raise BackendError(
                f"compiled kernels cannot be kept: {error}",
                file=self.folder,
                remedy="make room and make it writable, or set FOVEATE_CACHE to another folder",
            ) from error
        return Compiled(path, log)

    def find(self, key: str, suffix: str) -> Compiled | None:
        """Return the file of a key, or None if it is not there or is not what was written.

        Raises:
            BackendError: Others could have changed it.
        """
        path, record = self._paths(key, suffix)
        try:
            check_private(path)
            digest, _, log = record.read_text(encoding="utf-8").partition("\n")
            whole = file_digest(path) == digest
        except (OSError, UnicodeDecodeError):
            return None
        return Compiled(path, log) if whole else None

    def _paths(self, key: str, suffix: str) -> tuple[Path, Path]:
        """Return the file of a key, and the file with its SHA-256 and its log."""
        stem = hashlib.sha256(key.encode()).hexdigest()[:32]
        folder = self.folder / f"{stem}-{suffix}"
        return folder / f"code.{suffix}", folder / "log"


def compile_kernels(
    source: Path,
    *,
    form: str,
    architectures: Sequence[str],
    compiler: Compiler | None = None,
    cache: CodeCache | None = None,
) -> Compiled:
    """Compile a file of kernels, or take what was compiled before.

    Args:
        source: File, relative to :data:`FOLDER`; see ``launches.SOURCES``.
        form: ``"ptx"``, ``"cubin"`` or ``"fatbin"``.
        architectures: One like ``sm_89``; for a fat binary several, the last also as PTX.
        compiler: nvcc or NVRTC; by default what is found.
        cache: By default the user's.

    Raises:
        OptionError: The form or an architecture is unknown.
        BackendError: There is no compiler, or it refused.
    """
    if form not in FORMS:
        raise OptionError(f"form must be one of {', '.join(FORMS)}, found {form!r}")
    if not architectures or any(not name.startswith("sm_") for name in architectures):
        raise OptionError(f"architectures must be names like sm_89, found {list(architectures)}")
    compiler = compiler or find_compiler()
    parts = [compiler.version, *FLAGS, form, *architectures, source_hashes(source)]
    return (cache or CodeCache.of_user()).get(
        "\n".join(parts),
        form,
        lambda target: compiler.compile(
            FOLDER / source, target, include=FOLDER, form=form, architectures=architectures
        ),
    )


def included_sources(source: Path) -> dict[Path, bytes]:
    """Return a source and all that it includes, by path relative to :data:`FOLDER`."""
    found: dict[Path, bytes] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = (FOLDER / path).read_bytes()
            waiting += [Path(name.decode()) for name in _INCLUDE.findall(found[path])]
    return dict(sorted(found.items()))


def source_hashes(source: Path) -> str:
    """Return names and hashes of a source and of all that it includes."""
    return "\n".join(
        f"{path.as_posix()} {hashlib.sha256(text).hexdigest()}"
        for path, text in included_sources(source).items()
    )
