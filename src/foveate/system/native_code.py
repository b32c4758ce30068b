# SPDX-License-Identifier: Apache-2.0
"""Native code in daemon threads, which the interpreter waits for when it exits.

A daemon thread that is inside C++, such as OpenCV or an engine, when the interpreter ends would
abort the process.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A camera or a server may block a thread for ever.
_LONGEST_WAIT_S = 5.0


class _Gate:
    """Counts the threads inside native code; once it is closed, only the main thread enters."""

    def __init__(self) -> None:
        self.open()  # again in a forked child, which lacks the other threads

    def open(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False
        self._thread = threading.local()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._inside, timeout=_LONGEST_WAIT_S)

    @contextmanager
    def passed(self) -> Iterator[None]:
        if getattr(self._thread, "inside", False):
            yield
            return
        with self._changed:
            while self._closed and threading.current_thread() is not threading.main_thread():
                self._changed.wait()
            self._inside += 1
        self._thread.inside = True
        try:
            yield
        finally:
            self._thread.inside = False
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()


_gate = _Gate()
atexit.register(_gate.close)
os.register_at_fork(after_in_child=_gate.open)

native_code = _gate.passed
"""Context manager around native code that a daemon thread may run.

The interpreter waits a while for the threads that are inside. Those that come later stay outside
for ever, except for the main thread, whose exit handlers still run.
"""
