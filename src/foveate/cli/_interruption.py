# SPDX-License-Identifier: Apache-2.0
"""Exit on SIGINT, SIGTERM and SIGHUP: promptly, with one line, and with finished work saved.

The first signal raises ``Interrupted`` in the main thread, which unwinds and calls
``exit_interrupted``. If that thread does not get there, because it computes in C or waits for a
network that never ends, a thread that watches the signals calls it instead. A second signal ends
the process at once.
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
# A signal this soon after the first one is the same: timeout(1) sends each one twice.
_REPEATED_S = 0.3

_save: Callable[[], str] | None = None
_grace = _GRACE_S
_exiting = threading.Lock()


class Interrupted(BaseException):
    """The command was interrupted by the signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def on_interruption(save: Callable[[], str], *, grace: float = _GRACE_S) -> None:
    """Set the function that is called when the command is interrupted.

    Args:
        save: Function that saves finished work and returns a few words about it. It may be
            called in another thread while the main thread hangs.
        grace: Number of seconds that the main thread has to unwind.
    """
    global _save, _grace
    _save, _grace = save, grace


def install_handlers() -> None:
    """Install the signal handlers and start the thread that watches the signals."""
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
    sys.unraisablehook = _ignore_interrupted
    threading.Thread(target=_watch, args=(receiver, sender), daemon=True).start()


def restore_handlers() -> None:
    """Let signals end the process silently from now on, since its work is done."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def exit_interrupted(number: int) -> NoReturn:
    """Save finished work, print one line about it, and exit without waiting for threads."""
    _exiting.acquire()  # never released: one thread ends the process
    try:
        saved = _save() if _save is not None else ""
    except BaseException as error:  # noqa: BLE001 - the process ends in any case
        saved = str(error)
    if saved or number != SIGPIPE:
        for stream in (1, 2):
            if os.isatty(stream):
                os.write(stream, b"\x1b[?25h")  # show the cursor, which a progress bar hides
        line = f"foveate: interrupted{saved and f': {saved}'}\n"
        # Without the lock of stderr, which a hanging thread may hold.
        with contextlib.suppress(OSError):
            os.write(2, line.encode("utf-8", "backslashreplace"))
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
    second, _, _ = select.select([receiver], [], [], max(0.0, _grace - _REPEATED_S))
    if second:
        os._exit(128 + number)
    exit_interrupted(number)


def _ignore_interrupted(failed: sys.UnraisableHookArgs) -> None:
    """Print nothing about an ``Interrupted`` that Python drops, as in a weak reference's callback.

    The watching thread ends the process in that case.
    """
    if not isinstance(failed.exc_value, Interrupted):
        sys.__unraisablehook__(failed)
