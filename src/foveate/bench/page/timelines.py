# SPDX-License-Identifier: Apache-2.0
"""Timelines: which stream or thread did which work when."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from foveate.bench.page.image_work import (
    CriticalPath,
    ImageWork,
    critical_path,
    slowest_image,
    typical_image,
)
from foveate.bench.page.markup import details, legend, paragraph, safe, section, table
from foveate.bench.page.scales import Scale, linear_scale
from foveate.bench.page.styles import IDLE, Styles
from foveate.bench.page.svg import Chart
from foveate.bench.units import duration
from foveate.plain_text import counted

if TYPE_CHECKING:
    from foveate.bench.record import Record
    from foveate.bench.samples import Span

_MOST_SPANS = 200  # drawn in a timeline, the longest ones
_WORTH = 0.01  # of the time, from which on the waiting is mentioned
_NAMED = 0.005  # of the time, from which on a part is in the bar of the shares
_VISIBLE = 0.0005  # of the width, below which nothing is drawn
_LANE, _BAR = 42, 18  # pixels


def timelines(record: Record, styles: Styles) -> str:
    """Return the timelines of a typical and of the slowest image, and of the images in flight."""
    typical, slowest = typical_image(record), slowest_image(record)
    images = [("A typical image", typical), ("The slowest image", slowest)]
    if typical is not None and slowest is not None and typical.sample == slowest.sample:
        del images[0]
    found = [(title, one) for title, one in images if one is not None]
    charts = [_image(title, one, styles) for title, one in found]
    shown = [span for _, one in found for span in one.spans]
    if _overlap(record.timeline):
        charts.append(_images(record.timeline, styles))
        shown += record.timeline
    if not charts:
        return ""
    return section(
        "timeline",
        "Timeline",
        paragraph(
            "A worker is the thread that calls the pipeline; the streams of a slot work on one image "
            "side by side. The underlined work is the critical path, which the result had to wait "
            "for: each piece follows the one that ended last before it began. To make an image "
            "faster, shorten this path; work that is not underlined costs it no time."
        ),
        legend([*styles.legend(shown), ("critical", "critical path")]),
        *charts,
    )


def path_shares(path: CriticalPath, processing: float) -> dict[tuple[str, str], float]:
    """Return the share of each network on a critical path, and of what is between networks.

    Returns:
        Shares by kind and name, which sum up to 1, the largest first.
    """
    sums: dict[tuple[str, str], float] = {}
    for span in path.spans:
        known = span.kind == "network"
        key = (span.kind, span.name) if known else _group(span)
        sums[key] = sums.get(key, 0.0) + span.duration
    sums[IDLE, "nothing runs"] = path.idle
    ordered = sorted(sums.items(), key=lambda one: -one[1])
    return {key: seconds / processing for key, seconds in ordered if seconds > 0}


def share_bar(shares: dict[tuple[str, str], float], styles: Styles) -> str:
    """Return the shares of a critical path as one bar with its legend."""
    chart = Chart(
        "Critical path of a typical image", height=30, x=Scale(low=0.0, high=1.0, ticks=())
    )
    start, entries = 0.0, []
    for (kind, part), share in shares.items():
        if share < _NAMED:
            continue
        style, text = styles.of(kind, part), f"{part} {share:.0%}"
        end = min(1.0, start + share)
        chart.rect(start, end, top=0, height=28, style=style, title=text)
        entries.append((style, text))
        start = end
    return chart.svg() + legend(entries)


def _group(span: Span) -> tuple[str, str]:
    if span.kind == "operation":
        return "operation", "operations"
    return ("wait", "waiting") if span.kind == "wait" else ("copy", "calling thread")


def _image(title: str, image: ImageWork, styles: Styles) -> str:
    path = critical_path(image)
    heading = f"{title}: {image.name}, {duration(image.processing)} from start to result"
    if image.waiting > _WORTH * image.processing:
        heading += f", after {duration(image.waiting)} of waiting"
    shares = path_shares(path, image.processing)
    rows = [
        (name, duration(share * image.processing), f"{share:.1%}")
        for (_, name), share in shares.items()
    ]
    figures = table(("part", "time", "share"), rows)
    return (
        f"<h3>{safe(heading)}</h3>"
        + _lanes(heading, image.spans, image.processing, styles, path.spans)
        + details("The critical path in figures", figures)
    )


def _images(spans: Sequence[Span], styles: Styles) -> str:
    end = max(one.start + one.duration for one in spans)
    images = counted(len({one.sample for one in spans}), "image", "images")
    heading = f"The first {images} after the warm-up, {duration(end)}"
    return f"<h3>{heading}</h3>" + _lanes(heading, spans, end, styles)


def _lanes(
    name: str, spans: Sequence[Span], seconds: float, styles: Styles, path: Sequence[Span] = ()
) -> str:
    """Return work in rows of one track each; work that is not on a critical path is faded."""
    tracks = sorted({one.track for one in spans}, key=lambda one: (one[:6] != "worker", one))
    tops = {track: _LANE * number for number, track in enumerate(tracks)}
    x = linear_scale(seconds)
    chart = Chart(name, height=_LANE * len(tracks) + 4, x=x)
    chart.x_axis(duration)
    for track, top in tops.items():
        chart.row_label(top + 14, track)
    on_path = set(map(id, path))
    drawn = [one for one in spans if one.duration >= _VISIBLE * seconds]
    drawn = sorted(drawn, key=lambda one: -one.duration)[:_MOST_SPANS]
    for one in drawn:
        style = styles.of(one.kind, one.name)
        style += " aside" if path and id(one) not in on_path else ""
        title = f"{one.name}: {duration(one.duration)}, from {duration(one.start)}"
        end, top = one.start + one.duration, tops[one.track] + 19
        chart.rect(one.start, end, top=top, height=_BAR, style=style, title=title)
    for track, start, end in _runs(path, gap=_VISIBLE * seconds):
        chart.rect(start, end, top=tops[track] + 20 + _BAR, height=3, style="critical")
    on_chart = set(map(id, drawn))
    rest = sum(one.duration for one in spans if id(one) not in on_chart)
    if not rest:
        return chart.svg()
    note = f"Short pieces of work are not drawn; they took {duration(rest)} together."
    return chart.svg() + paragraph(note, "note")


def _runs(path: Sequence[Span], gap: float) -> list[tuple[str, float, float]]:
    """Return track, start and end of the parts of a path without a visible gap."""
    runs: list[tuple[str, float, float]] = []
    for one in path:
        end = one.start + one.duration
        if runs and runs[-1][0] == one.track and one.start - runs[-1][2] <= gap:
            runs[-1] = (one.track, runs[-1][1], end)
        else:
            runs.append((one.track, one.start, end))
    return runs


def _overlap(spans: Sequence[Span]) -> bool:
    """Return whether two images were in flight at a time."""
    times: dict[int, tuple[float, float]] = {}
    for one in spans:
        start, end = times.get(one.sample, (one.start, 0.0))
        times[one.sample] = (min(start, one.start), max(end, one.start + one.duration))
    return any(end > start for (_, end), (start, _) in pairwise(sorted(times.values())))
