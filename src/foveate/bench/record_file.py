# SPDX-License-Identifier: Apache-2.0
"""Records as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from foveate.bench.record import SCHEMA, Record
from foveate.bundle.schema import RejectedValueError, load_json, parse
from foveate.errors import InputError
from foveate.plain_text import json_text

if TYPE_CHECKING:
    from pathlib import Path

_REMEDY = "pass a file that `foveate bench --json` wrote"


def record_text(record: Record) -> str:
    """Return a record as JSON."""
    return json_text(asdict(record))


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: The file cannot be read, is not a record, or is one of another version.
    """
    try:
        document = load_json(path.read_bytes())
    except OSError as error:
        what = f"the record cannot be read ({error.strerror or error})"
        raise InputError(what, file=path, remedy=_REMEDY) from error
    except ValueError as error:
        raise InputError(f"the record is not JSON ({error})", file=path, remedy=_REMEDY) from error
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if isinstance(schema, int) and schema != SCHEMA:
        raise InputError(
            f"the record has the schema {schema}, expected {SCHEMA}",
            file=path,
            remedy="measure it again with this version of Foveate",
        )
    try:
        return parse(Record, document)
    except RejectedValueError as error:
        what = f"the file is not a record of foveate bench ({error})"
        raise InputError(what, file=path, remedy=_REMEDY) from error
