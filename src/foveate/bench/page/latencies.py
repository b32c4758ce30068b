# SPDX-License-Identifier: Apache-2.0
"""The latency: its percentiles with intervals, and its course over the run."""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

from foveate.bench.facts import extent_of, floor_of, percentile_row
from foveate.bench.page.markup import legend, paragraph, section, table
from foveate.bench.page.scales import Scale, linear_scale, percentile_scale
from foveate.bench.page.svg import Chart
from foveate.bench.percentiles import PERCENTS, percentile, quantile
from foveate.bench.units import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.arrays import Float64Array
    from foveate.bench.figures import Distribution, Percentile
    from foveate.bench.record import Record

_MOST_POINTS = 1000  # of a cloud
_CURVE_POINTS = 120
_SENT = {
    "single-stream": "Each image was sent when the result of the last one was there.",
    "offline": "Images were sent as fast as the pipeline took them.",
    "server": "Images arrived at random moments, and may have waited.",
}


def percentile_curves(record: Record) -> str:
    """Return the latency against the percentile, with intervals, rival and floor."""
    series = [("c0", "latency", _latencies(record))]
    if record.scenario.name == "server":
        series.append(("c2", "start to result", _processing(record)))
    if record.against is not None:
        other = record.against.record
        series.append(("c1", f"against {other.subject.label}", _latencies(other)))
    series = [one for one in series if np.isfinite(one[2]).any()]
    rows = [percentile_row(one, record) for one in record.latency.percentiles]
    figures = table(("percentile", "latency", "95 % interval", "harness floor"), rows)
    content = [paragraph(f"{_SENT[record.scenario.name]} {extent_of(record)}.")]
    if series:
        highest = max(float(values[np.isfinite(values)].max(initial=0.0)) for *_, values in series)
        x = percentile_scale(max(values.size for *_, values in series))
        chart = Chart(
            "Latency against percentile", height=280, x=x, y=linear_scale(highest, rounded=True)
        )
        chart.x_axis(_percent, "percentile of the images")
        chart.y_axis(duration, "latency")
        entries = [_curve(chart, x, *one) for one in series]
        if record.floor is not None:
            entries += _floor(chart, record.floor.latency)
        content += [chart.svg(), legend(entries)]
        content.append(
            paragraph(
                "Dots and vertical lines are percentiles with 95 % intervals, where there were "
                "enough images for one; the area contains the intervals of all percentiles between "
                "them. The last tenth, hundredth and thousandth of the images take as much room as "
                f"each other. The harness floor: {floor_of(record)}.",
                "note",
            )
        )
    return section("latency", "Latency", *content, figures)


def course(record: Record) -> str:
    """Return the latency of each image at the time of its arrival."""
    samples = record.samples
    if len(samples.end) < 2:
        return ""
    arrival, latency = np.array(samples.arrival), np.array(samples.end) - np.array(samples.arrival)
    warm = np.array(samples.warm_up, bool)
    kept = np.unique(np.linspace(0, arrival.size - 1, _MOST_POINTS).round().astype(int))
    x = linear_scale(float(arrival.max()), low=float(arrival.min()))
    # The first images of the warm-up would press all others down.
    y = linear_scale(float(latency[~warm].max(initial=0.0)), rounded=True)
    chart = Chart("Latency over the run", height=160, x=x, y=y)
    chart.x_axis(duration, "time of the arrival")
    chart.y_axis(duration, "latency")
    for style, chosen in (("warm", kept[warm[kept]]), ("c0", kept[~warm[kept]])):
        if chosen.size:
            chart.cloud(zip(arrival[chosen].tolist(), latency[chosen].tolist(), strict=True), style)
    for place, tail in enumerate(record.tails.slowest, 1):
        name = record.inputs[tail.input].name
        title = f"{name}: {duration(tail.latency)}, number {place} of the slowest"
        chart.ring(samples.arrival[tail.sample], tail.latency, "c4", title)
    note = "The ten slowest images are ringed"
    if warm.any():
        note += "; gray points belong to the warm-up, and may lie above the chart"
    note += "."
    if kept.size < arrival.size:
        note += f" {kept.size:,} of {arrival.size:,} images are drawn."
    return section("course", "Latency over the run", chart.svg(), paragraph(note, "note"))


def _latencies(record: Record) -> Float64Array:
    """Return the sorted latencies in seconds; infinity for images without a result."""
    samples = record.samples
    finished = _sorted(record, np.array(samples.end) - np.array(samples.arrival))
    return np.append(finished, [inf] * (record.latency.count - finished.size))


def _processing(record: Record) -> Float64Array:
    samples = record.samples
    return _sorted(record, np.array(samples.end) - np.array(samples.start))


def _sorted(record: Record, values: Float64Array) -> Float64Array:
    return np.sort(values[~np.array(record.samples.warm_up, bool)])


def _curve(chart: Chart, x: Scale, style: str, name: str, ordered: Float64Array) -> tuple[str, str]:
    """Draw a series, and return its entry of the legend."""
    start, end = x.transform(x.low), x.transform(x.high)
    percents = [100 * (1 - 10**-one) for one in np.linspace(start, end, _CURVE_POINTS)]
    areas = (_interval(percentile(ordered, one)) for one in percents if 0 < one < 100)
    band = [one for one in areas if one is not None]
    if band:
        chart.band(band, style)
    points = _steps(ordered, percents)
    chart.line([one for one in points if isfinite(one[1])], style, name)
    for percent in PERCENTS:
        found = percentile(ordered, percent)
        interval = _interval(found)
        if interval is None or found.value is None:
            continue
        _, low, high = interval
        title = (
            f"p{percent:g} of {name}: {duration(found.value)} ({duration(low)} to {duration(high)})"
        )
        chart.segment((percent, low), (percent, high), style, title)
        chart.dot(percent, found.value, style, title)
    median = percentile(ordered, 50).value
    return style, name if median is None else f"{name}, median {duration(median)}"


def _steps(ordered: Float64Array, percents: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points of a curve: both ends of each value, or few of many values."""
    if ordered.size > len(percents):
        return [(one, quantile(ordered, one)) for one in percents]
    ends = enumerate(ordered.tolist())
    step = 100 / ordered.size
    return [(step * (n + side), value) for n, value in ends for side in (0, 1)]


def _interval(one: Percentile) -> tuple[float, float, float] | None:
    """Return percentile, lower and upper end, if both are known."""
    if one.low is None or one.high is None:
        return None
    return one.percent, one.low, one.high


def _floor(chart: Chart, floor: Distribution) -> list[tuple[str, str]]:
    known = [(one.percent, one.value) for one in floor.percentiles if one.value is not None]
    if not known:
        return []
    chart.line(known, "floor", "harness floor")
    return [("floor", f"harness floor, median {duration(known[0][1])}")]


def _percent(percent: float) -> str:
    return f"p{percent:g}" if percent else "min"
