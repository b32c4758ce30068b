# SPDX-License-Identifier: Apache-2.0
"""The work of the latest requests in the format of Chrome's trace viewer, which Perfetto opens.

Each request has a row with its parts, and each stream of a pipeline a track with its work. Every
piece has the identifier of its request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from foveate.serve.call import Call

_MICROSECONDS = 1e6


class Trace:
    """The latest requests for inferences.

    Args:
        most: Number of requests that are kept.
    """

    def __init__(self, most: int) -> None:
        self._calls: deque[Call] = deque(maxlen=most)

    def add(self, call: Call) -> None:
        """Keep a request that was answered, in place of the oldest one."""
        self._calls.append(call)

    def document(self) -> dict[str, Any]:
        """Return the trace events of the requests."""
        calls = list(self._calls)
        tracks = _tracks(calls)
        events = [
            {"ph": "M", "pid": 1, "tid": number, "name": "thread_name", "args": {"name": track}}
            for track, number in tracks.items()
        ]
        for call in calls:
            events += [*_row(call), *_work(call, tracks)]
        return {"displayTimeUnit": "ms", "traceEvents": events}


def _tracks(calls: list[Call]) -> dict[str, int]:
    """Return the number of each stream."""
    names = {
        _track(call, work.track) for call in calls if call.trace for work in list(call.trace.work)
    }
    return {name: number for number, name in enumerate(sorted(names), start=1)}


def _track(call: Call, stream: str) -> str:
    return f"pipeline {call.pipeline}, {stream}"


def _row(call: Call) -> Iterator[dict[str, Any]]:
    """Yield the request and its parts, which the viewer shows in a row of their own."""
    parts = [(call.route, call.started, call.started + (call.took or 0.0))]
    if call.waiting is not None:
        parts.append(("waiting", call.started, call.started + call.waiting))
    for name, start, end in [*parts, *call.spans]:
        for phase, time in (("b", start), ("e", end)):
            yield {
                "ph": phase,
                "pid": 1,
                "tid": 0,
                "cat": "request",
                "id": call.id,
                "name": name,
                "ts": time * _MICROSECONDS,
                "args": {"request": call.id, "pixels": call.pixels},
            }


def _work(call: Call, tracks: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the work of the request's image on the streams of its pipeline."""
    for work in [] if call.trace is None else list(call.trace.work):
        yield {
            "ph": "X",
            "pid": 1,
            "tid": tracks[_track(call, work.track)],
            "cat": work.kind,
            "name": work.name,
            "ts": work.start * _MICROSECONDS,
            "dur": (work.end - work.start) * _MICROSECONDS,
            "args": {"request": call.id},
        }
