# SPDX-License-Identifier: Apache-2.0
"""Writing a video that browsers play: VP8 in WebM, by OpenCV."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from foveate.arrays import UInt8Array
from foveate.errors import InputError
from foveate.system.files import output_path
from foveate.system.native_code import native_code
from foveate.video.quiet import discarded_stderr, silence_opencv

# VP8 was encoded four times as fast as VP9, and every browser that plays the latter plays it.
_CODEC = cv2.VideoWriter.fourcc(*"VP80")
_DEFAULT_RATE, _HIGHEST_RATE = 25.0, 60.0


class WebmWriter:
    """A video of images with times, which appears at its path when the writer is closed.

    OpenCV writes constant rates only, so an image is repeated until the time of the next one, and
    one that comes less than an interval before the next is left out: the length of the video is
    that of the times. The first image gives the size; others are scaled to fit, on black.

    Args:
        path: Path of the file, which ends in ``.webm``.
        rate: Number of frames per second; 25 if None, and at most 60.
    """

    def __init__(self, path: Path, *, rate: float | None = None) -> None:
        self.path = path
        self._rate = min(rate or _DEFAULT_RATE, _HIGHEST_RATE)
        self._files = ExitStack()
        self._lock = threading.Lock()  # an interruption closes it in another thread
        self._writer: cv2.VideoWriter | None = None
        self._closed = False
        self._size = (0, 0)  # width, height
        self._scratch = path
        self._pending: UInt8Array | None = None
        self._first = self._last = 0.0
        self._frames = 0  # in the file

    @native_code()
    def write(self, image: UInt8Array, time: float) -> None:
        """Add an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            time: Time of the image in seconds, later than that of the image before.

        Raises:
            InputError: The file cannot be written.
            ValueError: The writer is closed.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the writer is closed")
            if self._writer is None:
                self._writer = self._open(image)
                self._first = time
            self._repeat_until(time)
            self._pending, self._last = self._fit(image), time

    @native_code()
    def close(self) -> None:
        """Finish the file and move it to its path; without any image, there is none.

        Closing twice does nothing.

        Raises:
            InputError: The file is incomplete; an existing file is unchanged.
        """
        with self._lock:
            self._closed = True
            if self._writer is None:
                return
            interval = 1 / self._rate
            self._repeat_until(max(self._last, self._first + self._frames * interval) + interval)
            self._writer.release()
            self._writer = None
            with self._files:
                if not _is_complete(
                    self._scratch, self._frames
                ):  # OpenCV does not report a full disk
                    what, remedy = "the video cannot be written completely", "free some space"
                    raise InputError(what, file=self.path, remedy=remedy)

    def _open(self, image: UInt8Array) -> cv2.VideoWriter:
        height, width = image.shape[:2]
        self._size = (width, height)
        silence_opencv()
        with ExitStack() as files:
            self._scratch = files.enter_context(output_path(self.path))
            with discarded_stderr():
                writer = cv2.VideoWriter(
                    str(self._scratch), cv2.CAP_FFMPEG, _CODEC, self._rate, self._size
                )
            if not writer.isOpened():
                what = f"OpenCV cannot write a video of {width} x {height} pixels"
                raise InputError(what, file=self.path, remedy="write to a path that ends in .webm")
            self._files = files.pop_all()
        return writer

    def _repeat_until(self, time: float) -> None:
        """Write the pending image until the video lasts as long as the times so far."""
        until = round((time - self._first) * self._rate)
        while self._pending is not None and self._frames < until:
            assert self._writer is not None
            self._writer.write(self._pending)
            self._frames += 1

    def _fit(self, image: UInt8Array) -> UInt8Array:
        """Return (H, W, 3) BGR of the size of the video."""
        width, height = self._size
        scale = min(width / image.shape[1], height / image.shape[0])
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if image.shape[:2] == (height, width):
            return np.asarray(bgr, np.uint8)
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[top : top + size[1], left : left + size[0]] = cv2.resize(
            bgr, size, interpolation=cv2.INTER_AREA
        )
        return canvas


def _is_complete(path: Path, frames: int) -> bool:
    """Return whether a video has its last frame. The length in its header is there in any case."""
    capture = cv2.VideoCapture(f"file:{path}", cv2.CAP_FFMPEG)
    try:
        capture.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
        return capture.grab()
    finally:
        capture.release()
