# SPDX-License-Identifier: Apache-2.0
"""Reading frames with PyAV, which decodes more codecs than OpenCV (extra ``video``)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from foveate.errors import InputError, MissingExtraError
from foveate.video.frame import Frame, check_complete

_MICROSECOND = 1e-6  # the unit of the duration of a container


class PyavReader:
    """A ``FrameReader`` of a file or a URL.

    Args:
        source: URL of FFmpeg, which is ``file:`` and a path for a file.
        name: Name of the source in errors.
        timeout: Number of seconds after which a server that does not answer is an error.

    Raises:
        InputError: The source cannot be opened, or has no video.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, source: str, *, name: str, timeout: float) -> None:
        try:
            import av  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise MissingExtraError("av", "video") from error
        self._error: type[Exception] = av.FFmpegError
        options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
        limit = None if source.startswith("file:") else timeout
        try:
            self._container: Any = av.open(source, timeout=limit, options=options)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            what = f"PyAV cannot open the video ({reason})"
            remedy = "check the address" if limit else "convert it to WebM, MP4 or AVI"
            raise InputError(what, file=name, remedy=remedy) from error
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise InputError("the file has no video", file=name, remedy="pass a video")
        stream = streams[0]
        if stream.codec_context is None:
            self._container.close()
            what, remedy = "PyAV has no decoder for the video", "convert it to WebM, MP4 or AVI"
            raise InputError(what, file=name, remedy=remedy)
        stream.thread_type = "AUTO"
        length, rate = self._container.duration, stream.average_rate
        self.rate = float(rate) if rate else None
        self.count: int | None = stream.frames or None
        self.live = length is None and limit is not None
        self.broken = 0
        self._name, self._start = name, float((stream.start_time or 0) * stream.time_base)
        self._duration = length * _MICROSECOND if length else None
        if self._duration and self.count and self.rate:  # FFmpeg corrects the length of a cut AVI
            self._duration = max(self._duration, self.count / self.rate)
        self._read, self._last = 0, 0.0
        self._frames = self._decode(stream)

    def read(self) -> Frame | None:
        """Return the next frame; see ``FrameReader``."""
        frame = next(self._frames, None)
        if frame is None:
            if not self.live:
                read, last, duration = self._read, self._last, self._duration
                check_complete(self, name=self._name, read=read, last=last, duration=duration)
            return None
        image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
        time = 0.0 if frame.time is None else max(0.0, frame.time - self._start)
        if (
            self._read and time <= self._last
        ):  # a raw stream has no times, and joined files repeat them
            time = self._last + 1 / (self.rate or 25.0)
        self._last = time
        self._read += 1
        index = self._read - 1 + self.broken
        return Frame(image=np.ascontiguousarray(image), index=index, time=self._last)

    def close(self) -> None:
        """Release the source. Closing twice does nothing."""
        self._frames.close()
        self._container.close()

    def _decode(self, stream: Any) -> Generator[Any, None, None]:
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (self._error, OSError):  # a file that is cut off, or a lost connection
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except self._error:
                self.broken += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.broken += 1
                else:
                    yield frame
