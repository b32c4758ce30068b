# SPDX-License-Identifier: Apache-2.0
"""Reading of regular files, which never blocks as reading from a FIFO would."""

import errno
import hashlib
import io
import os
import stat
from pathlib import Path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a regular file in hexadecimal digits.

    Raises:
        OSError: The file cannot be read, or is not a regular file.
    """
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; never block on a FIFO.

    Raises:
        OSError: The file cannot be read, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")  # noqa: PTH123 - a descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
