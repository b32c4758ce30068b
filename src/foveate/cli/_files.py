# SPDX-License-Identifier: Apache-2.0
"""Writing files so that nothing half-made is ever seen."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2

from foveate.arrays import Bytes
from foveate.errors import InputError

__all__ = ["OutputNames", "write_aside", "write_jpeg"]


def write_aside(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it; its folder is made if need be.

    Raises:
        InputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(scratch).chmod(0o666 & ~_umask())
            Path(scratch).replace(path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"the file cannot be written ({error.strerror})",
            file=path,
            remedy="make room, or choose another place",
        ) from error


def write_jpeg(path: Path, picture: Bytes) -> None:
    """Write a (H, W, 3) RGB picture, which is used up: its channels change places."""
    cv2.cvtColor(picture, cv2.COLOR_RGB2BGR, dst=picture)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    write_aside(path, encoded.tobytes())


class OutputNames:
    """Names for what is made of pictures, different for pictures of the same name."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def next(self, source: Path, suffix: str) -> str:
        """Return ``<stem><suffix>``, or ``<stem>-2<suffix>`` and so on if that was given out."""
        name, number = f"{source.stem}{suffix}", 1
        while name.lower() in self._used:  # some file systems do not tell cases apart
            number += 1
            name = f"{source.stem}-{number}{suffix}"
        self._used.add(name.lower())
        return name


def _umask() -> int:
    """Return the mask of permissions, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
