# SPDX-License-Identifier: Apache-2.0
"""Compilation of kernels on the machine that runs them, with a cache per user."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foveate.errors import BackendError, InputError, OptionError
from foveate.kernels.compilers import FLAGS, Compiler, choose_compiler
from foveate.system.files import new_folder, sweep_folder
from foveate.system.private_files import cache_folder, check_private, make_private
from foveate.system.regular_files import file_digest
from foveate.system.resources import remedy_of

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_120")
"""Architectures that every kernel is tested to compile for, from the oldest to the newest."""

FORMS = ("ptx", "cubin")

FOLDER = Path(__file__).parent
"""Directory that sources and includes are relative to."""

_INCLUDE = re.compile(rb'^#include "(.+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Compiled:
    """Compiled device code.

    Args:
        path: File of the code.
        log: Output of the compiler; nvcc lists registers, shared memory and spills per kernel.
    """

    path: Path
    log: str

    @property
    def form(self) -> str:
        """``"ptx"`` or ``"cubin"``, for kernels."""
        return self.path.suffix.removeprefix(".")


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
                f"compiled kernels cannot be stored ({getattr(error, 'what', error)})",
                file=self.folder,
                remedy=remedy_of(error, "set FOVEATE_CACHE to a directory that can be written"),
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

    For a GPU whose architecture the compiler does not know, the result is PTX of an earlier one.

    Args:
        source: File with kernels, relative to :data:`FOLDER`.
        form: ``"ptx"``, or ``"cubin"`` where the compiler knows the architecture.
        architecture: A name like ``sm_89``.
        compiler: Compiler to use; by default the one that :func:`choose_compiler` chooses.
        cache: Cache to use; by default the cache of the user.

    Raises:
        OptionError: The form or the architecture is invalid.
        BackendError: No compiler suits this machine, or the source does not compile.
    """
    if form not in FORMS:
        raise OptionError(f"form must be one of {', '.join(FORMS)}, found {form!r}")
    if not re.fullmatch(r"sm_\d+[a-z]?", architecture):
        raise OptionError(f"architecture must be a name like sm_89, found {architecture!r}")
    if compiler is None:
        choice = choose_compiler(form, architecture)
        compiler, form, architecture = choice.compiler, choice.form, choice.architecture
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
