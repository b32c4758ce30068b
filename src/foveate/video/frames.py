# SPDX-License-Identifier: Apache-2.0
"""The frames of any source, by one of two policies: every frame, or the latest one."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeAlias

from foveate.errors import InputError, OptionError
from foveate.typed_options import check_timeout
from foveate.video.frame import Frame, FrameReader
from foveate.video.latest import LatestReader
from foveate.video.opening import display_name, open_reader

POLICIES = ("every", "latest")
VideoSource: TypeAlias = "str | os.PathLike[str] | Iterable[Any] | FrameReader"


class Frames:
    """The frames of a video, a camera, a stream or an iterable, in order.

    With the policy ``every``, no frame is lost; frames are read in the thread that asks for them.
    With ``latest``, a thread reads them and keeps the most recent one, so that results never lag
    behind a camera; the others are dropped and counted.

    Args:
        source: What ``open_reader`` takes; an open ``FrameReader``, which this object then owns; or
            an iterable of images or ``Frame`` objects, whose arrays must not change afterwards.
            With ``latest``, the iterable is used in another thread.
        policy: ``every``, ``latest``, or None for ``latest`` if the source is live and ``every``
            otherwise.
        reader: See ``open_reader``.
        timeout: See ``open_reader``. With ``latest`` it holds for iterables, too.

    Attributes:
        policy: ``every`` or ``latest``.
        name: Name of the source for people, without the password of a URL.

    Raises:
        InputError: The source cannot be opened.
        OptionError: There is no such policy or reader.
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        policy: str | None = None,
        reader: str = "opencv",
        timeout: float = 10.0,
    ) -> None:
        if policy not in (None, *POLICIES):
            raise OptionError(f"there is no policy {policy!r}", remedy=f"use {', '.join(POLICIES)}")
        check_timeout(timeout)
        opened, name = _open(source, reader, timeout)
        self.policy = policy or ("latest" if opened.live else "every")
        self.name = name
        self._delivered = 0
        self._reader = opened
        self._reading = threading.Lock()
        self._closed = False
        if self.policy == "latest":
            self._reader = LatestReader(opened, name=name, timeout=timeout)
            # Its thread would read on after these frames were dropped, and abort the process if it
            # were inside OpenCV when the interpreter ends.
            weakref.finalize(self, self._reader.close)

    @property
    def rate(self) -> float | None:
        """Nominal number of frames per second; None if unknown."""
        return self._reader.rate

    @property
    def count(self) -> int | None:
        """Number of frames according to the source; None if unknown."""
        return self._reader.count

    @property
    def read(self) -> int:
        """Number of frames so far that were read, including dropped ones."""
        return self._delivered + self.dropped

    @property
    def dropped(self) -> int:
        """Number of frames so far that were dropped."""
        return self._reader.dropped if isinstance(self._reader, LatestReader) else 0

    @property
    def broken(self) -> int:
        """Number of frames so far that could not be decoded and were skipped."""
        return self._reader.broken

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        try:
            with self._reading:
                frame = None if self._closed else self._reader.read()
        finally:
            if self._closed:  # perhaps while the frame was read
                self.close()
        if frame is None:
            raise StopIteration
        self._delivered += 1
        return frame

    def close(self) -> None:
        """Release the source, which ends the iteration. Closing twice does nothing.

        A frame that another thread reads is read first, and that thread then releases the source.
        """
        self._closed = True
        # Libraries crash if a source is released while it is read.
        if self._reading.acquire(blocking=False):
            try:
                self._reader.close()
            finally:
                self._reading.release()

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class IterableReader:
    """A ``FrameReader`` of an iterable of images or frames; the time of an image is its arrival."""

    live, rate, broken = False, None, 0

    def __init__(self, images: Iterable[Any]) -> None:
        self.count = len(images) if isinstance(images, Sized) else None
        self._images = iter(images)
        self._index, self._started = -1, 0.0

    def read(self) -> Frame | None:
        """Return the next frame; see ``FrameReader``."""
        try:
            image = next(self._images)
        except StopIteration:
            return None
        self._index += 1
        if isinstance(image, Frame):
            return image
        now = time.monotonic()
        self._started = self._started or now
        return Frame(image=image, index=self._index, time=now - self._started, arrived=now)

    def close(self) -> None:
        """End the iterable, if it is a generator."""
        if callable(close := getattr(self._images, "close", None)):
            close()


def _open(source: VideoSource, reader: str, timeout: float) -> tuple[FrameReader, str]:
    if isinstance(source, (str, os.PathLike)):
        return open_reader(source, reader=reader, timeout=timeout), display_name(source)
    if isinstance(source, FrameReader):
        return source, type(source).__name__
    if isinstance(source, (bytes, bytearray, memoryview)) or not isinstance(source, Iterable):
        raise InputError(
            f"a video must be a path, a URL or an iterable of frames, found {type(source).__name__}",
            remedy="pass a path, or a generator of arrays",
        )
    return IterableReader(source), type(source).__name__
