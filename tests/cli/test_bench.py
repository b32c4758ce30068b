# SPDX-License-Identifier: Apache-2.0
"""`foveate bench` on a small bundle, and `foveate bench compare`."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from tests.bench.simulated import noisy, simulated_record

from foveate.bench.facts import MEANINGS
from foveate.bench.figures import RateSearch, RateTrial
from foveate.bench.json_schema import record_schema
from foveate.bench.options import BenchOptions
from foveate.bench.record_file import record_text
from foveate.cli import invoke

# Numbers of images and not of seconds, so that a busy machine changes nothing.
FAST = ["--count", "8", "--warm-up", "0", "--threads", "1"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("images") / "square.png"
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[10:50, 20:60] = 255
    cv2.imwrite(str(file), pixels)
    return file


def record_of(words: list[str], tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "record.json"
    assert invoke(["bench", *words, "--json", str(file)]) == 0
    document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    jsonschema.validate(document, record_schema())
    return document


@pytest.mark.parametrize("scenario", ["single-stream", "offline"])
def test_a_bundle_is_measured(
    scenario: str,
    contrast_bundle: Path,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(contrast_bundle), str(image), *FAST, "--scenario", scenario]
    record = record_of(words, tmp_path)
    assert record["outcome"]["images"] >= 8
    assert record["scenario"]["name"] == scenario
    assert record["inputs"][0]["name"] == "square.png"
    assert set(record["stages"]) == {"propose", "refine", "features", "classify"}
    assert {*record["stages"], *record["operations"]} <= set(MEANINGS)
    assert record["subject"]["backend"] == "onnxruntime"
    assert record["outcome"]["load"] > 0
    assert record["floor"]["share"] > 0
    out = capsys.readouterr().out
    assert f"contrast fp32, onnxruntime on cpu, 1 thread: {scenario}" in out
    assert "where the time goes, per image" in out
    assert "select_top_k" in out


def test_a_server_is_measured(contrast_bundle: Path, image: Path, tmp_path: Path) -> None:
    words = [str(contrast_bundle), str(image), *FAST, "--scenario", "server", "--rate", "20"]
    words += ["--max-in-flight", "4"]  # so many may be late, however busy the machine is
    record = record_of(words, tmp_path)
    assert record["scenario"]["rate"] == 20
    arrivals = record["samples"]["arrival"]
    measured = [
        a for a, warm in zip(arrivals, record["samples"]["warm_up"], strict=True) if not warm
    ]
    assert len(measured) == 8
    assert record["floor"]["rate"] == 25


def test_a_trace_is_written(contrast_bundle: Path, image: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    words = ["bench", str(contrast_bundle), str(image), *FAST, "--trace", str(file)]
    assert invoke(words) == 0
    events = json.loads(file.read_text("utf-8"))["traceEvents"]
    assert {"propose", "select_top_k", "enqueue"} <= {one["name"] for one in events}


def test_a_page_is_written_and_compared_as_a_record(
    contrast_bundle: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, record = str(tmp_path / "report.html"), str(tmp_path / "record.json")
    words = [str(contrast_bundle), str(image), *FAST, "--count", "30"]
    words += ["--html", page, "--json", record]
    assert invoke(["bench", *words]) == 0
    assert invoke(["bench", "compare", page, record]) == 0
    assert "1.000" in capsys.readouterr().out


def test_the_record_on_stdout_is_all_that_is_there(
    contrast_bundle: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", str(contrast_bundle), str(image), *FAST, "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["schema"] == 1
    assert "where the time goes" in printed.err


def test_a_bundle_is_measured_in_turns_with_itself(
    contrast_bundle: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "record.json"
    words = [str(contrast_bundle), str(image), *FAST, "--against", "onnxruntime"]
    status = invoke(["bench", *words, "--json", str(file)])
    record = json.loads(file.read_text("utf-8"))
    comparison = record["against"]["comparison"]
    assert comparison["paired"]
    assert status == (1 if comparison["verdict"] == "slower" else 0)
    assert len(record["samples"]["input"]) == len(record["against"]["record"]["samples"]["input"])
    for one in (record, record["against"]["record"]):  # two pipelines share the memory
        assert one["resources"]["peak_resident_bytes"] is None
        assert one["resources"]["processor_seconds"] > 0
        assert "resources.peak_resident_bytes" in one["unmeasured"]
    assert "* decides: " in capsys.readouterr().out


def test_the_accuracy_of_the_configuration_is_measured(
    contrast_bundle: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [[20, 10, 60, 10, 60, 50, 20, 50]],
        "area": 1600,
        "bbox": [20, 10, 40, 40],
        "iscrowd": 0,
    }
    document = {
        "images": [{"id": 1, "file_name": image.name, "height": 60, "width": 80}],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "violet"}],
        "annotations": [annotation, {**annotation, "id": 2, "category_id": 2}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(document), "utf-8")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / image.name).write_bytes(image.read_bytes())
    words = [str(contrast_bundle), str(image), *FAST, "--dataset", str(tmp_path)]
    record = record_of(words, tmp_path)
    assert set(record["accuracy"]) == {"proposals", "detections"}
    assert record["accuracy"]["proposals"]["dataset"]["objects"] == 2
    assert "lacks 1 of the 2 classes with objects (violet)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-bundle"], "there is no such bundle: no-bundle: pass a directory, a shipped name"),
        (["mini", "none.jpg"], "none.jpg: check the path"),
        (["mini", "--backend", "none"], "there is no backend 'none': use auto, tensorrt"),
        (["mini", "--device", "cpu", "--backend", "tensorrt"], "the backend 'tensorrt' runs on a "),
        (["mini", "--scenario", "burst"], "scenario must be "),
        (["mini", "--scenario", "server"], "the scenario 'server' needs a rate of arrivals"),
        (["mini", "--rate", "2"], "rate belongs to the scenario 'server', found 'single-stream'"),
        (["mini", "--seconds", "0"], "seconds must be above 0, found 0"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", *words]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_an_image_is_not_overwritten(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["bench", "mini", str(image), "--json", str(image)]) == 1
    assert "the output would overwrite an input" in capsys.readouterr().err


def test_a_rate_that_cannot_be_held_is_one_line(
    contrast_bundle: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--seconds", "1", "--scenario", "server", "--rate", "100000"]
    assert invoke(["bench", str(contrast_bundle), str(image), *words]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("foveate: the rate of 100000 images per second cannot be held, ")
    assert line.endswith(" were reached: lower --rate, or search it with --p99")


def test_too_short_a_run_is_one_line(
    contrast_bundle: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--seconds", "0.000001", "--warm-up", "0"]
    assert invoke(["bench", str(contrast_bundle), str(image), *words]) == 1
    printed = capsys.readouterr()
    assert "not enough runs, needs 6" in printed.out
    line = printed.err.splitlines()[-1]
    assert line.startswith("foveate: 1 image is too few for any percentile, which needs 6: they ta")
    assert "so pass --seconds " in line


def test_too_few_turns_name_the_option_that_limits_them(
    contrast_bundle: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--count", "6", "--seconds", "300", "--warm-up", "0", "--against", "onnxruntime"]
    assert invoke(["bench", str(contrast_bundle), str(image), *words]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "foveate: the turns are too few for a comparison, which needs 8 of each: raise --count"
    )


@pytest.mark.parametrize(("options", "count"), [([], 368), (["--count", "500"], 500)])
def test_a_search_in_too_short_a_time_is_one_line(
    options: list[str],
    count: int,
    contrast_bundle: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--seconds", "0.000001", "--scenario", "server", "--p99", "1", "--rate", "10"]
    words += options
    assert invoke(["bench", str(contrast_bundle), str(image), *words]) == 1
    printed = capsys.readouterr()
    assert "10 images/s" in printed.out
    assert "not enough images" in printed.out
    assert printed.err.splitlines()[-1].startswith(
        f"foveate: --seconds is too short for the {count} images that each rate needs, up to "
    )


def test_an_interrupted_run_keeps_what_was_measured(
    contrast_bundle: Path, image: Path, tmp_path: Path
) -> None:
    file = tmp_path / "record.json"
    words = ["bench", str(contrast_bundle), str(image), "--seconds", "600", "--tolerance", "0"]
    words += ["--threads", "1"]
    command = [sys.executable, "-m", "foveate", *words, "--warm-up", "0", "--json", str(file)]
    command += ["--html", str(file.with_suffix(".html"))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # the first line of progress: the measurement has begun
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130
    assert f"images measured, partial figures in {file} and {file.with_suffix('.html')}" in err
    assert "(interrupted: partial figures)" in file.with_suffix(".html").read_text("utf-8")
    record = json.loads(file.read_text("utf-8"))
    jsonschema.validate(record, record_schema())
    assert record["interrupted"]
    assert record["outcome"]["images"] > 0
    assert record["floor"] is None


@pytest.fixture
def records(tmp_path: Path) -> tuple[str, str, str]:
    """Files of a baseline, of one as fast, and of one that is a tenth slower."""
    options = BenchOptions(seconds=40, warm_up=0, tolerance=0)
    paths = []
    for number, mean in enumerate((0.1, 0.1, 0.11)):
        file = tmp_path / f"{number}.json"
        file.write_text(record_text(simulated_record(noisy(number, mean=mean), options)), "utf-8")
        paths.append(str(file))
    return paths[0], paths[1], paths[2]


def test_the_status_of_a_comparison_is_that_of_its_interval(
    records: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    baseline, same, slower = records
    assert invoke(["bench", "compare", baseline, same]) == 0
    assert "* decides: no difference shown" in capsys.readouterr().out
    assert invoke(["bench", "compare", baseline, slower]) == 1
    assert "* decides: slower" in capsys.readouterr().out
    assert invoke(["bench", "compare", slower, baseline]) == 0
    assert invoke(["bench", "compare", baseline, slower, "--tolerance", "0.5"]) == 0


def test_a_comparison_as_markdown_and_json(
    records: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline, _, slower = records
    file = tmp_path / "comparison.json"
    words = ["--markdown", "-", "--json", str(file)]
    assert invoke(["bench", "compare", baseline, slower, *words]) == 1
    assert capsys.readouterr().out.startswith("**simulated fp32, onnxruntime on cpu** against")
    assert json.loads(file.read_text("utf-8"))["verdict"] == "slower"


def test_two_searches_are_compared_without_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for rate in (4.0, 3.0):
        record = simulated_record(noisy(0), BenchOptions(scenario="server", rate=rate, seconds=9))
        trials = tuple(
            RateTrial(rate=one, images=400, p99=0.5, low=0.4, high=0.6, held=one == rate)
            for one in (rate, 1.05 * rate)
        )
        search = RateSearch(bound=0.6, rate=rate, trials=trials)
        scenario = replace(record.scenario, p99=0.6)
        file = tmp_path / f"{rate}.json"
        file.write_text(record_text(replace(record, scenario=scenario, search=search)), "utf-8")
        files.append(str(file))
    assert invoke(["bench", "compare", *files]) == 0
    out, err = capsys.readouterr()
    assert "verdict: not decided" in out
    assert "3 images/s" in out
    assert "a highest rate has no confidence interval" in err


def test_what_is_no_record_is_one_line(
    records: tuple[str, str, str], image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "compare", records[0], str(image)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("foveate: the record is not JSON")
    assert err.count("\n") == 1


def test_help_without_a_command_is_that_of_the_measurement(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["bench", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--scenario" in out
    assert "foveate bench compare A B" in out


def test_limits_and_advice_are_in_the_record_and_in_the_table(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mini", str(image), *FAST, "--limits"]
    record = record_of(words, tmp_path)
    stages = record["limits"]["stages"]
    assert set(stages) == {"propose", "refine", "features", "classify"}
    line = stages["propose"]["roofline"]
    assert line["ratio"] == pytest.approx(line["least_seconds"] / line["seconds"])
    measured = record["stages"]["propose"]
    assert measured["smallest"] <= line["seconds"] <= measured["largest"]
    assert record["advice"] is not None
    table = capsys.readouterr().out
    assert "what the machine allows" in table
    assert all(one["text"].split(".")[0][:30] in table for one in record["advice"])


def test_the_page_repeats_the_command_with_a_change(
    contrast_bundle: Path, image: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    given = [str(contrast_bundle), str(image), "--threads", "1", "--top-k", "5", "--decoding"]
    words = [*given, "--count", "8", "--warm-up", "0"]
    assert invoke(["bench", *words, "--html", str(page)]) == 0
    expected = ["foveate", "bench", *given[:2], "--count", "8", "--warm-up", "0.0", "--decoding"]
    expected += ["--threads", "1", "--top-k", "5", "--limits"]
    assert f"<code>{escape(shlex.join(expected))}</code>" in page.read_text("utf-8")


def test_without_limits_nothing_of_them_is_measured(
    contrast_bundle: Path, image: Path, tmp_path: Path
) -> None:
    record = record_of([str(contrast_bundle), str(image), *FAST], tmp_path)
    assert record["limits"] is record["advice"] is None


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["bench", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == record_schema()
