# SPDX-License-Identifier: Apache-2.0
"""Work on the stream of an engine, in the order of the stream of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from foveate.runtime.devices import Stream


def on_own_stream(own: Stream, stream: Stream, work: Callable[[], None]) -> Callable[[], None]:
    """Return a function that enqueues work on a stream, in the order of another one.

    Libraries that bind their weights and their memory to a stream, or keep them per stream, then
    need them once for all images in flight.

    Args:
        own: Stream of the engine.
        stream: Stream of the image: the work waits for all that is enqueued there, and all that is
            enqueued there later waits for the work.
        work: Enqueues the work on ``own``.
    """

    def enqueue() -> None:
        own.wait(stream.record())
        try:
            work()
        finally:  # a part of the work may be enqueued, and uses the memory of the image
            stream.wait(own.record())

    return enqueue
