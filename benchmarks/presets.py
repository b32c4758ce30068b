# SPDX-License-Identifier: Apache-2.0
"""Enter a sweep of a bundle, from which its presets are chosen, into the results.

::

    foveate bench sweep mini --dataset DIRECTORY --threads 2 --json sweep.json
    python benchmarks/presets.py sweep.json --json benchmarks/results/presets.json
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from figures import Cell, Conditions, Figure, Measurement, Result, begin, conditions, report
from foveate.bench.record_file import read_sweep
from foveate.bench.sweep_record import FIGURES, DatasetResult, Point, SweepRecord

TITLE = "Levels of the pyramid"
QUESTION = """\
What a choice of levels and of the number of proposals costs, and how much time it saves, measured by `foveate bench
sweep`. Relative times are those of whole images, detections included, with a 99 % interval; a star marks the Pareto front
of a figure. [Presets](../docs/how-to/speed.md) are chosen from such a sweep."""


def main() -> None:
    """Read the sweep and report it."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("sweep", type=Path, help="Record of `foveate bench sweep`.")
    parser.add_argument("--json", type=Path, help="File of the result.")
    arguments = parser.parse_args()
    sweep = read_sweep(arguments.sweep)
    tables = tuple(_table(sweep, name, _conditions(sweep)) for name in sweep.datasets)
    report(Result(title=TITLE, question=QUESTION, measurements=tables), arguments.json)


def _conditions(sweep: SweepRecord) -> Conditions:
    """Return the conditions of the sweep on this machine, on which it must have been made."""
    return replace(
        conditions(begin(threads=sweep.points[0].configuration.threads, pairs=sweep.turns)),
        load="; ".join(sweep.machine.reasons) or "other work paused",
        date=sweep.created[:10],
        versions=sweep.versions,
    )


def _table(sweep: SweepRecord, name: str, measured: Conditions) -> Measurement:
    dataset = sweep.datasets[name]
    return Measurement(
        caption=f"`{sweep.bundle}` on {name}, {dataset.images} images with {dataset.objects} "
        f"objects, {len(dataset.timed)} of them timed:",
        conditions=measured,
        columns=("levels", "K", "longest side, px", "overlap", "relative time", *FIGURES),
        rows=tuple(_row(point, point.datasets[name]) for point in sweep.points),
    )


def _row(point: Point, result: DatasetResult) -> tuple[Cell, ...]:
    one, time = point.configuration, result.time
    return (
        " ".join(f"{scale:.3g}" for scale in one.scales),
        str(one.top_k),
        str(one.max_side),
        f"{one.window_nms_iou:g}",
        "1, the default"
        if time is None
        else Figure(value=time.value, low=time.low, high=time.high),
        *(_figure(result, name) for name in FIGURES),
    )


def _figure(result: DatasetResult, name: str) -> Cell:
    value = result.value(name)
    return None if value is None else f"{value:.3f}{'*' if name in result.best_in else ''}"


if __name__ == "__main__":
    main()
