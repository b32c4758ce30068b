# SPDX-License-Identifier: Apache-2.0
"""The form in which every benchmark writes its result, and from which ``readme.py`` makes the README.

A file answers one question. It has one measurement per machine or subject, each a table with the
conditions under which it was made.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from foveate.bench.machine import Snapshot, describe_machine, take_snapshot

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A median with its quartiles; both null if the value was measured once."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Return the median and the quartiles of values, to six digits."""
        low, middle, high = (float(f"{one:.6g}") for one in np.quantile(values, (0.25, 0.5, 0.75)))
        return cls(value=middle, low=low, high=high)


Cell: TypeAlias = "str | Figure | None"
"""Content of a table: text, a figure, or null for what was not measured."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How the figures of a table were measured.

    Args:
        machine: Name of the processor, and the instructions that matter.
        threads: Number of threads; null if it differs between rows, or is not known.
        pairs: Number of runs per row, in turns; null if it differs between rows, or is not known.
        load: What else the machine did.
        date: Day of the measurement.
        commit: Commit of the measured code; of measurements that were recorded later, the commit
            that recorded them.
        command: Command that measured; null if no script did.
        versions: Versions of the libraries that took part, by name.
    """

    machine: str
    threads: int | None = None
    pairs: int | None = None
    load: str
    date: str
    commit: str
    command: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A table of figures.

    Args:
        caption: What was measured, as Markdown: paragraphs that end with the table.
        conditions: How it was measured.
        columns: Heads of the columns, with units.
        rows: Cells of the rows, as many as columns.
    """

    caption: str
    conditions: Conditions
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer to a question.

    Args:
        title: Heading in the README.
        question: What is measured and how, as Markdown.
        measurements: The tables.
        notes: Paragraphs of Markdown after the tables. No script writes them.
    """

    title: str
    question: str
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is known before a measurement: see ``Conditions``. The commit may change during it."""

    machine: Snapshot
    commit: str
    threads: int | None
    pairs: int | None


def begin(*, threads: int | None = None, pairs: int | None = None) -> Start:
    """Return what has to be known before a measurement.

    Args:
        threads: Number of threads.
        pairs: Number of runs per row.
    """
    commit = _git("rev-parse", "--short", "HEAD")
    return Start(machine=take_snapshot(), commit=commit, threads=threads, pairs=pairs)


def conditions(before: Start, *packages: str) -> Conditions:
    """Return the conditions of a measurement that has just ended.

    Args:
        before: What ``begin`` returned.
        packages: Distributions whose versions matter.
    """
    state = describe_machine(before.machine, take_snapshot())
    return Conditions(
        machine=f"{state.processor.name} ({', '.join(_instructions())})",
        threads=before.threads,
        pairs=before.pairs,
        load="; ".join(state.reasons) or "other work paused",
        date=datetime.now(UTC).date().isoformat(),
        commit=before.commit,
        command=_command(),
        versions={name: metadata.version(name) for name in packages},
    )


def report(result: Result, file: Path | None) -> None:
    """Print a result, and put it into a file if there is one.

    A measurement takes the place of that of the same caption and machine in the file; other
    measurements and the notes stay.
    """
    for one in result.measurements:
        print(f"{one.caption} [{one.conditions.machine}; {one.conditions.load}]")
        for row in (one.columns, *one.rows):
            print("  " + " | ".join(show(cell) for cell in row))
    if file is None:
        return
    if file.is_file():
        result = _merge(read(file), result)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n", "utf-8")


def read(file: Path) -> Result:
    """Read a file of a result.

    Raises:
        ValueError: It does not have this form.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        measured = [_measurement(one) for one in content.pop("measurements")]
        notes = tuple(content.pop("notes"))
        return Result(measurements=tuple(measured), notes=notes, **content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.name} is no result of a benchmark: {error}") from error


def show(cell: Cell) -> str:
    """Return a cell as text, numbers with three digits."""
    if cell is None:
        return "not measured"
    if isinstance(cell, str):
        return cell
    if cell.low is None or cell.high is None:
        return _number(cell.value)
    return f"{_number(cell.value)} ({_number(cell.low)} to {_number(cell.high)})"


def _number(value: float) -> str:
    value = float(f"{value:.3g}")  # first, since 0.9996 has three digits as 1.00
    decimals = 2 - int(np.floor(np.log10(abs(value)))) if value else 0
    return f"{value:,.{min(max(decimals, 0), 9)}f}"


def _merge(old: Result, new: Result) -> Result:
    fresh = {(one.caption, one.conditions.machine): one for one in new.measurements}
    kept = [fresh.pop((m.caption, m.conditions.machine), m) for m in old.measurements]
    return replace(new, measurements=(*kept, *fresh.values()), notes=old.notes)


def _measurement(content: Mapping[str, Any]) -> Measurement:
    given = dict(content)
    columns = tuple(given.pop("columns"))
    rows = tuple(tuple(_cell(one) for one in row) for row in given.pop("rows"))
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"a row has more or fewer cells: {given['caption']}")
    return Measurement(
        conditions=Conditions(**given.pop("conditions")), columns=columns, rows=rows, **given
    )


def _cell(content: object) -> Cell:
    if isinstance(content, dict):
        return Figure(**content)
    if content is None or isinstance(content, str):
        return content
    raise ValueError(f"a cell is text, a figure or null, found {content!r}")


def _instructions() -> list[str]:
    """Return the instructions of the processor that make a difference to networks."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_int8": "AMX"}
    return [name for flag, name in known.items() if flag in flags]


def _command() -> str:
    """Return the command line of this process, as it is typed in the repository."""
    words = [os.path.relpath(word, ROOT) if Path(word).is_absolute() else word for word in sys.argv]
    return shlex.join(["python", *words])


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
