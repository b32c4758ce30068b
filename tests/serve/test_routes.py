# SPDX-License-Identifier: Apache-2.0
"""The plain routes of a server in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.serving import ServerProcess, document, encoded, send, server_process, square

import foveate

IMAGE = square()
FILE = encoded(IMAGE)


@pytest.fixture(scope="module")
def server(
    contrast_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    with server_process(contrast_bundle, tmp_path_factory.mktemp("serve")) as running:
        yield running


@pytest.fixture(scope="module")
def found(contrast_bundle: Path) -> Iterator[tuple[foveate.Detections, foveate.Proposals]]:
    with foveate.load(contrast_bundle) as pipeline:
        yield pipeline(IMAGE), pipeline.propose(IMAGE)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".jpg"])
def test_the_bytes_of_a_file_are_an_image(server: ServerProcess, suffix: str) -> None:
    answer = send(server.url, "/v1/objects", encoded(IMAGE, suffix))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert document(answer)["image"] == {"width": 320, "height": 240}
    assert document(answer)["objects"][0]["name"] == "red"


@pytest.mark.parametrize("route", ["/v1/objects", "/v1/page"])
@pytest.mark.parametrize(
    ("kind", "body", "otherwise"),
    [
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n" + FILE + b"\r\n--x--", "convert it to "),
        # What `curl -d` makes of a file.
        (
            "application/x-www-form-urlencoded",
            FILE.replace(b"\n", b""),
            "convert it to JPEG or PNG",
        ),
        ("application/x-www-form-urlencoded", FILE[:-20], "copy or download the file again"),
    ],
)
def test_what_a_client_made_of_an_image_is_answered_with_how_to_send_it(
    server: ServerProcess, route: str, kind: str, body: bytes, otherwise: str
) -> None:
    answer = send(server.url, route, body, {"Content-Type": kind})
    assert answer.status == 400
    remedy = document(answer)["error"]["remedy"]
    assert remedy.startswith(
        f"send the file as it is: curl --data-binary @photo.jpg; if you already do, {otherwise}"
    )


def test_objects_are_those_of_the_pipeline(
    server: ServerProcess, found: tuple[foveate.Detections, foveate.Proposals]
) -> None:
    objects = document(send(server.url, "/v1/objects", FILE))["objects"]
    expected, _ = found
    assert len(objects) == len(expected) > 0
    np.testing.assert_allclose([one["box"] for one in objects], expected.boxes, atol=1e-3)
    np.testing.assert_allclose([one["score"] for one in objects], expected.scores, atol=1e-6)
    assert [one["label"] for one in objects] == expected.labels.tolist()
    assert [one["mask"] for one in objects] == expected.masks.rle()


def test_proposals_are_those_of_the_pipeline(
    server: ServerProcess, found: tuple[foveate.Detections, foveate.Proposals]
) -> None:
    proposals = document(send(server.url, "/v1/proposals", FILE))["proposals"]
    _, expected = found
    assert len(proposals) == len(expected) > 1
    np.testing.assert_allclose([one["box"] for one in proposals], expected.boxes, atol=1e-3)
    assert [one["mask"] for one in proposals] == expected.masks.rle()


def test_an_overlay_is_sent_on_request(
    server: ServerProcess, found: tuple[foveate.Detections, foveate.Proposals]
) -> None:
    detections, proposals = found
    drawn = {"/v1/objects": detections.draw(IMAGE), "/v1/proposals": proposals.draw(IMAGE)}
    for path, expected in drawn.items():
        answer = send(server.url, path, FILE, {"Accept": "text/html, image/png"})
        assert answer.headers["content-type"] == "image/png"
        overlay = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
        assert overlay is not None
        np.testing.assert_array_equal(overlay[..., ::-1], expected)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("image/*", "image/png"),
        ("application/json;q=0.1, image/png;q=0.2", "image/png"),
        ("image/png;q=0.1, */*", "application/json"),
        ("image/png, */*;q=0.5", "image/png"),
    ],
)
def test_the_preferred_type_is_sent(server: ServerProcess, accept: str, kind: str) -> None:
    answer = send(server.url, "/v1/objects", FILE, {"Accept": accept})
    assert answer.headers["content-type"] == kind


def test_parameters_select_results(
    server: ServerProcess, found: tuple[foveate.Detections, foveate.Proposals]
) -> None:
    detections, proposals = found
    threshold = float(proposals.scores[:2].mean())  # above all but the best
    query = f"/v1/proposals?score_threshold={threshold}"
    assert len(document(send(server.url, query, FILE))["proposals"]) == 1
    query = "/v1/proposals?max_proposals=2"
    assert len(document(send(server.url, query, FILE))["proposals"]) == 2
    high = float(detections.scores.max()) + 1e-3
    query = f"/v1/objects?score_threshold={min(high, 1.0)}&max_detections=1"
    assert len(document(send(server.url, query, FILE))["objects"]) <= 1


def test_the_page_takes_images(
    server: ServerProcess, found: tuple[foveate.Detections, foveate.Proposals]
) -> None:
    page = send(server.url, "/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["x-frame-options"] == "DENY"
    assert 'fetch("v1/page"' in page.body.decode()
    record = document(send(server.url, "/v1/page", FILE))
    detections, proposals = found
    wanted = [one for one in record["detections"] if one["score"] >= record["score_threshold"]]
    assert len(wanted) == len(detections)
    assert len(record["proposals"]) == len(proposals)
    assert record["stages"].keys() == {"propose", "refine", "features", "classify", "other"}
    assert (record["width"], record["height"]) == (320, 240)


def test_the_bundle_is_described(server: ServerProcess) -> None:
    about = document(send(server.url, "/v1/bundle"))
    assert (about["name"], about["class_names"]) == ("contrast", ["red", "green", "blue"])
    assert (about["max_detections"], about["max_proposals"]) == (10, 20)
    assert about["score_threshold"] == 0.25


def test_the_identifier_of_a_request_comes_back_and_is_logged(server: ServerProcess) -> None:
    answer = send(server.url, "/v1/objects", FILE, {"X-Request-Id": "from-me.1"})
    assert answer.headers["x-request-id"] == "from-me.1"
    line = server.logged(event="request", id="from-me.1")
    assert (line["route"], line["status"], line["pixels"]) == ("/v1/objects", 200, 240 * 320)
    assert line["bytes"] == len(FILE)
    times = line["times"]
    names = {"decode", "propose", "refine", "features", "classify", "pipeline", "encode"}
    assert times.keys() == names
    assert line["waiting"] + times["decode"] + times["pipeline"] < line["seconds"]
    assert "propose;dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize("given", ["", "two words", "x" * 200, "line\tbreak"])
def test_an_identifier_that_cannot_stand_in_a_log_is_replaced(
    server: ServerProcess, given: str
) -> None:
    ids = {
        send(server.url, "/v1/bundle", headers={"X-Request-Id": given}).headers["x-request-id"]
        for _ in range(2)
    }
    assert len(ids) == 2
    assert given not in ids


def test_metrics_count_what_was_done(server: ServerProcess) -> None:
    before = metrics(server.url)
    assert send(server.url, "/v1/objects", FILE).status == 200
    assert send(server.url, "/v1/objects", b"nonsense").status == 400
    after = metrics(server.url)

    def change(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    labels = 'model="foveate",version="1"'
    assert change(f"nv_inference_request_success{{{labels}}}") == 1
    other = 'nv_inference_request_failure{model="foveate",reason="OTHER",version="1"}'
    assert change(other) == 1
    assert change('foveate_requests_total{route="/v1/objects",status="400"}') == 1
    infer = f"nv_inference_compute_infer_duration_us{{{labels}}}"
    assert 0 < change(infer) < change(f"nv_inference_request_duration_us{{{labels}}}")
    assert change("foveate_image_pixels_sum") == 240 * 320
    assert change('foveate_stage_seconds_count{stage="classify"}') == 1
    assert after[f"foveate_slots{{{labels}}}"] == 1
    assert after[f"foveate_slots_busy{{{labels}}}"] == 0
    assert after[f"nv_inference_pending_request_count{{{labels}}}"] == 0
    assert after["process_resident_memory_bytes"] > 1e7
    assert not any(name.startswith("nv_gpu") for name in after)


def metrics(url: str) -> dict[str, float]:
    text = send(url, "/metrics").body.decode()
    rows: list[Any] = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in rows}
