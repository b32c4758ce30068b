# SPDX-License-Identifier: Apache-2.0
"""A record as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from foveate.bench.facts import (
    LIMIT_COLUMNS,
    MEANINGS,
    TRIAL_COLUMNS,
    extent_of,
    facts_of,
    fitness_of,
    floor_of,
    limit_rows,
    parts_of,
    percentile_row,
    ratio_columns,
    ratio_rows,
    tails_of,
    title_of,
    trial_rows,
)
from foveate.bench.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from foveate.bench.comparison import Comparison
    from foveate.bench.figures import RateSearch
    from foveate.bench.record import Record


def tables_of(record: Record) -> Iterator[Table]:
    """Yield the tables of a record: latency, rates, parts, limits, and everything else."""
    yield _latency_table(record)
    if record.search is not None:
        yield _search_table(record.search)
    yield _parts_table(record)
    if record.limits is not None:
        title = "what the machine allows, per image"
        yield _table(title, LIMIT_COLUMNS, limit_rows(record.limits), texts=2)
    yield _facts_table(record)


def comparison_table(comparison: Comparison) -> Table:
    """Return the ratios of a comparison as a table."""
    title = f"{comparison.candidate}\nagainst {comparison.baseline}"
    decided = comparison.confidence is not None  # a highest rate has no interval to decide by
    rows = (
        (name + (" *" if decided and name == comparison.decisive else ""), *cells)
        for name, *cells in ratio_rows(comparison)
    )
    table = _table(title, ratio_columns(comparison), rows)
    table.caption = f"{'* decides' if decided else 'verdict'}: {comparison.verdict}"
    return table


def comparison_markdown(comparison: Comparison) -> str:
    """Return a comparison as Markdown, with the warnings above the table."""
    lines = [f"**{comparison.candidate}** against {comparison.baseline}: **{comparison.verdict}**"]
    lines.append("")
    for warning in comparison.warnings:
        lines += [f"> {warning}", ""]
    lines += [f"| {' | '.join(ratio_columns(comparison))} |", "| --- | --: | --: | --: | --: |"]
    lines += [f"| {' | '.join(row)} |" for row in ratio_rows(comparison)]
    return "\n".join(lines) + "\n"


def _latency_table(record: Record) -> Table:
    columns = ("latency", "value", "95 % interval", "floor")
    rows = (percentile_row(one, record) for one in record.latency.percentiles)
    table = _table(title_of(record), columns, rows)
    table.caption = extent_of(record)
    if record.floor is not None:
        table.caption += f"\nfloor: {floor_of(record)}"
    return table


def _search_table(search: RateSearch) -> Table:
    title = f"rates tried for a p99 of at most {duration(search.bound)}"
    return _table(title, TRIAL_COLUMNS, trial_rows(search), texts=2)


def _parts_table(record: Record) -> Table:
    table = _table("where the time goes, per image", ("part", "p50", "p90", "largest"))
    table.add_column("what it is")
    for group in (parts_of(record), record.stages, record.operations):
        for name, one in group.items():
            values = (one.median, one.percentile(90).value, one.largest)
            table.add_row(name, *map(duration, values), MEANINGS.get(name, ""))
        table.add_section()
    return table


def _table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]] = (), *, texts: int = 1
) -> Table:
    """Return a table whose first columns have texts, and the others numbers."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < texts else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _facts_table(record: Record) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column("fact")
    table.add_column("value")
    for name, value in _facts(record):
        table.add_row(name, value)
    return table


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    yield from facts_of(record)
    yield from tails_of(record)
    for advice in record.advice or ():
        yield "advice", str(advice)
    if record.limits is None and record.subject.server is None:
        yield "advice", "pass --limits to measure what the machine allows, and what to try"
    yield "machine", fitness_of(record)
    for reason in record.machine.reasons:
        yield "", reason
