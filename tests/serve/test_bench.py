# SPDX-License-Identifier: Apache-2.0
"""``foveate bench --url`` measures the server; what is asserted is counted, and no time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.serving import encoded, send, server_thread, square

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
