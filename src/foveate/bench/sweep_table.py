# SPDX-License-Identifier: Apache-2.0
"""The record of a sweep as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from foveate.bench.sweep_record import FIGURES
from foveate.plain_text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foveate.bench.sweep_record import Configuration, DatasetResult, SweepRecord


def sweep_tables(sweep: SweepRecord) -> Iterator[Table]:
    """Yield one table per data set, in the order of time, and one of what could not be measured."""
    measured = [point.configuration for point in sweep.points]
    shown = _varying(measured + [one.configuration for one in sweep.failed])
    for name, dataset in sweep.datasets.items():
        images = counted(dataset.images, "image", "images")
        objects = counted(dataset.objects, "object", "objects")
        title = f"{sweep.bundle} on {name}: {images}, {objects}"
        if sweep.interrupted:
            title += f" (interrupted: {len(sweep.points)} of {sweep.planned} configurations)"
        table = _table(title, shown)
        for column in ("time", *(name.rpartition(", ")[2] for name in FIGURES)):
            table.add_column(column, justify="right", no_wrap=True)
        for point in sorted(sweep.points, key=lambda one: -one.relative_time):
            result = point.datasets[name]
            cells = [_cell(column, point.configuration) for column in shown]
            table.add_row(*cells, _time_cell(result), *_figure_cells(result))
        table.caption = _caption(sweep, name)
        table.caption_justify = "left"
        yield table
    if sweep.failed:
        count = f"{len(sweep.failed)} of {sweep.planned} configurations failed"
        table = _table(f"{sweep.bundle}: {count}", [*shown, "reason"])
        for one in sweep.failed:
            table.add_row(*(_cell(column, one.configuration) for column in shown), one.reason)
        yield table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _varying(configurations: list[Configuration]) -> list[str]:
    """Return the names of the columns in which the configurations differ, or that of the levels."""
    names = ("bundle", "levels", "K", "max side", "overlap", "threads", "in flight")
    return [
        name
        for name in names
        if name == "levels" or len({_cell(name, one) for one in configurations}) > 1
    ]


def _cell(column: str, one: Configuration) -> str:
    if column == "levels":
        return " ".join(f"{scale:.3g}" for scale in one.scales)
    if column == "bundle":
        return f"{one.bundle} {'/'.join(sorted(set(one.precision.values())))}"
    values = {
        "K": one.top_k,
        "max side": one.max_side,
        "overlap": one.window_nms_iou,
        "threads": "default" if one.threads is None else one.threads,
        "in flight": one.max_in_flight,
    }
    return str(values[column])


def _time_cell(result: DatasetResult) -> str:
    if result.time is None:
        return "1\nthe default"
    return f"{result.time.value:.3f}\n{result.time.low:.2f} to {result.time.high:.2f}"


def _figure_cells(result: DatasetResult) -> Iterator[str]:
    for name in FIGURES:
        value = result.value(name)
        mark = "*" if name in result.best_in else ""
        yield "" if value is None else f"{value:.3f}{mark}"


def _caption(sweep: SweepRecord, name: str) -> str:
    timed = counted(len(sweep.datasets[name].timed), "image", "images")
    text = (
        f"time: {sweep.scenario}, relative to the default, {timed} in {sweep.turns} turns, "
        f"with a {100 * sweep.confidence:g} % interval; * no configuration as fast is better"
    )
    if not sweep.machine.fit:
        text += f"; unfit to publish: {'; '.join(sweep.machine.reasons)}"
    return text
