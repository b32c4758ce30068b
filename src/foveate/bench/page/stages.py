# SPDX-License-Identifier: Apache-2.0
"""Where the time goes: a bar per stage, operation and part of the calling thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.bench.facts import MEANINGS, parts_of
from foveate.bench.page.markup import details, paragraph, section, table
from foveate.bench.page.scales import Scale
from foveate.bench.page.styles import Styles
from foveate.bench.page.svg import Chart
from foveate.bench.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foveate.bench.figures import Distribution
    from foveate.bench.record import Record

_WORTH = 0.002  # of the whole time, below which a part has no bar
_ROW = 36  # pixels
_CALLS = ("reading", "copies", "host", "enqueue", "sending", "answer")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the time of an image.

    Args:
        kind: "network", "operation" or "host".
        name: Name of the stage, operation or part of the calling thread.
        times: Its distribution.
        median: Its median in seconds.
    """

    kind: str
    name: str
    times: Distribution
    median: float


def bars_of(record: Record) -> list[Part]:
    """Return the parts whose median is known, the largest first."""
    return sorted(_bars(record), key=lambda one: -one.median)


def stage_bars(record: Record, styles: Styles) -> str:
    """Return the time of each part as bars, with its share of the time from start to result."""
    bars, whole = bars_of(record), record.parts.processing.median
    groups = (parts_of(record), record.stages, record.operations)
    rows = [part for group in groups for part in group.items()]
    figures = details(
        "All parts in figures",
        table(
            ("part", "what it is", "p50", "p90", "largest", "share"), _shares(rows, whole), texts=2
        ),
    )
    drawn = [one for one in bars if one.median >= _WORTH * (whole or 0.0)]
    if not drawn or not whole:
        text = "No part was measured often enough for a median."
        return section("stages", "Where the time goes", paragraph(text), figures)
    left_out = len(bars) - len(drawn)
    largest = max(one.times.percentile(90).value or one.median for one in drawn)
    x = Scale(low=0.0, high=largest, ticks=())
    chart = Chart("Time of each part per image", height=_ROW * len(drawn), x=x)
    for number, one in enumerate(drawn):
        high = one.times.percentile(90).value
        title = f"{one.name}: p50 {duration(one.median)}"
        title += "" if high is None else f", p90 {duration(high)}"
        top = _ROW * number
        meaning = f": {MEANINGS[one.name]}" if one.name in MEANINGS else ""
        chart.row_label(
            top + 12, one.name + meaning, f"{duration(one.median)} · {one.median / whole:.1%}"
        )
        if high is not None:
            chart.rect(0, high, top=top + 21, height=4, style="reach", title=title)
        style = styles.of(one.kind, one.name)
        chart.rect(0, one.median, top=top + 18, height=10, style=style, title=title)
    note = (
        "Bars are medians, thin bars reach to the 90th percentile. Shares are those of the median "
        "time from start to result; they sum up to more than 100 % where streams work side by side."
    )
    if left_out:
        note += f" {left_out} parts below {_WORTH:.1%} have no bar."
    return section("stages", "Where the time goes", chart.svg(), paragraph(note, "note"), figures)


def _bars(record: Record) -> Iterator[Part]:
    named = parts_of(record)
    calls = {name: named[name] for name in _CALLS if name in named}
    groups = {"network": record.stages, "operation": record.operations, "host": calls}
    for kind, group in groups.items():
        for name, times in group.items():
            median = times.median
            if median is not None:
                yield Part(kind=kind, name=name, times=times, median=median)


def _shares(
    rows: Sequence[tuple[str, Distribution]], whole: float | None
) -> Iterator[tuple[str, ...]]:
    for name, one in rows:
        median = one.median
        share = f"{median / whole:.1%}" if whole and median is not None else ""
        yield (
            name,
            MEANINGS.get(name, ""),
            duration(median),
            duration(one.percentile(90).value),
            duration(one.largest),
            share,
        )
