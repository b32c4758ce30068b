# SPDX-License-Identifier: Apache-2.0
"""What is known of a request while it is processed."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from foveate.tracing.image_trace import AbandonedError, ImageTrace

REQUEST_ID = "X-Request-Id"


@dataclass(kw_only=True, eq=False)
class Call:
    """A request, and the times of its parts in seconds.

    Args:
        id: Identifier, from the client or made here.
        started: When its head had arrived, on the clock of ``time.perf_counter``.

    Attributes:
        route: Path of its route; None if it has none.
        took: Time until it was answered.
        pipeline: Number of the pipeline that processes it.
        waiting: Time for which it waited for a slot; None if it never had one.
        bytes: Length of its body.
        pixels: Number of pixels of its image.
        times: Time of each part of the work, such as ``decode``, ``pipeline``, each
            network in it, and ``encode``.
        spans: Name, start and end of each part of the work on the same clock, without networks.
        trace: What was recorded of the work of its image.
        abandoned: Whether nobody waits for the result any longer.
    """

    id: str
    started: float = field(default_factory=time.perf_counter)
    route: str | None = None
    took: float | None = None
    pipeline: int = 0
    waiting: float | None = None
    bytes: int = 0
    pixels: int | None = None
    times: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    trace: ImageTrace | None = None
    abandoned: bool = False

    @property
    def seconds(self) -> float:
        """Time since its start."""
        return time.perf_counter() - self.started

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note the time of a part of the work.

        Raises:
            AbandonedError: Nobody waits for the result any longer.
        """
        self.check()
        begin = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            self.times[name] = end - begin
            self.spans.append((name, begin, end))

    def check(self) -> None:
        """Raise AbandonedError if nobody waits for the result any longer."""
        if self.abandoned:
            raise AbandonedError

    def abandon(self) -> None:
        """Let the work end at its next piece."""
        self.abandoned = True
        if self.trace is not None:
            self.trace.abandoned = True


def request_id(given: str | None) -> str:
    """Return the identifier that a client sent, if it can stand in a log, or else a new one."""
    if given is not None and re.fullmatch(r"[\w.:/+=-]{1,128}", given, re.ASCII):
        return given
    return secrets.token_hex(8)
