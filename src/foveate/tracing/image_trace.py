# SPDX-License-Identifier: Apache-2.0
"""What was recorded of one image, and how its time divides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from foveate.bundle import STAGES

T = TypeVar("T")


class AbandonedError(Exception):
    """Nobody waits for the result of an image any longer: its work stops at the next piece."""


@dataclass(slots=True, eq=False)
class Work:
    """A piece of work of an image.

    Args:
        kind: "network", "operation", "copy" or "read".
        name: Name of the stage or operation.
        track: Name of the stream or thread that does it.
        start: Time of its start.
        end: Time of its end.
    """

    kind: str
    name: str
    track: str
    start: float = 0.0
    end: float = 0.0

    def run(self, now: Callable[[], float], trace: ImageTrace, function: Callable[[], T]) -> T:
        """Call a function that does the work, add it to the trace, and return the result."""
        self.start = now()
        result = function()
        self.end = now()
        trace.work.append(self)  # several streams append, each in one step of the interpreter
        return result


@dataclass(slots=True, eq=False)
class ImageTrace:
    """What was recorded of one image; times that were not recorded are None.

    Args:
        index: Index of the image.
        finish: Called when the result of the image is there.
        work: The pieces of work, in the order of their ends.
        launched: When the calling thread began to enqueue the work; that of the first tile, if the
            image is cut into tiles.
        enqueued: When it had enqueued it; that of the last tile.
        waited: When it began to wait; for the last tile.
        done: When the work was done; that of the last tile.
        sent_bytes: Bytes copied to the device.
        fetched: Bytes copied from it, by the identity of their memory.
        abandoned: Whether work that has not begun is left out; any thread may set it.
    """

    index: int = 0
    finish: Callable[[], None] = lambda: None
    work: list[Work] = field(default_factory=list)
    launched: float | None = None
    enqueued: float | None = None
    waited: float | None = None
    done: float | None = None
    sent_bytes: int = 0
    fetched: dict[int, int] = field(default_factory=dict)
    abandoned: bool = False


@dataclass(frozen=True, kw_only=True)
class Division:
    """How the time of an image divides, in seconds; None where it was not recorded.

    Args:
        reading: Reading and decoding of the file.
        host: Work of the calling thread before the work is enqueued and after it is done.
        enqueue: Calls that enqueue the work.
        waiting: Time in which the calling thread waits for the work.
        device: Time in which at least one stream works.
        overlap: Sum of the work of all streams divided by ``device``.
        copies: Copies between the memory of the CPU and that of the device.
        stages: Time of each network.
        operations: Time of each operation.
    """

    reading: float | None = None
    host: float | None = None
    enqueue: float | None = None
    waiting: float | None = None
    device: float | None = None
    overlap: float | None = None
    copies: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    operations: dict[str, float] = field(default_factory=dict)


def divide(trace: ImageTrace, start: float, end: float) -> Division:
    """Return how the time of an image divides, from its start to its result."""
    host = enqueue = waiting = None
    if trace.launched is not None and trace.enqueued is not None:
        enqueue = trace.enqueued - trace.launched
        if trace.waited is not None and trace.done is not None:
            host = trace.launched - start + end - trace.done
            waiting = trace.done - trace.waited
    streams = [one for one in trace.work if one.kind in ("network", "operation")]
    device = covered((one.start, one.end) for one in streams) if streams else None
    work = sum(one.end - one.start for one in streams)
    return Division(
        reading=sum(total_times(trace, "read").values()) or None,
        host=host,
        enqueue=enqueue,
        waiting=waiting,
        device=device,
        overlap=work / device if device else None,
        copies=sum(total_times(trace, "copy").values()) or None,
        stages=total_times(trace, "network"),
        operations=total_times(trace, "operation"),
    )


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def total_times(trace: ImageTrace, kind: str) -> dict[str, float]:
    """Return the seconds that one kind of work took, by name."""
    sums: dict[str, float] = {}
    for one in trace.work:
        if one.kind == kind:
            sums[one.name] = sums.get(one.name, 0.0) + one.end - one.start
    return sums


def stage_times(trace: ImageTrace) -> dict[str, float]:
    """Return the milliseconds of each network, and of all operations and copies as ``other``.

    Stages may run at the same time, and beside those of the next image. On a GPU, where stages are
    not recorded, there is only ``total``.
    """
    found = total_times(trace, "network")
    times = {stage: found[stage] for stage in STAGES if stage in found}
    if times:
        others = (*total_times(trace, "operation").values(), *total_times(trace, "copy").values())
        times["other"] = sum(others)
    elif trace.launched is not None and trace.done is not None:
        times["total"] = trace.done - trace.launched
    return {name: 1000 * seconds for name, seconds in times.items()}
