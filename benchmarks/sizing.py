# SPDX-License-Identifier: Apache-2.0
"""Replicas and their time for a rate of images, from records of ``foveate bench``.

    foveate bench mini --preset fast --scenario server --p99 2.5 --json server.json
    foveate bench mini --preset fast --scenario offline --seconds 60 --json batch.json
    python benchmarks/sizing.py server.json batch.json --json benchmarks/results/sizing.json

It measures nothing itself: the conditions of the table are those of the records.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from figures import Cell, Conditions, Figure, Measurement, Result, begin, report
from foveate.bench.record import Record
from foveate.bench.record_file import read_record
from foveate.bench.sizing import size

TITLE = "Sizing"
QUESTION = """\
How many images per second one replica takes, how many replicas a rate needs, and for how many hours replicas are paid
for per million images, whatever an hour costs. `foveate bench size` computes them ([how](../docs/how-to/bench.md#choose-\
the-number-of-replicas)). A batch is the throughput of the scenario `offline`, where nobody waits for a single image."""
RATE = 10.0  # images per second


def main() -> None:
    """Compute and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    records = [read_record(file) for file in arguments.records]
    names = " ".join(file.name for file in arguments.records)
    measurement = Measurement(
        caption=f"{images_of(records)}, read before the run if a row has no `decoding`:",
        conditions=conditions_of(records, f"python benchmarks/sizing.py {names}"),
        columns=(
            "",
            "99th percentile",
            "images per second of a replica",
            f"replicas for {RATE:g} images per second",
            "hours of a replica per million images",
        ),
        rows=tuple(row_of(record) for record in records),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def row_of(record: Record) -> tuple[Cell, ...]:
    """Return the cells of a record."""
    found = size(record, rate=RATE, price_per_hour=1.0)  # hours in place of money
    side = record.subject.options.get("max_side")
    decoding = ", `decoding`" if record.scenario.decoding else ""
    return (
        found.subject + ("" if side is None else f", longer side at most {side}") + decoding,
        "batch" if found.p99 is None else f"at most {found.p99:g} s",
        Figure(value=found.capacity),
        str(found.replicas),
        None if found.cost_per_million is None else Figure(value=found.cost_per_million),
    )


def images_of(records: Sequence[Record]) -> str:
    """Return the names of the images, which are the same in all records."""
    (names,) = {tuple(one.name for one in record.inputs) for record in records}
    return ", ".join(names)


def conditions_of(records: Sequence[Record], command: str) -> Conditions:
    """Return the conditions of records of one machine."""
    (machine,) = {record.machine.processor.name for record in records}
    first = records[0]
    reasons = [f"{n}: {one}" for n, r in enumerate(records, 1) for one in r.machine.reasons]
    return Conditions(
        machine=f"{machine}, {first.machine.processor.cores} cores",
        load="; ".join(f"row {reason}" for reason in reasons) or "other work paused",
        date=first.created[:10],
        commit=begin().commit,
        command=command,
        versions={name: first.subject.versions[name] for name in ("onnxruntime",)},
    )


if __name__ == "__main__":
    main()
