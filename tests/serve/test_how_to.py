# SPDX-License-Identifier: Apache-2.0
"""The commands of the how-to page run against a server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.docs.blocks import read_blocks
from tests.samples.paths import ROOT
from tests.samples.serving import encoded, server_thread, square

from foveate.serve import ServeOptions, create_app

DOCUMENT = ROOT / "docs" / "how-to" / "serve.md"
ADDRESS = "http://127.0.0.1:8000"


def test_the_commands_of_the_page_run(contrast_bundle: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "photo.jpg").write_bytes(encoded(square(), ".jpg"))
    commands = [
        command
        for block in read_blocks(DOCUMENT)
        for command, _ in block.commands
        if command.startswith("curl") and ADDRESS in command
    ]
    assert len(commands) == 5
    options = ServeOptions()
    with server_thread(create_app(contrast_bundle, options), options) as url:
        answers = [run(command.replace(ADDRESS, url), tmp_path) for command in commands]
    objects, _, few, proposals, metrics = answers
    assert json.loads(objects)["objects"][0]["name"] == "red"
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(few)["objects"]) <= 3
    assert len(json.loads(proposals)["proposals"]) == 10
    assert "nv_inference_request_success" in metrics


def run(command: str, folder: Path) -> str:
    """Run a line of shell as a reader would, but fail on an error of HTTP."""
    line = command.replace("curl", "curl --silent --show-error --fail", 1)
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, check=True)
    return done.stdout.decode()


def test_the_page_names_every_route_and_every_metric() -> None:
    text = DOCUMENT.read_text("utf-8")
    for route in ("/v1/objects", "/v1/proposals", "/v1/page", "/v1/bundle", "/metrics"):
        assert f"{route}`" in text
    app = create_app()
    missing = {path for path in app.state.openapi["paths"] if path.startswith("/v1")}
    assert {path for path in missing if path not in text} == set()
