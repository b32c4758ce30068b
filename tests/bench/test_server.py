# SPDX-License-Identifier: Apache-2.0
"""`foveate bench --url` on a server in a process of its own, over loopback.

What is asserted is counted or ordered, and no time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from tests.samples.served import inference_server, seen

from foveate.bench.json_schema import record_schema
from foveate.cli import invoke

FAST = ["--count", "12", "--warm-up", "0"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("images") / "square.png"
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[10:50, 20:60] = 255
    cv2.imwrite(str(file), pixels)
    return file


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with inference_server() as url:
        yield url


def record_of(words: list[str], tmp_path: Path, *, status: int = 0) -> dict[str, Any]:
    file = tmp_path / "record.json"
    assert invoke(["bench", *words, "--json", str(file)]) == status
    document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    jsonschema.validate(document, record_schema())
    return document


def count(url: str, model: str) -> int:
    found: int = seen(url)["requests"].get(model, 0)
    return found


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--scenario", "offline"],
        # So many may be late, however busy the machine is.
        ["--scenario", "server", "--rate", "50", "--max-in-flight", "6"],
    ],
)
def test_every_request_is_counted_and_none_twice(
    words: list[str], server: str, image: Path, tmp_path: Path
) -> None:
    before = count(server, "sleep")
    words = ["--url", server, "--model", "sleep", str(image), *FAST, *words]
    record = record_of(words, tmp_path)
    outcome = record["outcome"]
    # Those of a closed loop that are in flight at the end are finished.
    assert 12 <= outcome["images"] < 12 + record["scenario"]["in_flight"]
    assert (outcome["refused"], outcome["unstarted"]) == (0, 0)
    assert count(server, "sleep") - before == outcome["images"] + outcome["warm_up"]


def test_no_more_requests_are_in_flight_than_asked_for(image: Path, tmp_path: Path) -> None:
    with inference_server() as url:
        words = ["--url", url, "--model", "sleep", str(image), *FAST, "--scenario", "offline"]
        record = record_of([*words, "--max-in-flight", "3"], tmp_path)
        assert seen(url)["most_in_flight"] == 3
    assert set(record["samples"]["worker"]) == {0, 1, 2}


def test_the_record_says_what_was_measured(server: str, image: Path, tmp_path: Path) -> None:
    words = ["--url", server, "--model", "sleep", str(image), *FAST]
    record = record_of(words, tmp_path)
    about = record["subject"]["server"]
    assert about["url"] == server
    assert about["metadata"]["version"] == "1.2"
    assert about["model"]["platform"] == "tests"
    assert (about["input"], about["binary"]) == ("image", True)
    assert about["outputs"] == ["boxes", "scores", "labels", "rle"]
    assert record["inputs"][0]["width"] == 80
    assert record["machine"]["fit"] is False
    assert "the server ran on this machine" in record["machine"]["reasons"][-1]
    # The pixels and a document of a few hundred bytes went out.
    assert 60 * 80 * 3 < record["resources"]["copied_to_device"] < 60 * 80 * 3 + 1000


def test_the_floor_of_a_server_is_described_as_requests(
    server: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "page.html"
    words = ["--url", server, "--model", "sleep", str(image), *FAST, "--html", str(file)]
    assert invoke(["bench", *words]) == 0
    described = "health checks of the server, which send no image"
    assert f"floor: {described}" in " ".join(capsys.readouterr().out.split())
    assert f"The harness floor: {described}." in file.read_text("utf-8")


def test_the_page_shows_a_server(server: str, image: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    words = ["--url", server, "--model", "sleep", str(image), *FAST, "--html", str(file)]
    assert invoke(["bench", *words]) == 0
    page = file.read_text("utf-8")
    assert f"samples 1.2 at {server}" in page
    assert "A server does not report the times of its networks." in page
    assert "<b>answer</b> takes most" in page
    assert "--limits" not in page


def test_what_cannot_be_measured_is_null_with_the_reason(
    server: str, image: Path, tmp_path: Path
) -> None:
    record = record_of(["--url", server, "--model", "sleep", str(image), *FAST], tmp_path)
    for place, reason in record["unmeasured"].items():
        value: Any = record
        for name in place.split("."):
            value = value[0] if isinstance(value, list) else value
            value = value[name]
        assert value in (None, {}), place
        assert reason
    assert {"stages", "resources.peak_resident_bytes"} <= set(record["unmeasured"])


def test_the_floor_asks_for_nothing(server: str, image: Path, tmp_path: Path) -> None:
    before = count(server, "sleep")
    record = record_of(["--url", server, "--model", "sleep", str(image), *FAST], tmp_path)
    sent = record["outcome"]["images"] + record["outcome"]["warm_up"]
    assert count(server, "sleep") - before == sent
    assert record["floor"]["latency"]["count"] == 12
    # The model sleeps for 10 ms, and the floor does not.
    assert record["latency"]["smallest"] > 0.01
    assert record["floor"]["latency"]["smallest"] < record["latency"]["smallest"]


def test_the_parts_of_a_request_add_up(server: str, image: Path, tmp_path: Path) -> None:
    record = record_of(
        ["--url", server, "--model", "sleep", str(image), *FAST, "--decoding"], tmp_path
    )
    parts = record["parts"]
    whole = parts["processing"]["mean"]
    named = [parts[name]["mean"] for name in ("host", "enqueue", "waiting_for_device")]
    assert sum(named) == pytest.approx(whole)
    # The server may begin its sleep of 10 ms before this thread notes that it has sent the request.
    assert parts["enqueue"]["mean"] + parts["waiting_for_device"]["mean"] > 0.01
    # Reading is a part of what the thread does before it sends.
    assert 0 < parts["reading"]["mean"] < parts["host"]["mean"]


def test_refused_requests_are_counted_and_have_no_latency(
    server: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = count(server, "busy")
    words = ["--url", server, "--model", "busy", str(image), *FAST, "--count", "30"]
    record = record_of(words, tmp_path)
    refusals = {status: one["count"] for status, one in record["refusals"].items()}
    outcome = record["outcome"]
    assert set(refusals) == {"429", "503"}
    assert outcome["refused"] == sum(refusals.values())
    assert outcome["images"] + outcome["refused"] == 30
    assert outcome["images"] == record["latency"]["count"] == 10
    # Two of three in the warm-up are refused as well, and are in no count.
    assert count(server, "busy") - before >= 30 + outcome["warm_up"]
    assert "images with the status 429, after " in capsys.readouterr().out


def test_a_rate_is_not_held_by_refusing(
    server: str, image: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--url", server, "--model", "busy", str(image), *FAST, "--count", "60"]
    record = record_of([*words, "--scenario", "server", "--rate", "60"], tmp_path, status=1)
    assert record["outcome"]["rate_held"] is False
    assert record["outcome"]["refused"] == 40
    line = capsys.readouterr().err.splitlines()[-1]
    assert "were reached and 40 images were refused: lower --rate, or search it" in line


def test_a_search_takes_refused_requests_for_slow_ones(
    server: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No answer takes a minute, and yet the search goes on to a lower rate, which has too few."""
    words = ["--url", server, "--model", "busy", str(image), "--warm-up", "0", "--seconds", "1"]
    words += ["--scenario", "server", "--rate", "450", "--p99", "60"]
    assert invoke(["bench", *words]) == 1
    printed = capsys.readouterr()
    assert "300 images/s" in printed.out
    assert "not enough images" in printed.out
    assert "no rate held a 99th percentile of 60 s, down to " in printed.err
    assert printed.err.endswith("raise --p99, or --seconds to try lower rates\n")


