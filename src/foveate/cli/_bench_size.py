# SPDX-License-Identifier: Apache-2.0
"""``foveate bench size``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._console import print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import rich.table

    from foveate.bench.sizing import Sizing


def size(
    records: Annotated[
        list[Path],
        typer.Argument(
            help="Records of `--scenario server --p99 SECONDS`, or of `--scenario offline`.",
            show_default=False,
        ),
    ],
    *,
    rate: Annotated[
        float | None,
        typer.Option(help="Images per second that arrive; by default what one replica can take."),
    ] = None,
    price_per_hour: Annotated[
        list[float] | None,
        typer.Option(
            help="Price of one replica per hour, in any currency; once, or once per record in their "
            "order."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file of the sizes; - for stdout.")
    ] = None,
) -> None:
    """Compute how many replicas a rate of images needs, and what a million images cost.

    A replica is what was measured, on a machine of its own. What it can take is the highest rate
    that `foveate bench --p99` found for the record, or the throughput of `--scenario offline`. The
    costs are those of all replicas, also while they have nothing to do.
    """
    from dataclasses import asdict

    from foveate.bench.record_file import read_record
    from foveate.bench.sizing import size_all
    from foveate.cli._files import check_outputs, write_result
    from foveate.plain_text import json_text

    check_outputs(json_file, inputs=records)
    read = [read_record(file) for file in records]
    sizes = size_all(read, rate=rate, prices=price_per_hour or ())
    for file, record in zip(records, read, strict=True):
        for reason in record.machine.reasons:
            print_line(f"warning: {file} is unfit to publish: {reason}", to_stderr=True)
        if record.interrupted:
            text = "has partial figures, since its run was interrupted"
            print_line(f"warning: {file} {text}", to_stderr=True)
    if json_file is not None:
        write_result(json_file, json_text([asdict(one) for one in sizes], indent=1))
    if json_file != Path("-"):
        print_table(_table(records, sizes))


def _table(records: Sequence[Path], sizes: Sequence[Sizing]) -> rich.table.Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from foveate.bench.units import duration

    rate, priced = sizes[0].rate, any(one.cost_per_hour is not None for one in sizes)
    title = "one replica" if rate is None else f"replicas for {rate:g} images per second"
    columns = ["record", "p99\nbound", "images/s\neach", "replicas", "used"]
    columns += ["price\nper hour", "per million\nimages"] if priced else []
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "record" else "right", overflow="fold")
    for file, one in zip(records, sizes, strict=True):
        costs = (one.cost_per_hour, one.cost_per_million) if priced else ()
        table.add_row(
            file.name,
            "none" if one.p99 is None else duration(one.p99),
            f"{one.capacity:.3g}",
            f"{one.replicas:,}",
            f"{one.utilization:.0%}",
            *("" if cost is None else f"{cost:,.2f}" for cost in costs),
        )
    notes = []
    if priced:
        notes.append("The price per hour is that of all replicas.")
    if any(one.p99 is None for one in sizes):
        notes.append(
            "Without a bound, images may wait for any time: the throughput of a full pipeline."
        )
    table.caption = "\n".join(notes) or None
    table.caption_justify = "left"
    return table
