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
        typer.Option(help="Images per second that are wanted; by default what one replica can do."),
    ] = None,
    price_per_hour: Annotated[
        list[float] | None,
        typer.Option(
            help="Price of one replica per hour, in any currency; once, or once per record."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file of the sizes; - for stdout.")
    ] = None,
) -> None:
    """Compute from records how many replicas a rate needs, and what a million images cost.

    A replica is what was measured, on a machine of its own. Its capacity is the highest rate that
    held the 99th percentile of the record, or the throughput of `--scenario offline`.
    """
    from dataclasses import asdict

    from foveate.bench.record_file import read_record
    from foveate.bench.sizing import size_all
    from foveate.cli._files import check_output, write_result
    from foveate.plain_text import json_text

    check_output(json_file, records)
    read = [read_record(file) for file in records]
    sizes = size_all(read, rate=rate, prices=price_per_hour or ())
    for file, record in zip(records, read, strict=True):
        for reason in record.machine.reasons:
            print_line(f"warning: {file} is unfit to publish: {reason}", to_stderr=True)
    if json_file is not None:
        write_result(json_file, json_text([asdict(one) for one in sizes], indent=1))
    if json_file != Path("-"):
        print_table(_table(records, sizes))


def _table(records: Sequence[Path], sizes: Sequence[Sizing]) -> rich.table.Table:
    from rich.table import Table

    from foveate.bench.units import duration

    rate = sizes[0].rate
    title = "one replica" if rate is None else f"replicas for {rate:g} images per second"
    table = Table(title=title, title_justify="left")
    for name in ("record", "p99", "images/s each", "replicas", "used", "per hour", "per million"):
        table.add_column(name, justify="left" if name == "record" else "right")
    for file, one in zip(records, sizes, strict=True):
        table.add_row(
            file.name,
            "batch" if one.p99 is None else duration(one.p99),
            f"{one.capacity:.3g}",
            f"{one.replicas:,}",
            f"{one.utilization:.0%}",
            *(
                "" if cost is None else f"{cost:,.2f}"
                for cost in (one.cost_per_hour, one.cost_per_million)
            ),
        )
    return table
