# SPDX-License-Identifier: Apache-2.0
"""The recorded work of single images, and which part of it determined how long they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from foveate.bench.samples import Span

if TYPE_CHECKING:
    from foveate.bench.record import Record

_ROUNDING = 3e-7  # of the times of spans, in seconds


@dataclass(frozen=True, kw_only=True)
class ImageWork:
    """The work of an image.

    Args:
        sample: Index in the samples.
        name: Name of its file.
        waiting: Time from its intended arrival to its start, in seconds.
        processing: Time from its start to its result, in seconds.
        spans: Its work; times count from its start.
    """

    sample: int
    name: str
    waiting: float
    processing: float
    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class CriticalPath:
    """The work that an image waited for, one piece after the other.

    Args:
        spans: The pieces, the first one first.
        idle: Time between them, in which nothing of the image ran, in seconds.
    """

    spans: tuple[Span, ...]
    idle: float


def slowest_image(record: Record) -> ImageWork | None:
    """Return the work of the slowest image, or None if it was not recorded."""
    slowest = next(iter(record.tails.slowest), None)
    if slowest is None or not slowest.trace or not record.samples.end:
        return None
    return _image(record, slowest.sample, slowest.trace)


def typical_image(record: Record) -> ImageWork | None:
    """Return the work of an image near the median, of the few whose work was recorded from the start."""
    samples, median = record.samples, record.latency.median
    if not record.timeline or not samples.end or median is None:
        return None

    def distance(sample: int) -> float:
        return abs(samples.end[sample] - samples.arrival[sample] - median)

    recorded = dict.fromkeys(one.sample for one in record.timeline)
    chosen = min(recorded, key=distance)
    offset = samples.start[chosen] - min(samples.start[one] for one in recorded)
    spans = (one for one in record.timeline if one.sample == chosen)
    return _image(record, chosen, [replace(one, start=one.start - offset) for one in spans])


def critical_path(image: ImageWork) -> CriticalPath:
    """Return the work that determined when the result was there.

    It is followed backwards from the result: each piece of work was preceded by the one that ended
    last before it began. The calling thread counts only where no stream worked.
    """
    streams = any(one.kind in ("network", "operation") for one in image.spans)
    calls = ("enqueue", "wait") if streams else ()
    left = [one for one in image.spans if one.kind not in calls]
    path: list[Span] = []
    reached, idle = image.processing, 0.0
    while before := [one for one in left if _end(one) <= reached + _ROUNDING]:
        last = max(before, key=_end)
        idle += max(0.0, reached - _end(last))
        reached = last.start
        path.append(last)
        left = [one for one in before if one is not last]
    return CriticalPath(spans=tuple(reversed(path)), idle=idle + max(0.0, reached))


def _image(record: Record, sample: int, spans: Sequence[Span]) -> ImageWork:
    samples = record.samples
    return ImageWork(
        sample=sample,
        name=record.inputs[samples.input[sample]].name,
        waiting=samples.start[sample] - samples.arrival[sample],
        processing=samples.end[sample] - samples.start[sample],
        spans=tuple(spans),
    )


def _end(span: Span) -> float:
    return span.start + span.duration
