# SPDX-License-Identifier: Apache-2.0
"""The roofline: how near each network comes to what arithmetic and memory of the machine allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foveate.bench.facts import LIMIT_COLUMNS, limit_rows
from foveate.bench.page.markup import legend, paragraph, section, table
from foveate.bench.page.scales import Scale, logarithmic_scale
from foveate.bench.page.styles import Styles
from foveate.bench.page.svg import Chart
from foveate.bench.units import flops

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foveate.bench.record import Record


def rooflines(record: Record, styles: Styles) -> str:
    """Return the chart and the figures of the limits, or nothing if they were not measured."""
    if record.limits is None:
        return ""
    figures = table(LIMIT_COLUMNS, limit_rows(record.limits), texts=2)
    points = _points(record.limits)
    if not points or record.limits["ceilings"] is None:
        note = "The ceilings of this device are not measured, so there is no roofline."
        return section("roofline", "What the machine allows", paragraph(note), figures)
    note = (
        "A point is a network: its operations per byte, and the rate that it reached. The thin line "
        "above it ends at the limit of its own mix of layers: the longer the line, the more time "
        "goes into something else than arithmetic and memory. The slope is the bandwidth of the "
        "memory, each level line the rate of one kind of layer (product is a matrix product, the "
        "others are convolutions), all measured after the run with the same number of threads."
    )
    return section(
        "roofline",
        "What the machine allows",
        paragraph(note),
        _chart(record.limits["ceilings"], points, styles),
        figures,
    )


def _points(limits: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rooflines of the networks that were timed, by stage."""
    lines = {stage: one["roofline"] for stage, one in limits["stages"].items()}
    return {
        stage: line
        for stage, line in lines.items()
        if line and line["reached"] and line["least_seconds"] and line["intensity"]
    }


def _chart(
    ceilings: Mapping[str, Any], points: Mapping[str, Mapping[str, Any]], styles: Styles
) -> str:
    bandwidth, kinds = max(one["median"] for one in ceilings["memory"]), _kinds(ceilings)
    limits = {stage: one["reached"] / one["ratio"] for stage, one in points.items()}
    rates = [*kinds.values(), *limits.values(), *(one["reached"] for one in points.values())]
    ridge = max(rates) / bandwidth
    intensities = [one["intensity"] for one in points.values()]
    x = _scale([ridge / 3, ridge, *intensities], ticks=3)
    y = _scale(rates, ticks=8)
    chart = Chart("Roofline", height=320, x=x, y=y)
    chart.x_axis(lambda tick: f"{tick:g}", "operations per byte")
    chart.y_axis(lambda tick: f"{tick / 1e9:g} G", "FLOP/s")
    start = max(x.low, y.low / bandwidth)
    memory = f"memory {bandwidth / 1e9:.3g} GB/s"
    chart.segment((start, start * bandwidth), (ridge, ridge * bandwidth), "roof", memory)
    for name, rate in kinds.items():
        chart.segment((max(x.low, rate / bandwidth), rate), (x.high, rate), "roof", name)
    chart.margin_labels((rate, f"{name} {rate / 1e9:.3g} G") for name, rate in kinds.items())
    for stage, one in points.items():
        style, place = styles.of("network", stage), (one["intensity"], one["reached"])
        limit = f"{one['ratio']:.0%} of its limit by {one['bound']}"
        chart.segment(place, (one["intensity"], limits[stage]), style)
        chart.dot(*place, style, f"{stage}: {flops(one['reached'])}, {limit}")
    entries = [
        (styles.of("network", stage), f"{stage}, {one['ratio']:.0%} of its limit")
        for stage, one in points.items()
    ]
    return chart.svg() + legend([*entries, ("roof", memory)])


def _kinds(ceilings: Mapping[str, Any]) -> dict[str, float]:
    """Return the highest measured rate of each kind of layer, in FLOP/s."""
    rates = ceilings["arithmetic"]
    several = len({one["precision"] for one in rates}) > 1
    kinds: dict[str, float] = {}
    for one in rates:
        name = f"{one['name']} {one['precision']}" if several else one["name"]
        kinds[name] = max(kinds.get(name, 0.0), one["median"])
    return kinds


def _scale(values: Sequence[float], *, ticks: int) -> Scale:
    """Return a logarithmic scale with room around the values."""
    return logarithmic_scale(min(values) / 1.3, max(values) * 1.3, most=ticks)
