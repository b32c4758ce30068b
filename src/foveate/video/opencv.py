# SPDX-License-Identifier: Apache-2.0
"""Reading frames with OpenCV, which contains FFmpeg."""

from __future__ import annotations

import math
import time
from typing import cast

import cv2

from foveate.arrays import UInt8Array
from foveate.errors import InputError
from foveate.system.native_code import native_code
from foveate.video.frame import Frame, check_complete
from foveate.video.quiet import silence_opencv

# OpenCV reports a broken frame like the end, and reads on behind it when it is asked again.
_MOST_BROKEN, _MOST_BROKEN_LIVE = 1000, 3
_HIGHEST_RATE = 1000.0  # some containers give the ticks of their clock as the rate


class OpencvReader:
    """A ``FrameReader`` of a file, a URL or a camera.

    Args:
        source: URL of FFmpeg, which is ``file:`` and a path for a file, or the index of a camera.
        name: Name of the source in errors.
        timeout: Number of seconds after which a server that does not answer is an error.

    Raises:
        InputError: The source cannot be opened.
    """

    @native_code()
    def __init__(self, source: str | int, *, name: str, timeout: float) -> None:
        silence_opencv()
        milliseconds = max(1, int(timeout * 1000))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
        camera = isinstance(source, int)
        started = time.monotonic()
        if isinstance(source, int):
            self._capture = cv2.VideoCapture(source)
        else:
            self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            late = time.monotonic() - started >= timeout
            raise _unopened(name, f"within {timeout:g} seconds" if late else "", source)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= _HIGHEST_RATE else None
        self.count = int(count) if count > 0 and not camera else None
        self.live = camera or (self.count is None and not str(source).startswith("file:"))
        self.broken = 0
        self._name, self._camera, self._timeout = name, camera, timeout
        self._read, self._last, self._opened = 0, 0.0, time.monotonic()

    @native_code()
    def read(self) -> Frame | None:
        """Return the next frame; see ``FrameReader``."""
        started, failed = time.monotonic(), 0
        most = _MOST_BROKEN_LIVE if self.live else _MOST_BROKEN
        while (image := self._decode()) is None:
            failed += 1
            if failed > most or (self.live and time.monotonic() - started > self._timeout):
                self._check_end()
                return None
        self.broken += failed
        self._last = self._time()
        self._read += 1
        return Frame(image=image, index=self._read - 1 + self.broken, time=self._last)

    @native_code()
    def close(self) -> None:
        """Release the source. Closing twice does nothing."""
        self._capture.release()

    def _check_end(self) -> None:
        if not self.live:
            duration = self.count / self.rate if self.count and self.rate else None
            read, last = self._read, self._last
            check_complete(self, name=self._name, read=read, last=last, duration=duration)

    def _decode(self) -> UInt8Array | None:
        found, image = self._capture.read()
        if not found or image is None:
            return None
        return cast("UInt8Array", cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image))

    def _time(self) -> float:
        """Return the time of the frame that was just read; a camera has no clock of its own."""
        if self._camera:
            return time.monotonic() - self._opened
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._read and position <= self._last:  # a raw stream has no times
            return self._last + 1 / (self.rate or 25.0)
        return max(0.0, position)


def _unopened(name: str, late: str, source: str | int) -> InputError:
    if isinstance(source, int):
        return InputError(
            "the camera cannot be opened", file=name, remedy="close programs that use it"
        )
    if source.startswith("file:"):
        what = "the file has no video that OpenCV can open"
        return InputError(what, file=name, remedy="convert it to WebM, MP4 or AVI")
    what = f"the URL does not answer {late}" if late else "the URL cannot be opened"
    return InputError(what, file=name, remedy="check the address and the network")
