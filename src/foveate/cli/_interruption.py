# SPDX-License-Identifier: Apache-2.0
"""Ending on SIGINT, SIGTERM and SIGHUP: soon, with one line, and with what was done saved.

The first signal raises `Interrupted` in the main thread, which unwinds and calls `leave`. If that
thread does not get there, because it computes in C or waits for a network that never ends, a thread
that watches the signals calls `leave` in its place. A second signal ends the process at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

SIGPIPE = 13
_SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
_GRACE_S = 5.0
_REPEATED_S = 0.3
"""Signals so soon after the first one are the same: timeout(1) sends each twice."""

_words: Callable[[], str] | None = None
_grace = _GRACE_S
_leaving = threading.Lock()


class Interrupted(BaseException):
    """A signal ends the command.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def last_words(words: Callable[[], str], *, grace: float = _GRACE_S) -> None:
    """Set what is called when the command is interrupted.

    Args:
        words: Saves what was done and says so in a few words. It may be called in another thread
            while the main thread hangs.
        grace: Seconds that the main thread has to unwind.
    """
    global _words, _grace
    _words, _grace = words, grace


def watch() -> None:
    """Install the handlers and start the thread that watches."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    first: list[float] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        if not first:
            first.append(time.monotonic())
            raise Interrupted(number)
        if time.monotonic() - first[0] > _REPEATED_S:
            os._exit(128 + number)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job in the background
            signal.signal(number, interrupt)
    sys.unraisablehook = _pass_over
    threading.Thread(target=_watch, args=(receiver, sender), daemon=True).start()


def forget() -> None:
    """Let signals end the process silently from now on, since its work is done."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def leave(number: int) -> NoReturn:
    """Save what was done, say it on one line, and end the process without waiting for threads."""
    _leaving.acquire()  # noqa: SIM115, RUF100 - never released: one thread ends the process
    try:
        words = _words() if _words is not None else ""
    except BaseException as error:  # noqa: BLE001 - the process ends in any case
        words = str(error)
    if words or number != SIGPIPE:
        _show_cursor()
        _say(f"foveate: interrupted{words and f': {words}'}\n")
    if multiprocessing := sys.modules.get("multiprocessing"):
        for child in multiprocessing.active_children():
            child.kill()
    os._exit(128 + number)


def _watch(receiver: socket.socket, sender: socket.socket) -> None:
    del sender  # it is an argument so that it stays open
    while (number := receiver.recv(1)[0]) not in _SIGNALS:
        pass
    time.sleep(_REPEATED_S)
    receiver.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        receiver.recv(1 << 16)
    again, _, _ = select.select([receiver], [], [], max(0.0, _grace - _REPEATED_S))
    if again:
        os._exit(128 + number)
    leave(number)


def _pass_over(failed: sys.UnraisableHookArgs) -> None:
    """Print nothing of an `Interrupted` that Python drops, as in a callback of a weak reference.

    The thread that watches ends the process then.
    """
    if not isinstance(failed.exc_value, Interrupted):
        sys.__unraisablehook__(failed)


def _show_cursor() -> None:
    """Undo what a progress bar does to a terminal."""
    for stream in (1, 2):
        if os.isatty(stream):
            os.write(stream, b"\x1b[?25h")


def _say(line: str) -> None:
    """Write to stderr without its lock, which a thread that hangs may hold."""
    with contextlib.suppress(OSError):
        os.write(2, line.encode("utf-8", "backslashreplace"))
