# SPDX-License-Identifier: Apache-2.0
"""The record inside a page, as JSON that cannot end its script element.

A record that is too large loses values, the most dispensable first, and stays valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from foveate.bench.samples import Samples
from foveate.plain_text import json_text

if TYPE_CHECKING:
    from foveate.bench.record import Record

_OPEN, _CLOSE = '<script type="application/json" id="record">', "</script>"
_RECORD = re.compile(re.escape(_OPEN.encode()) + b"(.*?)" + _CLOSE.encode(), re.DOTALL)
# Columns of the raw values without which two records can still be compared.
_PARTS = ("reading", "host", "enqueue", "device", "copies", "switches")


def embed(record: Record, room: int, *, drawn: Collection[int]) -> tuple[str, str]:
    """Return a record as an element of a page, and what it lacks.

    Args:
        record: The record.
        room: Largest number of bytes of the element.
        drawn: Indices of the images whose work the page shows, which is kept longer.

    Returns:
        The element, and a sentence on what was left out, which is empty if nothing was.
    """
    steps: tuple[tuple[str, Callable[[Record], Record]], ...] = (
        ("", lambda one: one),
        ("the work of images that are not drawn", lambda one: _traces(one, drawn)),
        ("the work of single images", lambda one: _traces(one, ())),
        ("the times of the parts of each image", lambda one: _without_parts(_traces(one, ()))),
        ("the raw values of all images", lambda one: _without_values(_traces(one, ()))),
    )
    for missing, shorten in steps:
        element = _element(_everywhere(record, shorten))
        if len(element) <= room:
            return element, missing
    return "", "the record"


def find_record(page: bytes) -> bytes | None:
    """Return the JSON of the record in a page, or None if there is none."""
    found = _RECORD.search(page)
    return None if found is None else found[1]


def _element(record: Record) -> str:
    text = json_text(asdict(record), compact=True).strip()
    # Neither an end tag nor a comment can begin without this character.
    return _OPEN + text.replace("<", "\\u003c") + _CLOSE


def _everywhere(record: Record, shorten: Callable[[Record], Record]) -> Record:
    """Shorten a record and the one that was measured in turns with it."""
    short = shorten(record)
    if short.against is None:
        return short
    other = _everywhere(short.against.record, shorten)
    return replace(short, against=replace(short.against, record=other))


def _traces(record: Record, kept: Collection[int]) -> Record:
    slowest = tuple(
        one if one.sample in kept else replace(one, trace=()) for one in record.tails.slowest
    )
    timeline = tuple(span for span in record.timeline if span.sample in kept)
    return replace(record, timeline=timeline, tails=replace(record.tails, slowest=slowest))


def _without_parts(record: Record) -> Record:
    nothing = (None,) * len(record.samples.input)
    parts: dict[str, Any] = dict.fromkeys(_PARTS, nothing)
    return replace(record, samples=replace(record.samples, **parts, stages={}, operations={}))


def _without_values(record: Record) -> Record:
    empty: dict[str, Any] = {
        one.name: {} if one.name in ("stages", "operations") else () for one in fields(Samples)
    }
    return replace(record, samples=Samples(**empty))
