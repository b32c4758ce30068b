# SPDX-License-Identifier: Apache-2.0
"""The most recent frame of a source: a thread reads all frames and keeps one."""

from __future__ import annotations

import threading
import time

from foveate.errors import BackendError, InputError
from foveate.video.frame import Frame, FrameReader

_POLL_S = 0.5  # how often a waiting thread checks that the other one lives
_MARGIN_S = 1.0  # so that a reader can report its own timeout, with the reason


class LatestReader:
    """A ``FrameReader`` that returns the most recent frame of another one, and drops older ones.

    A thread reads as fast as the source delivers. It ends with the process, even if a library
    hangs.

    Args:
        reader: Reader of the source. The thread closes it at its end.
        name: Name of the source in errors.
        timeout: Number of seconds without a frame after which waiting for one is an error.

    Attributes:
        dropped: Number of frames so far that were replaced by a later one.
    """

    def __init__(self, reader: FrameReader, *, name: str, timeout: float) -> None:
        self.live, self.rate, self.count = reader.live, reader.rate, reader.count
        self.dropped = 0
        self._reader, self._name, self._timeout = reader, name, timeout
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._failure: BaseException | None = None
        self._ended = self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"reader of {name}", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> int:
        """Number of frames so far that could not be decoded."""
        return self._reader.broken

    def read(self) -> Frame | None:
        """Wait for a frame that is later than the previous one, or return None at the end.

        Raises:
            InputError: The source failed, or there was no frame for the given time.
            BackendError: The thread that reads has died.
        """
        started = time.monotonic()
        with self._changed:
            while self._frame is None and not self._ended:
                if not self._thread.is_alive():
                    raise _death(self._name, "no reason is known")
                if time.monotonic() - started > self._timeout + _MARGIN_S:
                    what = f"no frame has arrived for {self._timeout:g} seconds"
                    remedy = "check the source, or raise the timeout"
                    raise InputError(what, file=self._name, remedy=remedy)
                self._changed.wait(_POLL_S)
            frame, self._frame = self._frame, None
        if frame is None and self._failure is not None:
            if isinstance(self._failure, Exception):
                raise self._failure
            raise _death(self._name, repr(self._failure)) from self._failure
        return frame

    def close(self) -> None:
        """Let the thread release the source, and wait for it shortly."""
        self._closing = True
        if self._thread is not threading.current_thread():  # where the garbage collector may run
            self._thread.join(_POLL_S)

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            while not self._closing and (frame := self._reader.read()) is not None:
                with self._changed:
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._changed.notify()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            failure = error
        finally:
            with self._changed:
                self._failure, self._ended = failure, True
                self._changed.notify()
            self._reader.close()


def _death(name: str, reason: str) -> BackendError:
    what = f"the thread that reads frames has died ({reason})"
    return BackendError(what, file=name, remedy="run it again, and report it")
