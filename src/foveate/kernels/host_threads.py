# SPDX-License-Identifier: Apache-2.0
"""How many threads one call of a compiled host version takes.

The number belongs to whoever calls, not to the process: two pipelines may have different ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import cv2

__all__ = ["host_threads", "with_host_threads"]

_threads: ContextVar[int | None] = ContextVar("foveate_host_threads", default=None)


def host_threads() -> int:
    """Return the number; as many as OpenCV takes where none was chosen."""
    return _threads.get() or cv2.getNumThreads()


@contextmanager
def with_host_threads(count: int | None) -> Iterator[None]:
    """Let calls of this thread take ``count`` threads until the end; None chooses none."""
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)
