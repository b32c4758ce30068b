# SPDX-License-Identifier: Apache-2.0
"""Atomic writing of files and directories.

An output is written next to its target, as ``.NAME.N.partial``, and replaces the target in one step. Its writer locks
it, so that the next writer of the same target can delete the leftovers of killed writers, and only those.

Nothing is flushed to the disk before it is renamed. This protects against killed processes; after a loss of power a
file may be empty, which the checksums of bundles, engines and caches detect.
"""

import ctypes
import errno
import fcntl
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

from foveate.errors import InputError
from foveate.system.resources import remedy_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_WRITERS = 32  # of one target, at the same time
_DESCRIPTORS = ("/dev/fd/", "/dev/std", "/proc/")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically; see :func:`open_output`, also for what is raised."""
    with open_output(path) as stream:
        stream.write(content)


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose content replaces a file if the block ends without an exception.

    Missing parent directories are created. An existing file keeps its mode. If the path is a
    symbolic link, its target is replaced. A device, a FIFO or an open descriptor (``/dev/stdout``)
    is written to directly.

    Raises:
        InputError: The file cannot be written; an existing file is unchanged.
    """
    if _is_special(path):
        with _reported(path):
            handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        with io.BufferedWriter(_Raw(handle, path)) as stream:
            yield stream
        return
    with _reported(path):
        place = Path(os.path.realpath(path))
        _check_access(place)
        place.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(place, _new_file) as (scratch, handle):
        with io.BufferedWriter(_Raw(os.dup(handle), path)) as stream:
            yield stream
        with _reported(path):
            with suppress(FileNotFoundError):
                scratch.chmod(stat.S_IMODE(place.stat().st_mode))
            scratch.replace(place)


@contextmanager
def output_path(target: Path) -> Iterator[Path]:
    """Yield a path of the same name for a library to write to; its file replaces the target.

    This happens if the block ends without an exception, as with :func:`open_output`.

    Raises:
        InputError: The file cannot be written; an existing file is unchanged.
    """
    with _reported(target):
        place = Path(os.path.realpath(target))
        _check_access(place)
        place.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(place, _new_folder) as (folder, _):
        yield folder / place.name
        with _reported(target):
            (folder / place.name).replace(place)


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty directory that replaces ``target`` if the block ends without an exception.

    At every moment the target is the complete old or the complete new directory, even if the
    process is killed. If the path is a symbolic link, its target is replaced.

    Args:
        target: Path of the directory.
        overwrite: Whether to replace a directory that is not empty.

    Raises:
        InputError: The directory cannot be written or may not be replaced, or the working directory
            is in it.
    """
    with _reported(target):
        place = Path(os.path.realpath(target))
        if Path.cwd().is_relative_to(place):
            what = "the directory contains the working directory and cannot be replaced"
            remedy = "choose another directory, or run the command from elsewhere"
            raise InputError(what, file=target, remedy=remedy)
        place.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(place)
    with _scratch(place, _new_folder) as (scratch, _):
        yield scratch
        with _reported(target):
            with suppress(FileNotFoundError):
                scratch.chmod(stat.S_IMODE(place.stat().st_mode))
            _install(scratch, place, overwrite)
    _sweep_all(place)  # a writer that replaced this directory while it was locked left it


def recover_folder(target: Path) -> None:
    """Finish the replacement of a directory whose writer was killed between its two steps."""
    place = Path(os.path.realpath(target))
    if os.path.lexists(old := _beside(place, "old")):
        with _locked(place.parent):
            _recover(old, place)


def check_writable(path: Path) -> None:
    """Check that an output can be written to a path, without leaving anything behind.

    Raises:
        InputError: It cannot be written.
    """
    with _reported(path):
        if _is_special(path):
            _check_access(path)
            return
        place = Path(os.path.realpath(path))
        folder = next(parent for parent in place.parents if os.path.lexists(parent))
        _check_access(folder / place.name)
        with _scratch(folder / place.name, _new_file):
            pass


def sweep_folder(folder: Path) -> None:
    """Delete the leftovers of all killed writers in a directory."""
    for path in folder.glob(".*.partial"):
        _sweep(path)


class _Raw(io.FileIO):
    """A stream on a descriptor, whose errors name the output."""

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle, "wb")
        self._path = path

    def write(self, data: "ReadableBuffer", /) -> int:
        with _reported(self._path):
            return super().write(data)


@contextmanager
def _scratch(place: Path, make: Callable[[Path], int]) -> Iterator[tuple[Path, int]]:
    """Yield a new scratch path of a target and its locked descriptor; delete it afterwards if it still exists."""
    with _reported(place):
        path, handle = _claim(place, make)
    try:
        yield path, handle
    finally:
        os.close(handle)
        _sweep(path)


def _claim(place: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    paths = _sweep_all(place)
    last = OSError(errno.EBUSY, f"{_WRITERS} other processes are writing it", os.fspath(place))
    for path in paths:
        with suppress(FileExistsError):
            try:
                handle = make(path)
            except FileNotFoundError as error:
                last = error  # another writer swept it, or nothing can be made here
                continue
            with suppress(OSError):  # without support for locks, nothing is swept
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_same(path, handle):
                return path, handle
            os.close(handle)
    raise last


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _new_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _beside(place: Path, mark: str) -> Path:
    """Return the path of a hidden file next to a target; its name is short enough for any file system."""
    name = place.name
    if len(os.fsencode(name)) > 200:
        name = f"{name[:40]}-{crc32(os.fsencode(name)):08x}"
    return place.with_name(f".{name}.{mark}")


def _sweep_all(place: Path) -> list[Path]:
    """Delete the scratch paths of a target that are not locked; return all that it can have."""
    paths = [_beside(place, f"{number}.partial") for number in range(_WRITERS)]
    while not all(_sweep(path) for path in paths):
        pass
    return paths


def _sweep(path: Path) -> bool:
    """Delete a scratch path unless it is locked; return False if it was renamed meanwhile."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_same(path, handle):
            return False
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    except OSError:  # a writer has locked it, or it belongs to another user
        pass
    finally:
        os.close(handle)
    return True


def _install(fresh: Path, place: Path, overwrite: bool) -> None:
    while True:
        try:
            fresh.rename(place)  # replaces an empty directory
            return
        except OSError as error:
            if not overwrite or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        with suppress(FileNotFoundError):  # another process removed the target: try to rename again
            if not _exchange(fresh, place):
                _replace_in_two_steps(fresh, place)
            return


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths; return False if the file system does not support it."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))


def _replace_in_two_steps(fresh: Path, place: Path) -> None:
    old = _beside(place, "old")
    with _locked(place.parent):
        _recover(old, place)
        place.rename(old)
        fresh.rename(place)
        shutil.rmtree(old, ignore_errors=True)


def _recover(old: Path, place: Path) -> None:
    """Restore the old directory, or delete it if the new one has replaced it."""
    if not os.path.lexists(place):
        with suppress(FileNotFoundError):
            old.rename(place)
    else:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_special(path: Path) -> bool:
    """Return whether a path exists and is not a regular file, so that it has to be written to directly."""
    with _reported(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return not stat.S_ISREG(mode) or str(path.absolute()).startswith(_DESCRIPTORS)


def _check_access(path: Path) -> None:
    if os.path.lexists(path) and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _is_same(path: Path, handle: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(handle))
    return False


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError for a NUL in the name
        reason = getattr(error, "strerror", None) or error
        what = f"the file cannot be written ({reason})"
        raise InputError(what, file=path, remedy=remedy_of(error, "choose another path")) from error
