# SPDX-License-Identifier: Apache-2.0
"""``foveate bench --url`` measures the server; what is asserted is counted, and no time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.serving import encoded, send, server_thread, square

from foveate.bench.json_schema import record_schema
from foveate.cli import invoke
from foveate.serve import ServeOptions, create_app

OPTIONS = ServeOptions(slots=1, queue=1)


@pytest.fixture(scope="module")
def server(contrast_bundle: Path) -> Iterator[str]:
    with server_thread(create_app(contrast_bundle, OPTIONS), OPTIONS) as url:
        yield url


@pytest.mark.parametrize("sent", ["image", "encoded"])
def test_the_benchmark_measures_the_server(server: str, tmp_path: Path, sent: str) -> None:
    image, record_file = tmp_path / "square.png", tmp_path / "record.json"
    image.write_bytes(encoded(square()))
    before = successes(server)
    words = ["bench", "--url", server, str(image), "--input", sent, "--count", "12"]
    assert invoke([*words, "--warm-up", "0", "--json", str(record_file)]) == 0
    record = json.loads(record_file.read_text("utf-8"))
    outcome, about = record["outcome"], record["subject"]["server"]
    assert outcome["images"] == 12
    assert successes(server) - before == 12 + outcome["warm_up"]
    assert (about["metadata"]["name"], about["input"], about["binary"]) == ("foveate", sent, True)
    assert about["outputs"] == ["boxes", "scores", "labels", "rle"]


def test_a_pipeline_in_process_is_measured_in_turns_with_the_server(
    server: str, contrast_bundle: Path, tmp_path: Path
) -> None:
    image, record_file = tmp_path / "square.png", tmp_path / "record.json"
    image.write_bytes(encoded(square()))
    words = ["bench", str(image), "--threads", "1", "--url", server, "--count", "12"]
    words += ["--against", str(contrast_bundle), "--warm-up", "0", "--json", str(record_file)]
    status = invoke(words)
    record = json.loads(record_file.read_text("utf-8"))
    jsonschema.validate(record, record_schema())
    other = record["against"]["record"]
    assert other["subject"]["bundle"] == "contrast"
    assert other["subject"]["server"] is None
    assert [one["sha256"] for one in other["inputs"]] == [one["sha256"] for one in record["inputs"]]
    assert len(other["samples"]["input"]) == len(record["samples"]["input"])
    comparison = record["against"]["comparison"]
    assert comparison["candidate"] == f"foveate of foveate at {server}"
    assert status == (1 if comparison["verdict"] == "slower" else 0)


def test_refusals_are_counted(server: str, tmp_path: Path) -> None:
    image, record_file = tmp_path / "square.png", tmp_path / "record.json"
    image.write_bytes(encoded(square()))
    words = ["bench", "--url", server, str(image), "--count", "40", "--max-in-flight", "8"]
    words += ["--scenario", "offline", "--warm-up", "0", "--json", str(record_file)]
    assert invoke(words) == 0
    record = json.loads(record_file.read_text("utf-8"))
    assert record["outcome"]["refused"] == record["refusals"]["429"]["count"] > 0
    assert set(record["refusals"]) == {"429"}


def successes(url: str) -> float:
    name = 'nv_inference_request_success{model="foveate",version="1"} '
    return float(send(url, "/metrics").body.decode().partition(name)[2].partition("\n")[0])
