# SPDX-License-Identifier: Apache-2.0
"""`foveate bench size` on simulated records."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bench.simulated import noisy, simulated_record

from foveate.bench.figures import RateSearch
from foveate.bench.options import BenchOptions
from foveate.bench.record_file import record_text
from foveate.cli import invoke


@pytest.fixture
def records(tmp_path: Path) -> list[str]:
    """Files of the records of a server that holds 8 images per second, and of batches."""
    offline = simulated_record(
        noisy(0), BenchOptions(scenario="offline", seconds=10, warm_up=0, tolerance=0)
    )
    machine = replace(offline.machine, fit=False, reasons=("it is hot",))
    served = replace(offline, search=RateSearch(bound=0.5, rate=8.0, trials=()), machine=machine)
    files = []
    for name, record in (("server", served), ("offline", offline)):
        file = tmp_path / f"{name}.json"
        file.write_text(record_text(record), "utf-8")
        files.append(str(file))
    return files


def test_a_table_has_a_row_per_record(
    records: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--rate", "100", "--price-per-hour", "0.9", "--price-per-hour", "0.2"]
    assert invoke(["bench", "size", *records, *words]) == 0
    captured = capsys.readouterr()
    rows = [re.split("  +", line.strip()) for line in captured.out.splitlines()]
    assert ["server.json", "500 ms", "8", "13", "96%", "11.70", "32.50"] in rows
    assert ["offline.json", "none", "9.95", "11", "91%", "2.20", "6.11"] in rows
    assert "replicas for 100 images per second" in captured.out
    assert f"warning: {records[0]} is unfit to publish: it is hot" in captured.err


def test_without_a_price_there_are_no_costs(
    records: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "size", *records, "--rate", "100"]) == 0
    assert "per hour" not in capsys.readouterr().out


def test_an_interrupted_search_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = simulated_record(noisy(0), BenchOptions(scenario="offline", seconds=10, warm_up=0))
    search = RateSearch(bound=0.5, rate=8.0, trials=(), complete=False)
    file = tmp_path / "record.json"
    file.write_text(record_text(replace(record, search=search, interrupted=True)), "utf-8")
    assert invoke(["bench", "size", str(file)]) == 0
    assert f"warning: {file} has partial figures" in capsys.readouterr().err


def test_the_sizes_are_written_as_json(
    records: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "size", *records, "--rate", "100", "--json", "-"]) == 0
    sizes = json.loads(capsys.readouterr().out)
    assert [one["replicas"] for one in sizes] == [13, 11]
    assert sizes[0]["cost_per_million"] is None


def test_a_record_of_another_scenario_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "record.json"
    record = simulated_record(noisy(0), BenchOptions(count=40, warm_up=0))
    file.write_text(record_text(record), "utf-8")
    assert invoke(["bench", "size", str(file)]) != 0
    assert "single-stream has no highest rate" in capsys.readouterr().err


def test_an_input_is_not_overwritten(
    records: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "size", records[0], "--json", records[0]]) != 0
    assert "the output would overwrite an input" in capsys.readouterr().err
