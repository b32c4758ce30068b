# SPDX-License-Identifier: Apache-2.0
"""The outputs of ``foveate bench``, also of a measurement that fails or is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.bench.page.document import page_of
from foveate.bench.record_file import record_text
from foveate.bench.table import comparison_table, tables_of
from foveate.cli._console import print_line, print_table
from foveate.cli._files import write_result
from foveate.cli._interruption import on_interruption
from foveate.errors import FoveateError
from foveate.plain_text import counted, json_text

if TYPE_CHECKING:
    from foveate.bench.advice import Command
    from foveate.bench.comparison import Comparison
    from foveate.bench.measurement import Measurement
    from foveate.bench.record import Record


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Files of a measurement.

    Args:
        json: File of the record; ``-`` is stdout, None no file.
        html: File of the page.
        trace: File of the trace.
        command: The command of the measurement, which the page repeats with changes.
    """

    json: Path | None
    html: Path | None
    trace: Path | None
    command: Command

    def write(self, record: Record) -> None:
        """Write the record and its page, and print its tables even if a file cannot be written."""
        try:
            if self.json is not None:
                write_result(self.json, record_text(record))
        finally:
            try:
                if self.html is not None:
                    write_result(self.html, page_of(record, self.command))
            finally:
                self._print(record)

    def write_trace(self, session: Measurement) -> None:
        """Write the trace of the work so far."""
        if self.trace is not None:
            write_result(self.trace, json_text(session.trace()))

    def _print(self, record: Record) -> None:
        to_stderr = self.json == Path("-")
        for table in tables_of(record):
            print_table(table, to_stderr=to_stderr)
        if record.against is not None and record.against.comparison is not None:
            print_comparison(record.against.comparison, to_stderr=to_stderr)


class Partial:
    """What was measured so far, and where it is written.

    Attributes:
        outputs: Where it is written.
        session: The measurement; None before it is opened.
        record: The record of the measurement, to which later parts add; None while it runs.
    """

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs
        self.session: Measurement | None = None
        self.record: Record | None = None

    def save(self) -> str:
        """Write what was measured, and return a few words about it; "" if nothing was."""
        if self.session is None:
            return ""
        record, outputs = self.record or self.session.record(), self.outputs
        if not record.outcome.images and record.search is None:
            return ""
        outputs.write(record)
        outputs.write_trace(self.session)
        files = " and ".join(str(one) for one in (outputs.json, outputs.html) if one)
        where = f", partial figures in {files}" if files else ""
        extent = f"{counted(record.outcome.images, 'image', 'images')} measured"
        if record.search is not None:
            extent = f"{counted(len(record.search.trials), 'rate', 'rates')} tried"
        return extent + where


@contextmanager
def keeping(save: Callable[[], str]) -> Iterator[None]:
    """Save what was measured if the work of the context fails, or if the command is interrupted.

    ``save`` returns a few words about it, or nothing if there is nothing to save.
    """
    on_interruption(save, grace=1.0)  # a record can be taken at any time, so it need not wait
    try:
        yield
    except Exception:
        try:
            words = save()
        except FoveateError as error:  # such as a full disk; what failed before is raised
            words = str(error)
        if words:
            print_line(words, to_stderr=True)
        raise


def print_comparison(comparison: Comparison, *, to_stderr: bool = False) -> None:
    """Print the warnings of a comparison and its table."""
    for warning in comparison.warnings:
        print_line(f"warning: {warning}", to_stderr=True)
    print_table(comparison_table(comparison), to_stderr=to_stderr)
