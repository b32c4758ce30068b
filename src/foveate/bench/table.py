# SPDX-License-Identifier: Apache-2.0
"""A record as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from foveate.bench.labels import label_of
from foveate.bench.percentiles import fewest_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from foveate.bench.comparison import Comparison
    from foveate.bench.figures import Distribution, Percentile
    from foveate.bench.record import Record

# Figures below so many times the floor say more of the harness than of the pipeline.
_FLOOR_FACTOR = 10


def tables_of(record: Record) -> Iterator[Table]:
    """Yield the tables of a record: latency, parts, limits, and everything else."""
    yield _latency_table(record)
    yield _parts_table(record)
    if record.limits is not None:
        yield _limits_table(record.limits)
    yield _facts_table(record)


def duration(seconds: float | None) -> str:
    """Return a time with three significant digits and its unit."""
    if seconds is None:
        return ""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if float(f"{seconds * factor:.3g}") < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


def comparison_table(comparison: Comparison) -> Table:
    """Return the ratios of a comparison as a table; above 1 the candidate is slower."""
    table = Table(
        title=f"{comparison.candidate}\nagainst {comparison.baseline}", title_justify="left"
    )
    for column in ("figure", "baseline", "candidate", "ratio", f"{_percent(comparison)} interval"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for one in comparison.ratios:
        mark = " *" if one.name == comparison.decisive else ""
        table.add_row(
            one.name + mark,
            duration(one.baseline),
            duration(one.candidate),
            f"{one.value:.3f}",
            f"{one.low:.3f} to {one.high:.3f}",
        )
    table.caption = f"* decides: {comparison.verdict}"
    table.caption_justify = "left"
    return table


def comparison_markdown(comparison: Comparison) -> str:
    """Return a comparison as Markdown, with the warnings above the table."""
    lines = [f"**{comparison.candidate}** against {comparison.baseline}: **{comparison.verdict}**"]
    lines.append("")
    for warning in comparison.warnings:
        lines += [f"> {warning}", ""]
    lines += [
        f"| figure | baseline | candidate | ratio | {_percent(comparison)} interval |",
        "| --- | --: | --: | --: | --: |",
    ]
    lines += [
        f"| {one.name} | {duration(one.baseline)} | {duration(one.candidate)} "
        f"| {one.value:.3f} | {one.low:.3f} to {one.high:.3f} |"
        for one in comparison.ratios
    ]
    return "\n".join(lines) + "\n"


def _percent(comparison: Comparison) -> str:
    return f"{100 * comparison.confidence:g} %"


def _latency_table(record: Record) -> Table:
    scenario, outcome = record.scenario, record.outcome
    title = f"{label_of(record)}: {scenario.name}"
    if scenario.rate is not None:
        title += f" at {scenario.rate:.3g} images per second"
    if record.interrupted:
        title += " (interrupted: partial figures)"
    table = Table(title=title, title_justify="left")
    for name in ("latency", "value", "95 % interval", "floor"):
        table.add_column(name, justify="left" if name == "latency" else "right")
    floor = None if record.floor is None else record.floor.latency
    for one in record.latency.percentiles:
        table.add_row(f"p{one.percent:g}", *_cells(one, record), _floor_cell(one, floor))
    table.caption = f"{outcome.images} images after {outcome.warm_up} of warm-up"
    if outcome.throughput is not None:
        table.caption += f", {outcome.throughput:.3g} images per second"
    table.caption_justify = "left"
    return table


def _cells(one: Percentile, record: Record) -> tuple[str, str]:
    if one.value is None or one.low is None:
        needed = fewest_runs(one.percent)
        if record.latency.count >= needed:
            return "beyond what finished", ""
        return f"not enough runs, needs {needed:,}", ""
    high = "?" if one.high is None else duration(one.high)
    return duration(one.value), f"{duration(one.low)} to {high}"


def _floor_cell(one: Percentile, floor: Distribution | None) -> str:
    own = None if floor is None else floor.percentile(one.percent).value
    if own is None:
        return ""
    near = one.value is not None and one.value < _FLOOR_FACTOR * own
    return duration(own) + (" (near)" if near else "")


def _parts_table(record: Record) -> Table:
    table = Table(title="where the time goes, per image", title_justify="left")
    for name in ("part", "p50", "p90", "largest"):
        table.add_column(name, justify="left" if name == "part" else "right")
    parts = record.parts
    named = {
        "waiting": record.waiting,
        "start to result": parts.processing,
        "reading": parts.reading,
        "copies": parts.copies,
        "host": parts.host,
        "enqueue": parts.enqueue,
        "device": parts.device,
    }
    for group in (named, record.stages, record.operations):
        for name, one in group.items():
            if one is not None:
                values = (one.percentile(50).value, one.percentile(90).value, one.largest)
                table.add_row(name, *map(duration, values))
        table.add_section()
    return table


def _limits_table(limits: Mapping[str, Any]) -> Table:
    table = Table(title="what the machine allows, per image", title_justify="left")
    for name in ("network", "GFLOP", "MB", "limit", "least time", "reached"):
        table.add_column(name, justify="left" if name in ("network", "limit") else "right")
    for stage, one in limits["stages"].items():
        line = one["roofline"] or dict.fromkeys(("bound", "least_seconds", "ratio"))
        ratio = line["ratio"]
        table.add_row(
            stage,
            f"{one['operations'] / 1e9:.3g}",
            f"{one['bytes'] / 1e6:.3g}",
            line["bound"] or "",
            duration(line["least_seconds"]),
            "" if ratio is None else f"{ratio:.0%}",
        )
    return table


def _facts_table(record: Record) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column("fact")
    table.add_column("value")
    for name, value in _facts(record):
        table.add_row(name, value)
    return table


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    resources, search = record.resources, record.search
    if search is not None:
        found = "none" if search.rate is None else f"{search.rate:.3g} images per second"
        yield "highest rate", f"{found} with p99 of at most {duration(search.bound)}"
    if record.parts.overlap is not None:
        yield "overlap", f"{record.parts.overlap:.2f} streams at work, mean"
    yield "first image", duration(record.outcome.first)
    if resources.peak_resident_bytes is not None:
        yield "peak memory", f"{resources.peak_resident_bytes / 1e6:.0f} MB"
    if resources.joules_per_image is not None:
        yield "energy", f"{resources.joules_per_image:.2f} J per image ({resources.energy_counter})"
    for trait in record.tails.common:
        shares = f"{trait.tail_share:.0%} of the slowest, {trait.share:.0%} of all"
        yield "slowest images", f"{trait.text} ({shares})"
    if record.tails.excess:
        name, share = next(iter(record.tails.excess.items()))
        yield "their time", f"{share:.0%} of what they took beyond the median went to {name}"
    for report in (record.accuracy or {}).values():
        for name, figure in report["figures"].items():
            if figure["value"] is not None and name.startswith("mask A"):
                yield name, f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
    for sentence in record.advice or ():
        yield "advice", sentence
    yield "machine", "fit to publish" if record.machine.fit else "unfit to publish"
    for reason in record.machine.reasons:
        yield "", reason
