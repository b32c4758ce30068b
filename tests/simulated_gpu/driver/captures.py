# SPDX-License-Identifier: Apache-2.0
"""The rules of captures: how they begin and end, and what breaks them."""

from __future__ import annotations

import threading

from tests.simulated_gpu.driver.faults import Refused, Status
from tests.simulated_gpu.driver.work import Capture, Event, Node, Stream

GLOBAL, RELAXED = 0, 2  # modes, by their numbers in cuda.h


class Captures:
    """The captures of some streams.

    Args:
        streams: All streams; others keep the list up to date.
    """

    def __init__(self, streams: list[Stream]) -> None:
        self._streams = streams

    def begin(self, stream: Stream, mode: int) -> Capture:
        """Record what is enqueued on a stream from now on."""
        if stream.legacy or stream.capture is not None:
            raise Refused(Status.CAPTURE_UNSUPPORTED, "the stream cannot be captured")
        stream.capture, stream.nodes = Capture(stream, mode), frozenset()
        return stream.capture

    def end(self, stream: Stream) -> Capture:
        """End a capture, which must be complete."""
        capture = stream.capture
        if capture is None or capture.origin is not stream:
            raise Refused(Status.CAPTURE_UNMATCHED, "the capture did not begin on this stream")
        if capture.mode != RELAXED and capture.thread != threading.get_ident():
            raise Refused(Status.CAPTURE_WRONG_THREAD, "the capture began in another thread")
        reached: set[Node] = set()
        waiting = list(stream.nodes)
        while waiting:
            node = waiting.pop()
            if node not in reached:
                reached.add(node)
                waiting += node.before
        for other in self._streams:
            if other.capture is capture:
                other.capture, other.nodes = None, frozenset()
        self.check(capture)
        if lost := [node for node in capture.nodes if node not in reached]:
            raise Refused(Status.CAPTURE_UNJOINED, f"not joined: {lost[-1].kind} {lost[-1].name}")
        return capture

    @staticmethod
    def check(capture: Capture) -> None:
        """Refuse to go on with a capture that is broken."""
        if capture.broken:
            raise Refused(Status.CAPTURE_INVALIDATED, "an earlier call broke the capture")

    def refuse_captured(self, stream: Stream, what: str) -> None:
        """Refuse what a stream that is captured cannot do, and break the capture."""
        if stream.capture is not None:
            stream.capture.broken = True
            raise Refused(Status.CAPTURE_UNSUPPORTED, what)

    def refuse_unsafe(self, what: str) -> None:
        """Refuse a call that may synchronize, such as an allocation, while something is captured.

        In the mode "relaxed" a real driver permits it; a test wants to see it in every mode. The
        captures of other threads forbid it in the mode "global" only, as those of a real driver.
        """
        for stream in self._streams:
            capture = stream.capture
            if capture and (capture.mode == GLOBAL or capture.thread == threading.get_ident()):
                capture.broken = True
                raise Refused(Status.CAPTURE_UNSUPPORTED, f"{what} while a stream is captured")

    def refuse_implicit(self) -> None:
        """Refuse work on the legacy stream while a blocking stream is captured."""
        captures = [one.capture for one in self._streams if one.capture and one.blocking]
        for capture in captures:
            capture.broken = True
        if captures:
            raise Refused(Status.CAPTURE_IMPLICIT, "the legacy stream would wait for a capture")

    def join(self, stream: Stream, event: Event) -> None:
        """Let a stream wait for an event of a capture, which it joins by that."""
        capture = event.capture
        assert capture is not None
        if capture not in [other.capture for other in self._streams]:
            raise Refused(Status.CAPTURE_ISOLATION, "the event is of a capture that has ended")
        if stream.legacy:
            capture.broken = True
            raise Refused(Status.CAPTURE_IMPLICIT, "the legacy stream cannot be captured")
        if stream.capture is None:
            stream.capture, stream.nodes = capture, frozenset()
        elif stream.capture is not capture:
            stream.capture.broken = capture.broken = True
            raise Refused(Status.CAPTURE_MERGE, "the event is of another capture")
        stream.nodes |= event.nodes
