# SPDX-License-Identifier: Apache-2.0
"""The work of a run in the format of Chrome's trace viewer, which Perfetto opens.

There is one track per stream and per calling thread, an arrow from the call that enqueues an image
to its first work, and a counter of the images that wait and of those in flight.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from foveate.bench.samples import Samples, Span

_MICROSECONDS = 1e6
_PROCESS = 1


def chrome_trace(spans: Sequence[Span], samples: Samples, names: Sequence[str]) -> dict[str, Any]:
    """Return a document of trace events; times of the spans count from the first arrival."""
    tracks = {track: number for number, track in enumerate(sorted({one.track for one in spans}), 1)}
    events = [
        {"ph": "M", "pid": _PROCESS, "tid": number, "name": "thread_name", "args": {"name": track}}
        for track, number in tracks.items()
    ]
    events += [_slice(one, tracks[one.track], samples, names) for one in spans]
    events += _arrows(spans, tracks)
    events += _counters(samples)
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _slice(span: Span, track: int, samples: Samples, names: Sequence[str]) -> dict[str, Any]:
    return {
        "ph": "X",
        "pid": _PROCESS,
        "tid": track,
        "name": span.name,
        "cat": span.kind,
        "ts": span.start * _MICROSECONDS,
        "dur": span.duration * _MICROSECONDS,
        "args": {"sample": span.sample, "image": names[samples.input[span.sample]]},
    }


def _arrows(spans: Iterable[Span], tracks: dict[str, int]) -> list[dict[str, Any]]:
    """Return an arrow per image from its call to its first work on a stream."""
    calls, works = dict[int, "Span"](), dict[int, "Span"]()
    for span in spans:
        found = {"enqueue": calls, "network": works, "operation": works}.get(span.kind)
        if found is not None and (
            span.sample not in found or span.start < found[span.sample].start
        ):
            found[span.sample] = span
    return [
        {
            "ph": phase,
            "pid": _PROCESS,
            "tid": tracks[span.track],
            "name": "image",
            "cat": "image",
            "id": sample,
            "ts": span.start * _MICROSECONDS,
            **({"bp": "e"} if phase == "f" else {}),
        }
        for sample, call in calls.items()
        if sample in works
        for phase, span in (("s", call), ("f", works[sample]))
    ]


def _counters(samples: Samples) -> list[dict[str, Any]]:
    """Return the numbers of images that wait and that are in flight, whenever one of them changes."""
    # At the same moment, an image ends before the next one starts.
    changes = [
        *((time, 0, -1) for time in samples.end),
        *((time, 1, 0) for time in samples.arrival),
        *((time, -1, 1) for time in samples.start),
    ]
    changes.sort(key=lambda one: one[0])
    waiting = accumulate(one[1] for one in changes)
    flying = accumulate(one[2] for one in changes)
    return [
        {
            "ph": "C",
            "pid": _PROCESS,
            "name": "images",
            "ts": time * _MICROSECONDS,
            "args": {"waiting": waits, "in flight": flies},
        }
        for (time, _, _), waits, flies in zip(changes, waiting, flying, strict=True)
    ]
