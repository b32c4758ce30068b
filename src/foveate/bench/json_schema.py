# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas of the records, derived from their dataclasses and docstrings."""

from __future__ import annotations

import inspect
import re
import types
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from foveate.bench.record import SCHEMA, Record
from foveate.bench.sweep_record import SWEEP_SCHEMA, SweepRecord

_SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def record_schema() -> dict[str, Any]:
    """Return the schema of the record as a JSON Schema of the draft 2020-12."""
    return _document_schema(Record, SCHEMA, "Record of foveate bench")


def sweep_schema() -> dict[str, Any]:
    """Return the schema of the record of a sweep as a JSON Schema of the draft 2020-12."""
    return _document_schema(SweepRecord, SWEEP_SCHEMA, "Record of foveate bench sweep")


def _document_schema(kind: type, version: int, title: str) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    root = schema_of(kind, definitions)
    definitions[kind.__name__]["properties"]["schema"] = {
        "const": version,
        "description": "Version of this format.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def schema_of(kind: Any, definitions: dict[str, Any], place: str = "#/$defs/") -> dict[str, Any]:
    """Return the schema of a type.

    Args:
        kind: A dataclass whose docstring describes its fields, or what a field may be.
        definitions: Schemas of dataclasses by name, to which those in this type are added.
        place: Where the definitions are in the document.
    """
    if kind is Any:
        return {}
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # a record may contain a record
            definitions[kind.__name__] = _object_of(kind, definitions, place)
        return {"$ref": f"{place}{kind.__name__}"}
    return _container_of(get_origin(kind), get_args(kind), definitions, place)


def _container_of(
    origin: Any, items: tuple[Any, ...], definitions: dict[str, Any], place: str
) -> dict[str, Any]:
    """Return the schema of a tuple of any length, a dictionary or a union."""
    if origin is tuple:
        return {"type": "array", "items": schema_of(items[0], definitions, place)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(items[1], definitions, place)}
    assert origin in (Union, types.UnionType), f"{origin} has no schema"
    choices = [schema_of(item, definitions, place) for item in items]
    if all(set(choice) == {"type"} for choice in choices):
        return {"type": [choice["type"] for choice in choices]}
    return {"anyOf": choices}


def _object_of(kind: type, definitions: dict[str, Any], place: str) -> dict[str, Any]:
    hints, descriptions = get_type_hints(kind), _descriptions(kind)
    names = [one.name for one in fields(kind)]
    return {
        "type": "object",
        "description": (inspect.getdoc(kind) or "").partition("\n")[0],
        "properties": {
            name: {**schema_of(hints[name], definitions, place), "description": descriptions[name]}
            for name in names
        },
        "required": names,
        "additionalProperties": False,
    }


def _descriptions(kind: type) -> dict[str, str]:
    """Return the description of each field from the section ``Args`` of a docstring."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Args:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
