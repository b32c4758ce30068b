# SPDX-License-Identifier: Apache-2.0
"""What a benchmark keeps of each image: its raw values, and the work of some images."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from foveate.bench.samples import Samples, Span
from foveate.tracing.image_trace import Division, ImageTrace, divide

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foveate.bench.scenarios import Sample

SLOWEST = 10
TIMELINE = 6
_DIGITS = 7  # tenths of a microsecond


@dataclass(frozen=True, kw_only=True)
class Row:
    """The raw values of an image; times are those of the clock.

    Args:
        sample: The sample, without its trace.
        division: How its time divides.
        warm_up: Whether it belongs to the warm-up.
        block: Number of the turn in a measurement against another pipeline.
        switches: Number of involuntary context switches of the process since the last result.
        sent_bytes: Bytes copied to the device.
        fetched_bytes: Bytes copied from it.
    """

    sample: Sample
    division: Division
    warm_up: bool
    block: int | None
    switches: int | None
    sent_bytes: int
    fetched_bytes: int


class Collection:
    """The rows of a run, and the traces of its slowest images and of its first few.

    Args:
        keep_traces: Whether the traces of all images are kept.

    Attributes:
        rows: The rows in the order of the results.
    """

    def __init__(self, *, keep_traces: bool = False) -> None:
        self.rows: list[Row] = []
        self._keep_traces = keep_traces
        self._traces: dict[int, ImageTrace] = {}  # by the index of the row
        self._slowest: list[tuple[float, int]] = []  # latency and index, a heap
        self._first: list[int] = []  # indices of the first rows after the warm-up

    def add(
        self, sample: Sample, *, warm_up: bool, block: int | None, switches: int | None
    ) -> None:
        """Add a sample; only one thread calls this at a time."""
        trace, index = sample.trace, len(self.rows)
        division = Division() if trace is None else divide(trace, sample.start, sample.end)
        self.rows.append(
            Row(
                sample=replace(sample, trace=None),  # which may be large
                division=division,
                warm_up=warm_up,
                block=block,
                switches=switches,
                sent_bytes=0 if trace is None else trace.sent_bytes,
                fetched_bytes=0 if trace is None else sum(trace.fetched.values()),
            )
        )
        if not warm_up and trace is not None:
            self._keep(index, sample.latency, trace)

    def copy(self) -> Collection:
        """Return what was added so far, which no other thread changes any more."""
        copied = Collection(keep_traces=self._keep_traces)
        # The rows come last, since a row is added before its index: every index has a row.
        copied._first, copied._slowest = [*self._first], [*self._slowest]
        copied._traces = dict(self._traces)
        copied.rows = [*self.rows]
        return copied

    @property
    def measured(self) -> list[Row]:
        """The rows without those of the warm-up."""
        return [row for row in self.rows if not row.warm_up]

    @property
    def slowest(self) -> list[int]:
        """Indices of the slowest rows, the slowest first."""
        return [index for _, index in sorted(self._slowest, reverse=True)]

    @property
    def traced(self) -> list[int]:
        """Indices of all rows whose traces are kept, in order."""
        return sorted(self._traces)

    @property
    def timeline(self) -> list[int]:
        """Indices of the first few rows after the warm-up."""
        return self._first

    def spans(self, indices: Iterable[int], origin: float) -> tuple[Span, ...]:
        """Return the work of some images as spans, whose times count from ``origin``."""
        return tuple(
            span
            for index in indices
            if index in self._traces
            for span in _spans(index, self.rows[index].sample, self._traces[index], origin)
        )

    def _keep(self, index: int, latency: float, trace: ImageTrace) -> None:
        """Keep the trace of a new row, and drop that of a row that is no longer among the slowest."""
        self._traces[index] = trace
        dropped = None
        if len(self._slowest) < SLOWEST:
            heapq.heappush(self._slowest, (latency, index))
        else:
            _, dropped = heapq.heappushpop(self._slowest, (latency, index))
        if len(self._first) < TIMELINE:
            self._first.append(index)
        if dropped is not None and not self._keep_traces and dropped not in self._first:
            del self._traces[dropped]


def columns(rows: list[Row], origin: float) -> Samples:
    """Return rows as columns, with times since ``origin``."""
    parts = [row.division for row in rows]
    stages = sorted({name for part in parts for name in part.stages})
    operations = sorted({name for part in parts for name in part.operations})
    return Samples(
        input=tuple(row.sample.index for row in rows),
        warm_up=tuple(row.warm_up for row in rows),
        worker=tuple(row.sample.worker for row in rows),
        block=tuple(row.block for row in rows),
        arrival=_times(row.sample.arrival - origin for row in rows),
        start=_times(row.sample.start - origin for row in rows),
        end=_times(row.sample.end - origin for row in rows),
        reading=_optional(part.reading for part in parts),
        host=_optional(part.host for part in parts),
        enqueue=_optional(part.enqueue for part in parts),
        device=_optional(part.device for part in parts),
        copies=_optional(part.copies for part in parts),
        switches=tuple(row.switches for row in rows),
        stages={name: _optional(part.stages.get(name) for part in parts) for name in stages},
        operations={
            name: _optional(part.operations.get(name) for part in parts) for name in operations
        },
    )


def _times(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(value, _DIGITS) for value in values)


def _optional(values: Iterable[float | None]) -> tuple[float | None, ...]:
    return tuple(None if value is None else round(value, _DIGITS) for value in values)


def _spans(index: int, sample: Sample, trace: ImageTrace, origin: float) -> list[Span]:
    """Return the work of one image, of its streams and of the thread that called the pipeline."""
    caller = f"worker {sample.worker}"
    found = [
        (caller if one.track == "host" else one.track, one.kind, one.name, one.start, one.end)
        for one in trace.work
    ]
    if trace.launched is not None and trace.enqueued is not None:
        found.append((caller, "enqueue", "enqueue", trace.launched, trace.enqueued))
    if trace.waited is not None and trace.done is not None:
        found.append((caller, "wait", "wait", trace.waited, trace.done))
    return [
        Span(
            sample=index,
            track=track,
            kind=kind,
            name=name,
            start=round(start - origin, _DIGITS),
            duration=round(end - start, _DIGITS),
        )
        for track, kind, name, start, end in sorted(found, key=lambda one: one[3])
    ]
