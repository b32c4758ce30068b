# SPDX-License-Identifier: Apache-2.0
"""The record, its schema and its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.bench.simulated import noisy, record_of_run, run_benchmark, simulated_record
from tests.samples.paths import ROOT

from foveate.bench.json_schema import record_schema
from foveate.bench.options import BenchOptions
from foveate.bench.record import Record
from foveate.bench.record_file import read_record, record_text
from foveate.errors import InputError

PUBLISHED = ROOT / "docs" / "reference" / "bench-record.schema.json"
OPTIONS = BenchOptions(seconds=20, warm_up=0, tolerance=0)


@pytest.fixture(scope="module")
def record() -> Record:
    return simulated_record(noisy(0), OPTIONS, images=2)


def test_the_published_schema_is_that_of_the_dataclasses() -> None:
    assert json.loads(PUBLISHED.read_text("utf-8")) == record_schema()


def test_the_published_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(PUBLISHED.read_text("utf-8")))


def test_a_record_is_valid(record: Record) -> None:
    jsonschema.validate(json.loads(record_text(record)), record_schema())


def test_a_record_without_images_is_valid() -> None:
    empty = simulated_record(noisy(0), BenchOptions(scenario="server", rate=0.01, seconds=1))
    assert empty.outcome.images == 0
    jsonschema.validate(json.loads(record_text(empty)), record_schema())


@pytest.mark.parametrize("change", [{"latency": 3}, {"extra": None}, {"schema": 0}])
def test_the_schema_refuses_other_documents(record: Record, change: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**asdict(record), **change}, record_schema())


def test_what_was_not_measured_is_null(record: Record) -> None:
    document = json.loads(record_text(record))
    assert document["resources"]["joules_per_image"] is None
    assert document["parts"]["reading"] is None
    assert document["parts"]["copies"] is None
    assert document["outcome"]["rate_held"] is None
    assert document["resources"]["copied_to_device"] is None
    assert document["machine"]["gpu"] is None


def test_a_record_is_read_as_it_was_written(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(record_text(record), "utf-8")
    assert read_record(file) == record


def test_the_floor_is_a_share_of_the_median() -> None:
    run = run_benchmark(lambda _: 0.2, OPTIONS)
    floor = run_benchmark(lambda _: 0.002, OPTIONS)
    found = record_of_run(run, floor=floor).floor
    assert found is not None
    assert found.share == pytest.approx(0.01)


def test_a_record_contains_another_one(record: Record, tmp_path: Path) -> None:
    from foveate.bench.record import Rival

    both = replace(record, against=Rival(record=record, comparison=None))
    jsonschema.validate(json.loads(record_text(both)), record_schema())
    file = tmp_path / "record.json"
    file.write_text(record_text(both), "utf-8")
    assert read_record(file) == both


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"the record cannot be read \(No such file or directory\): .*record.json: pass a"),
        ("{", r"the record is not JSON \(.*\): .*: pass a file that `foveate bench --json` wrote"),
        ("[]", "the file is not a record of foveate bench .*'the document' must be an object"),
        ('{"schema": 2}', "the record has the schema 2, expected 1: .*: measure it again with"),
        (
            '{"schema": 1}',
            "the file is not a record of foveate bench .the key 'foveate' is missing",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "record.json"
    if text is not None:
        file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        read_record(file)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("end", lambda values: values[:-1], r"'end' has \d+ entries, and 'input' has \d+"),
        ("input", lambda values: (2, *values[1:]), "the index of another image than the 2 of the"),
        (
            "end",
            lambda values: (values[0] - 99, *values[1:]),
            "does not arrive, start and end in t",
        ),
    ],
)
def test_raw_values_that_contradict_each_other_are_refused(
    name: str,
    change: Callable[[tuple[Any, ...]], tuple[Any, ...]],
    message: str,
    record: Record,
    tmp_path: Path,
) -> None:
    changed: dict[str, Any] = {name: change(getattr(record.samples, name))}
    broken = replace(record, samples=replace(record.samples, **changed))
    file = tmp_path / "record.json"
    file.write_text(record_text(broken), "utf-8")
    with pytest.raises(InputError, match=f"values of the record contradict each other .*{message}"):
        read_record(file)