def test_a_turn_is_not_measured_in_part(
    server: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--url", server, "--model", "busy", str(image), *FAST, "--against", server]
    assert invoke(["bench", *words]) == 1
    err = capsys.readouterr().err
    assert "the server refused an image with the status " in err
    assert "in a turn: lower --max-in-flight, or measure the server alone" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "none"], "the server 'samples' has no model 'none' (status 404: unknown"),
        (["--model", "loading"], "the model 'loading' at {url} is not ready (status 503): wait"),
        (["--model", "other"], "the model 'other' has the inputs 'x'; expected 'encoded' or 'im"),
        (["--model", "sleep", "--input", "encoded"], "has the inputs 'image'; expected one named"),
        (["--model", "fixed"], "takes UINT8 of shape [32, 32, 3], and the image has UINT8 of [60"),
        (["--model", "full", "--seconds", "0.1"], "requests of the warm-up: wait until it is less"),
        (["--model", "failing"], "(status 500: the device is lost): square.png: look into the"),
        (["--model", "short"], "answered with outputs of the shapes {{'boxes': (0, 4), 'labels': "),
        (["--model", "cut"], "was lost (IncompleteRead(4 bytes read, 96 more expected)): square."),
        (["--threads", "2"], "--threads is an option of a pipeline in this process: omit it, or"),
        (["--limits"], "--limits is an option of a pipeline in this process"),
        (["--timeout", "0"], "timeout must be above 0, found 0"),
        (["--timeout", "1e300"], "timeout must be at most 1000000 seconds, found 1e+300"),
        (["none.jpg"], "none.jpg: check the path"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, server: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "--url", server, str(image), *words, "--warm-up", "0"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert message.format(url=server) in line
    assert line.startswith("foveate: ")


def test_options_of_a_server_need_one(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["bench", "mini", str(image), "--input", "image"]) == 1
    assert capsys.readouterr().err == (
        "foveate: --input is an option of a server: add --url URL, or omit it\n"
    )


def test_what_was_measured_before_a_server_fails_is_kept(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "record.json"
    with inference_server() as url:
        words = ["--url", url, "--model", "ending", str(image), "--warm-up", "0"]
        assert invoke(["bench", *words, "--count", "50", "--json", str(file)]) == 1
    record = json.loads(file.read_text("utf-8"))
    jsonschema.validate(record, record_schema())
    assert record["interrupted"]
    assert 0 < record["outcome"]["images"] < 50
    err = capsys.readouterr().err.splitlines()
    assert err[-2].endswith(f"images measured, partial figures in {file}")
    assert "status 500" in err[-1]
