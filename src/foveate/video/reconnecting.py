# SPDX-License-Identifier: Apache-2.0
"""Connecting again to a camera or a stream that is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from foveate.errors import InputError
from foveate.video.frame import Frame, FrameReader

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.25, 8.0


class ReconnectingReader:
    """A ``FrameReader`` of a live source that opens the source again when it is lost.

    The delay between two attempts doubles each time. Indexes and times go on over a gap.

    Args:
        first: Reader of the source. This reader takes ownership of it.
        open_again: Function that opens another reader of the same source.
        name: Name of the source in errors.
        timeout: Number of seconds without a frame after which the source is given up.
    """

    live = True
    count = None

    def __init__(
        self,
        first: FrameReader,
        open_again: Callable[[], FrameReader],
        *,
        name: str,
        timeout: float,
    ) -> None:
        self._reader, self._open_again = first, open_again
        self._name, self._timeout = name, timeout
        self._last: Frame | None = None
        self._shift, self._index_shift = 0.0, 0
        self._broken_before = 0

    @property
    def rate(self) -> float | None:
        """Nominal number of frames per second; None if unknown."""
        return self._reader.rate

    @property
    def broken(self) -> int:
        """Number of frames so far that could not be decoded."""
        return self._broken_before + self._reader.broken

    def read(self) -> Frame | None:
        """Return the next frame; see ``FrameReader``. There is no end.

        Raises:
            InputError: No frame has arrived for the given time.
        """
        try:
            frame = self._reader.read()
        except InputError:
            frame = None
        frame = frame or self._reconnect()
        shifted = replace(
            frame, index=frame.index + self._index_shift, time=frame.time + self._shift
        )
        self._last = shifted
        return shifted

    def close(self) -> None:
        """Release the source. Closing twice does nothing."""
        self._reader.close()

    def _reconnect(self) -> Frame:
        """Open the source again until it has a frame."""
        lost, delay = time.monotonic(), _FIRST_DELAY_S
        reason = "the connection was lost"
        while (left := self._timeout - (time.monotonic() - lost)) > 0:
            time.sleep(min(delay, left))
            delay = min(2 * delay, _LONGEST_DELAY_S)
            try:
                frame = self._open_and_read()
            except InputError as error:
                reason = error.what
                continue
            if frame is not None:
                return frame
        what = f"no frame has arrived for {self._timeout:g} seconds ({reason})"
        remedy = "check the camera and the network, or raise the timeout"
        raise InputError(what, file=self._name, remedy=remedy)

    def _open_and_read(self) -> Frame | None:
        self._reader.close()
        reader = self._open_again()
        self._broken_before, self._reader = self.broken, reader
        frame = reader.read()
        if frame is not None and (last := self._last) is not None:
            self._shift = last.time + (frame.arrived - last.arrived) - frame.time
            self._index_shift = last.index + 1 - frame.index
        return frame
