# SPDX-License-Identifier: Apache-2.0
"""Keeping OpenCV and its FFmpeg from printing: each failure becomes one exception instead."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import cv2

_STDERR = 2
_discarding = threading.Lock()  # or two threads would exchange stderr for the null device for good


@cache
def silence_opencv() -> None:
    """Let OpenCV and its FFmpeg print nothing, unless the environment asks them to.

    FFmpeg reads the environment when the process first opens a video.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    if "OPENCV_LOG_LEVEL" not in os.environ:
        # OpenCV 5 has moved the function.
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
        set_level(0)  # LOG_LEVEL_SILENT


@contextmanager
def discarded_stderr() -> Iterator[None]:
    """Discard what the process prints to stderr, for lines of OpenCV that no setting avoids."""
    with _discarding:
        kept, null = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, _STDERR)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            os.close(null)
