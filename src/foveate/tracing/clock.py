# SPDX-License-Identifier: Apache-2.0
"""The clock of all times, which a test can replace by a simulated one."""

from __future__ import annotations

import time
from typing import Protocol

_LONGEST_S = 1e6  # of one sleep, which cannot take more than some hundred years


class Clock(Protocol):
    """A clock on which threads sleep."""

    def now(self) -> float:
        """Return the time in seconds since any fixed moment; it never goes back."""

    def sleep_until(self, moment: float) -> None:
        """Block the calling thread until a moment; return at once if it has passed."""


class SystemClock:
    """The clock of the operating system with the highest resolution."""

    def now(self) -> float:
        """Return the time in seconds."""
        return time.perf_counter()

    def sleep_until(self, moment: float) -> None:
        """Block the calling thread until a moment."""
        # The system wakes a thread late, never early, except after a signal.
        while (rest := moment - self.now()) > 0:
            time.sleep(min(rest, _LONGEST_S))
