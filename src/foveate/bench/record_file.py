# SPDX-License-Identifier: Apache-2.0
"""Records as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from foveate.bench.page.embedding import find_record
from foveate.bench.record import SCHEMA, Record
from foveate.bench.samples import Samples
from foveate.bench.sweep_record import SWEEP_SCHEMA, SweepRecord
from foveate.bundle.schema import RejectedValueError, load_json, parse
from foveate.errors import InputError
from foveate.plain_text import json_text

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


def record_text(record: Record | SweepRecord) -> str:
    """Return a record as JSON."""
    return json_text(asdict(record))


def read_record(path: Path) -> Record:
    """Read a record, from its own file or from a page.

    Raises:
        InputError: The file cannot be read, is not a record, is one of another version, or has raw
            values that contradict each other.
    """
    record = _read(path, Record, SCHEMA, "foveate bench")
    if contradiction := _contradiction(record.samples, len(record.inputs)):
        what = f"the raw values of the record contradict each other ({contradiction})"
        raise InputError(what, file=path, remedy="pass a file as `foveate bench --json` wrote it")
    return record


def read_sweep(path: Path) -> SweepRecord:
    """Read the record of a sweep.

    Raises:
        InputError: The file cannot be read, is not such a record, or is one of another version.
    """
    return _read(path, SweepRecord, SWEEP_SCHEMA, "foveate bench sweep")


def _read(path: Path, kind: type[T], schema: int, command: str) -> T:
    remedy = f"pass a file that `{command} --json` wrote"
    try:
        document = load_json(_json_of(path))
    except OSError as error:
        what = f"the record cannot be read ({error.strerror or error})"
        raise InputError(what, file=path, remedy=remedy) from error
    except ValueError as error:
        raise InputError(f"the record is not JSON ({error})", file=path, remedy=remedy) from error
    found = document.get("schema") if isinstance(document, Mapping) else None
    if isinstance(found, int) and found != schema:
        raise InputError(
            f"the record has the schema {found}, expected {schema}",
            file=path,
            remedy="measure it again with this version of Foveate",
        )
    try:
        return parse(kind, document)
    except RejectedValueError as error:
        what = f"the file is not a record of {command} ({error})"
        raise InputError(what, file=path, remedy=remedy) from error


def _contradiction(samples: Samples, inputs: int) -> str | None:
    """Return what cannot be true of the samples, or None."""
    columns = {name: column for name, column in vars(samples).items() if isinstance(column, tuple)}
    columns |= samples.stages | samples.operations
    count = len(samples.input)
    for name, column in columns.items():
        if len(column) != count:
            return f"{name!r} has {len(column)} entries, and 'input' has {count}"
    if any(not 0 <= index < inputs for index in samples.input):
        return f"'input' has the index of another image than the {inputs} of the run"
    times = zip(samples.arrival, samples.start, samples.end, strict=True)
    if any(not arrival <= start <= end or end == arrival for arrival, start, end in times):
        return "an image does not arrive, start and end in this order"
    return None


def _json_of(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"<!DOCTYPE html>"):
        return content
    found = find_record(content)
    if found is None:
        what = "the page has no record"
        raise InputError(what, file=path, remedy="pass the file of `foveate bench --json`")
    return found
