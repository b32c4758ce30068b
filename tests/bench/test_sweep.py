# SPDX-License-Identifier: Apache-2.0
"""The configurations of a sweep, its Pareto front, its record and its table."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from rich.console import Console
from tests.bench.simulated import SimulatedClock, inputs, record_of_run, simulated_benchmark
from tests.bench.sweeps import ALL, point, sweep_of
from tests.conftest import write_contrast_bundle
from tests.runtime.test_sizes import OWN, SHARED
from tests.samples.paths import ROOT

from foveate.bench.benchmark import run_in_turns
from foveate.bench.json_schema import sweep_schema
from foveate.bench.options import BenchOptions
from foveate.bench.ratios import CompareOptions, ratio_of_images
from foveate.bench.record_file import read_sweep, record_text
from foveate.bench.session import Target
from foveate.bench.sweep import Sweep, _figures, with_fronts
from foveate.bench.sweep_options import SweepOptions
from foveate.bench.sweep_record import Failure, SweptDataset
from foveate.bench.sweep_table import sweep_tables
from foveate.bundle import Bundle
from foveate.errors import InputError, OptionError
from foveate.runtime import PipelineOptions

PUBLISHED = ROOT / "docs" / "reference" / "sweep-record.schema.json"
DEFAULT = PipelineOptions()


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1.0, 0.5), (0.5, 0.4), (0.7, 0.3)], [True, True, False]),
        ([(1.0, 0.5), (0.5, 0.5)], [False, True]),
        ([(1.0, 0.5), (1.0, 0.5)], [True, True]),
        ([(1.0, 0.5), (1.0, 0.6)], [False, True]),
        ([(0.1, None), (1.0, 0.5)], [False, True]),
        ([], []),
    ],
)
def test_the_front_has_what_no_other_point_beats(
    points: list[tuple[float, float | None]], front: list[bool]
) -> None:
    found = with_fronts([point((recall,), time) for time, recall in points])
    assert ["AR@100" in one.datasets["a"].best_in for one in found] == front


def test_all_values_are_combined_once() -> None:
    options = SweepOptions(
        scales=(None, (0.177, 0.354)), top_k=(100, 20), max_side=(640,), threads=(1, 2)
    )
    found = options.configurations(OWN)
    assert len(found) == 8
    assert {one.scales for one in found} == {OWN.pyramid.scales, (0.1768, 0.3536)}
    assert {one.threads for one in found} == {1, 2}
    again = SweepOptions(scales=(None, OWN.pyramid.scales), top_k=(20, 20))
    assert len(again.configurations(OWN)) == 1
    overlaps = SweepOptions(scales=(None,), top_k=(20,), window_nms_iou=(0.6, 0.8))
    assert [one.window_nms_iou for one in overlaps.configurations(OWN)] == [0.6, 0.8]
    default = SweepOptions(scenario="offline", threads=(3, 1), max_in_flight=(4, 2)).default
    assert default == PipelineOptions(threads=3, max_in_flight=4)


def test_the_default_sweep_leaves_out_more_and_more_levels() -> None:
    found = SweepOptions().configurations(OWN)
    scales = list(dict.fromkeys(one.scales for one in found))
    assert scales == [
        OWN.pyramid.scales,
        (0.1768, 0.25, 0.3536, 0.5, 0.7071, 1.0),
        (0.25, 0.5, 1.0),
        (0.25, 0.5),
    ]
    assert {one.top_k for one in found} == {OWN.select.top_k, OWN.select.top_k // 2}
    single = replace(OWN, select=replace(OWN.select, top_k=1))
    assert {one.top_k for one in SweepOptions().configurations(single)} == {1}


def test_the_default_sweep_has_only_levels_that_a_shared_trunk_can_read() -> None:
    for one in SweepOptions().configurations(SHARED):
        assert one.applied_to(SHARED).pyramid.scales == one.scales


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"turns": 7}, "turns must be at least 8, found 7"),
        ({"timed": 0}, "timed must be at least 1, found 0"),
        ({"threads": ()}, "threads must have at least one value, found none"),
        ({"scenario": "server"}, "scenario must be "),
        (
            {"max_in_flight": (1, 2)},
            "max_in_flight changes nothing in the scenario 'single-stream', found 2 values: use the",
        ),
    ],
)
def test_wrong_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SweepOptions(**values)


def test_all_configurations_of_each_bundle_are_planned_after_the_default_one(
    tmp_path: Path, contrast_bundle: Path
) -> None:
    other = write_contrast_bundle(tmp_path / "other")
    target = Target(bundle=str(contrast_bundle), device="cpu", backend="auto", options=DEFAULT)
    top_k = Bundle.open(other).manifest.select.top_k
    options = SweepOptions(scales=(None,), top_k=(5, top_k), threads=(None, 1))
    for variants, planned in (([], 4), ([str(other)], 8)):
        sweep = Sweep(target, {}, options, variants=variants, progress=lambda *_: None)
        assert (sweep.record().planned, sweep.record().interrupted) == (planned, True)


def test_figures_of_single_classes_are_left_out_and_recall_is_that_of_the_proposals() -> None:
    def report(**values: float) -> dict[str, Any]:
        return {"figures": {n: {"value": v, "low": v, "high": v} for n, v in values.items()}}

    detections = report(**{"mask AR@100": 0.1, "mask AP": 0.2, "mask AP, class cat": 0.3})
    proposals = report(**{"mask AR@100": 0.4})
    found = _figures({"proposals": proposals, "detections": detections})
    assert {name: one.value for name, one in found.items()} == {"mask AR@100": 0.4, "mask AP": 0.2}


@pytest.mark.parametrize("scenario", ["single-stream", "offline"])
def test_ratios_of_some_images_are_theirs(scenario: Literal["single-stream", "offline"]) -> None:
    """The candidate takes half as long for the first image, and twice as long for the second."""
    factors, clock = (0.5, 2.0), SimulatedClock()
    options = BenchOptions(scenario=scenario, warm_up=0)
    runs = [
        simulated_benchmark(seconds, options, images=2, clock=clock)
        for seconds in (lambda index: 0.1 * factors[index], lambda _: 0.1)
    ]
    run_in_turns(runs[0], runs[1], 2, turns=8)
    candidate, baseline = (record_of_run(run, images=2) for run in runs)
    assert candidate.outcome.stopped == "count"
    for image, factor in enumerate(factors):
        found = ratio_of_images(baseline, candidate, CompareOptions(), [image])
        assert (found.value, found.low, found.high) == pytest.approx((factor,) * 3)


def test_the_published_schema_is_that_of_the_dataclasses() -> None:
    assert json.loads(PUBLISHED.read_text("utf-8")) == sweep_schema()
    jsonschema.Draft202012Validator.check_schema(sweep_schema())


def test_a_sweep_is_valid_and_read_as_it_was_written(tmp_path: Path) -> None:
    failed = Failure(configuration=point((), top_k=9).configuration, reason="too little memory")
    sweep = sweep_of([point((0.5, None)), point((0.4, None), 0.5, ALL[::2])], failed=(failed,))
    jsonschema.validate(json.loads(record_text(sweep)), sweep_schema())
    file = tmp_path / "sweep.json"
    file.write_text(record_text(sweep), "utf-8")
    assert read_sweep(file) == sweep


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"the record is not JSON .*: pass a file that `foveate bench sweep --json` wrote"),
        ('{"schema": 2}', "the record has the schema 2, expected 1"),
        ("{}", "not a record of foveate bench sweep .the key 'foveate' is missing"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        read_sweep(file)


def test_the_table_has_the_columns_in_which_configurations_differ() -> None:
    fast = point((0.4,), 0.5, ALL[::2], top_k=10)
    refused = point((), window_nms_iou=0.5, threads=2).configuration
    sweep = sweep_of(
        list(with_fronts([fast, point((0.5,))])),
        interrupted=True,
        planned=3,
        datasets={"a": SweptDataset(images=4, objects=9, timed=inputs(2))},
        failed=(Failure(configuration=refused, reason="too little memory"),),
    )
    console = Console(width=200, file=StringIO())
    with console.capture() as captured:
        console.print(*sweep_tables(sweep))
    text = captured.get()
    assert "contrast on a: 4 images, 9 objects (interrupted: 2 of 3 configurations)" in text
    assert "0.25 0.5 1" in text
    assert "0.49 to 0.51" in text
    assert "0.400*" in text
    assert "max side" not in text
    assert "2 images in 10 turns, with a 99 % interval" in text
    # The slowest comes first, and columns are those in which any configuration differs.
    assert text.index("0.500*") < text.index("0.400*")
    rows = [
        [cell.strip() for cell in line.split("   ") if cell.strip()] for line in text.split("\n")
    ]
    assert next(r for r in rows if "K" in r)[:5] == ["levels", "K", "overlap", "threads", "time"]
    assert any(row[1:4] == ["10", "0.618", "default"] for row in rows)
    assert "contrast: 1 of 3 configurations failed" in text
    assert any(row[1:] == ["20", "0.5", "2", "too little memory"] for row in rows)
