# SPDX-License-Identifier: Apache-2.0
"""The results of the benchmarks, and the README that is made from them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.samples.paths import ROOT

from figures import Conditions, Figure, Measurement, Result, read, report, show
from readme import readme

RESULTS = sorted((ROOT / "benchmarks" / "results").iterdir())
CONDITIONS = Conditions(machine="Z80", load="none", date="2026-01-01", commit="abc")
TABLE = Measurement(
    caption="One:", conditions=CONDITIONS, columns=("", "time, s"), rows=(("a", Figure(value=1)),)
)
RESULT = Result(title="Speed", question="How fast?", measurements=(TABLE,))


def test_the_readme_is_what_the_results_say() -> None:
    committed = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert committed == readme(), "run: make figures"


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_results_are_small_and_name_no_file_of_the_machine(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text) < 30_000
    assert "/tmp/" not in text  # noqa: S108 - no file is written there
    assert str(Path.home()) not in text


def test_a_measurement_replaces_that_of_the_same_caption_and_machine(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    other = replace(TABLE, caption="Two:")
    report(replace(RESULT, measurements=(TABLE, other)), file)
    faster = replace(TABLE, rows=(("a", Figure(value=0.5)),))
    report(replace(RESULT, measurements=(faster,)), file)
    assert read(file).measurements == (faster, other)


def test_a_measurement_on_another_machine_stands_beside_the_first(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    report(RESULT, file)
    elsewhere = replace(TABLE, conditions=replace(CONDITIONS, machine="6502"))
    report(replace(RESULT, measurements=(elsewhere,)), file)
    assert read(file).measurements == (TABLE, elsewhere)


def test_notes_stay_when_a_result_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    file.write_text(json.dumps(asdict(replace(RESULT, notes=("By hand.",)))), encoding="utf-8")
    report(RESULT, file)
    assert read(file).notes == ("By hand.",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None, "colour": "red"}, "colour"),
        ({"measurements": [{**asdict(TABLE), "columns": ["one"]}]}, "more or fewer cells: One:"),
        ({"measurements": [{**asdict(TABLE), "rows": [["a", 3]]}]}, "null, found 3"),
        ({"notes": ...}, "notes"),
    ],
)
def test_a_file_of_another_form_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    content = {k: v for k, v in {**asdict(RESULT), **change}.items() if v is not ...}
    file = tmp_path / "speed.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=f"speed.json is no result of a benchmark: .*{message}"):
        read(file)


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(value=0.5817, low=0.57, high=0.5999), "0.582 (0.570 to 0.600)"),
        (Figure(value=1234.5), "1,230"),
        (Figure(value=0.99961), "1.00"),
        (Figure(value=0), "0"),
        (None, "not measured"),
        ("none", "none"),
    ],
)
def test_figures_are_shown_with_three_digits(figure: Figure | str | None, text: str) -> None:
    assert show(figure) == text
