# SPDX-License-Identifier: Apache-2.0
"""The record inside a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.bench.page.reports import COMMAND, NAME, full_record

from foveate.bench.compare import compare
from foveate.bench.json_schema import record_schema
from foveate.bench.page.document import page_of
from foveate.bench.page.embedding import embed, find_record
from foveate.bench.record import Record
from foveate.bench.record_file import read_record, record_text
from foveate.errors import InputError


@pytest.fixture(scope="module")
def record() -> Record:
    return full_record()


def embedded(record: Record, room: int) -> tuple[dict[str, Any], str]:
    element, missing = embed(record, room, drawn={record.tails.slowest[0].sample})
    found = find_record(element.encode())
    assert found is not None
    assert len(element) <= room
    return json.loads(found), missing


def test_a_record_that_fits_is_whole(record: Record) -> None:
    document, missing = embedded(record, 1_000_000)
    assert missing == ""
    assert document == json.loads(record_text(record))
    assert document["inputs"][0]["name"] == NAME


def sizes(record: Record) -> dict[str, int]:
    """The smallest room for each way to shorten the record, by what it leaves out."""
    found: dict[str, int] = {}
    room = 1_000_000
    while True:
        element, missing = embed(record, room, drawn={record.tails.slowest[0].sample})
        if not element:
            return found
        found[missing] = len(element)
        room = len(element) - 1


def test_values_are_left_out_in_an_order(record: Record) -> None:
    found = sizes(record)
    assert list(found) == [
        "",
        "the work of images that are not drawn",
        "the work of single images",
        "the times of the parts of each image",
        "the raw values of all images",
    ]


def test_a_shortened_record_is_valid(record: Record) -> None:
    for missing, room in sizes(record).items():
        document, left_out = embedded(record, room)
        assert left_out == missing
        jsonschema.validate(document, record_schema())


def test_the_work_of_drawn_images_is_kept_longer(record: Record) -> None:
    document, _ = embedded(record, sizes(record)["the work of images that are not drawn"])
    traces = [one["trace"] for one in document["tails"]["slowest"]]
    assert traces[0]
    assert not any(traces[1:])


def test_a_record_without_parts_is_compared_as_before(record: Record, tmp_path: Path) -> None:
    element, _ = embed(record, sizes(record)["the times of the parts of each image"], drawn=())
    file = tmp_path / "page.html"
    file.write_text(f"<!DOCTYPE html>{element}", "utf-8")
    assert compare(read_record(file), record).ratios[0].value == 1.0


def test_a_record_without_raw_values_is_not_compared(record: Record, tmp_path: Path) -> None:
    element, _ = embed(record, sizes(record)["the raw values of all images"], drawn=())
    file = tmp_path / "page.html"
    file.write_text(f"<!DOCTYPE html>{element}", "utf-8")
    with pytest.raises(InputError, match="has no raw values, .*: pass the file of --json"):
        compare(record, read_record(file))


def test_too_many_images_leave_no_room_for_the_record(record: Record) -> None:
    many = replace(record, inputs=record.inputs * 1000)
    assert embed(many, 100_000, drawn=()) == ("", "the record")


def test_a_page_is_read_as_a_record(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page_of(record, COMMAND), "utf-8")
    found = read_record(file)
    assert found.latency == record.latency
    assert found.inputs == record.inputs


def test_a_page_without_a_record_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<!DOCTYPE html><p>no record</p>", "utf-8")
    message = "the page has no record: .*page.html: pass the file of `foveate bench --json`"
    with pytest.raises(InputError, match=message):
        read_record(file)
