# SPDX-License-Identifier: Apache-2.0
"""Opening a source by its path, URL or number."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from foveate.errors import InputError, OptionError
from foveate.video.frame import FrameReader
from foveate.video.opencv import OpencvReader
from foveate.video.pyav import PyavReader
from foveate.video.reconnecting import ReconnectingReader

READERS = ("opencv", "pyav")
_CAMERA = "camera:"
_USER = re.compile(r"^([^/]*://)[^/?#]*@")


def display_name(source: str | os.PathLike[str]) -> str:
    """Return the name of a source for people: of a URL, without the user and the password."""
    # Not by `urlsplit`, which raises ValueError for some malformed URLs.
    return _USER.sub(r"\1", os.fspath(source))


def open_reader(
    source: str | os.PathLike[str], *, reader: str = "opencv", timeout: float = 10.0
) -> FrameReader:
    """Open a video file, a camera or a stream.

    A camera, and a URL without an end, are opened again when they are lost.

    Args:
        source: Path of a file; ``camera:N`` for the camera of the index N; or a URL, such as
            ``rtsp://``.
        reader: ``opencv``, or ``pyav``, which needs the extra ``video`` and reads more codecs.
            Cameras need ``opencv``.
        timeout: Number of seconds without an answer or a frame after which a camera or a URL is
            given up.

    Returns:
        A reader, which the caller closes.

    Raises:
        InputError: The source does not exist or cannot be opened.
        OptionError: There is no such reader.
        MissingExtraError: PyAV is not installed.
    """
    if reader not in READERS:
        raise OptionError(f"there is no reader {reader!r}", remedy=f"use {', '.join(READERS)}")
    if reader == "pyav" and os.fspath(source).startswith(_CAMERA):
        raise OptionError("only the reader 'opencv' reads cameras", remedy="use that one")
    target, name = check_source(source), display_name(source)
    kind: Callable[..., FrameReader] = OpencvReader if reader == "opencv" else PyavReader

    def open_source() -> FrameReader:
        return kind(target, name=name, timeout=timeout)

    opened = open_source()
    if not opened.live:
        return opened
    return ReconnectingReader(opened, open_source, name=name, timeout=timeout)


def check_source(source: str | os.PathLike[str]) -> str | int:
    """Check without opening it that a file or a camera exists.

    Returns:
        The index of a camera, or a URL for FFmpeg, which is ``file:`` and a path for a file.

    Raises:
        InputError: It does not exist, or a file is empty.
    """
    text = os.fspath(source)
    if text.startswith(_CAMERA):
        return _camera(text)
    return text if "://" in text else f"file:{_checked(source)}"


def _camera(text: str) -> int:
    """Return the index of a camera, which must exist: OpenCV takes long to find that it does not."""
    number = text.removeprefix(_CAMERA)
    if not (number.isascii() and number.isdigit()):
        remedy = "pass camera:0 for the first one"
        raise InputError("a camera is given by its number", file=text, remedy=remedy)
    existing = sorted(Path("/dev").glob("video[0-9]*"))
    if os.uname().sysname == "Linux" and Path(f"/dev/video{number}") not in existing:
        found = ", ".join(f"camera:{one.name.removeprefix('video')}" for one in existing)
        what = f"there is no such camera, found {found or 'none'}"
        raise InputError(what, file=text, remedy="connect it, or pass a file or a URL")
    return int(number)


def _checked(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that exists and is not empty."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"the file cannot be read ({reason})"
        if isinstance(error, FileNotFoundError):
            what = "there is no such file"
        raise InputError(what, file=path, remedy="check the path") from error
    if not stat.S_ISREG(status.st_mode):  # a FIFO might never end
        raise InputError("this is not a regular file", file=path, remedy="pass a video file")
    if not status.st_size:
        raise InputError("the file is empty", file=path, remedy="copy or download it again")
    if not os.access(path, os.R_OK):
        what = "the file cannot be read (Permission denied)"
        raise InputError(what, file=path, remedy="check its permissions")
    return Path(path).absolute()
