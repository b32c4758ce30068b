# SPDX-License-Identifier: Apache-2.0
"""Large images that a server cuts into tiles. The working image of the bundle has 256 pixels at most."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.images import square_image
from tests.samples.serving import (
    Gate,
    document,
    encoded,
    send,
    server_process,
    server_thread,
    until,
)

from foveate.cli import invoke
from foveate.runtime import PipelineOptions
from foveate.serve import ServeOptions, create_app
from foveate.serve.pipelines import close_pipelines, open_pipelines

SMALL = (240, 40, 288, 88)
LARGE = encoded(square_image(500, 900, SMALL))
OBJECTS = "/v1/objects"


def test_a_small_object_of_a_large_image_is_found_in_a_tile(
    contrast_bundle: Path, tmp_path: Path
) -> None:
    with server_process(contrast_bundle, tmp_path, "--tiles", "256") as running:
        assert document(send(running.url, "/v1/bundle"))["tiles"] == "256"
        (only,) = document(send(running.url, OBJECTS, LARGE))["objects"]
        assert only["box"] == pytest.approx(SMALL, abs=2)
        page = document(send(running.url, "/v1/page", LARGE))
        assert len(page["detections"]) >= 1
        line = running.logged(event="request", route=OBJECTS)
        assert line["times"]["propose"] > 0


def test_tiles_that_do_not_fit_are_refused(
    contrast_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", str(contrast_bundle), "--port", "0", "--tiles", "256"]
    assert invoke([*words, "--tile-overlap", "200"]) == 1
    expected = (
        "foveate: --tile-overlap must be at most 128, half of the side of the tiles, found 200"
    )
    assert expected in " ".join(capsys.readouterr().err.split())


def test_a_slot_processes_one_tile_at_a_time(contrast_bundle: Path) -> None:
    for options, expected in ((PipelineOptions(), 3), (PipelineOptions(tiles=256), 1)):
        pipelines = open_pipelines(contrast_bundle, ServeOptions(slots=3), options)
        assert [one.options.max_in_flight for one in pipelines] == [expected]
        close_pipelines(pipelines)


def test_the_other_tiles_of_a_late_image_are_not_searched(contrast_bundle: Path) -> None:
    options, gate = ServeOptions(timeout=1.0), Gate()
    tiled = PipelineOptions(tiles=256, max_in_flight=1)
    with gate.pipeline(contrast_bundle, "refine", tiled) as pipeline:
        app = create_app([pipeline], options)
        with server_thread(app, options) as url:
            assert send(url, OBJECTS, LARGE).status == 504
            begun = gate.runs["propose"]
            gate.open()
            until(lambda: app.state.service.admission.idle)
            assert gate.runs["propose"] == begun > 0
