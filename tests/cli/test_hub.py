# SPDX-License-Identifier: Apache-2.0
"""Commands on a bundle of the Hugging Face Hub, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.samples.hub_server import Hub, serve_hub
from tests.samples.paths import IMAGES

from foveate.bundle import Bundle
from foveate.cli.verify import _default_report

pytest.importorskip("huggingface_hub", reason="needs the package huggingface-hub")

NAME = "hf://owner/small"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as hub:
        yield hub


def foveate(
    hub: Hub, folder: Path, *words: str, offline: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command in a directory, with a cache in it."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "foveate", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_run_prints_the_commit_and_asks_the_hub_once(
    hub: Hub, contrast_bundle: Path, tmp_path: Path
) -> None:
    commit = hub.upload("owner/small", contrast_bundle, "main")
    words = ("run", str(IMAGES / "cat.jpg"), "--bundle", NAME, "--json", "found.json")
    done = foveate(hub, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0].startswith(f"{NAME} is {NAME}@{commit}#sha256=")
    assert json.loads((tmp_path / "found.json").read_text("utf-8"))["images"]
    assert sum("resolve/main" in path for _, path in hub.requests) == 2  # its size, its content
    hub.requests.clear()
    again = foveate(hub, tmp_path, *words, offline=True)
    assert again.returncode == 0, again.stderr
    assert hub.requests == []


def test_evaluate_records_the_commit(hub: Hub, contrast_bundle: Path, tmp_path: Path) -> None:
    commit = hub.upload("owner/small", contrast_bundle, "v1")
    truth = {
        "images": [{"id": 1, "file_name": "cat.jpg", "height": 300, "width": 451}],
        "categories": [{"id": 1, "name": "red"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [9, 9, 50, 40], "area": 2000}
            | {"iscrowd": 0, "segmentation": [[9, 9, 59, 9, 59, 49, 9, 49]]}
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth), "utf-8")
    words = ["evaluate", f"{NAME}@v1", "--dataset", str(IMAGES), "--annotations", "truth.json"]
    done = foveate(hub, tmp_path, *words, "--json", "report.json")
    assert done.returncode == 0, done.stderr
    assert f"{NAME}@{commit}" in (tmp_path / "report.json").read_text("utf-8")


def test_a_bundle_that_is_not_on_the_hub_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = foveate(hub, tmp_path, "inspect", "hf://owner/none@v1")
    assert done.returncode == 1
    assert done.stderr == (
        "foveate: there is no such repository: hf://owner/none@v1: check the name; for a private "
        "one, run 'hf auth login' or set HF_TOKEN\n"
    )


def test_figures_of_a_downloaded_bundle_are_not_written_into_the_cache(
    contrast_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "blobs").mkdir()
    root = Path(shutil.copytree(contrast_bundle, tmp_path / "snapshots" / "cadcd26"))
    bundle = Bundle.open(root)
    assert _default_report(bundle, "") == Path(f"{bundle.manifest.name}-verify.json")
    local = Bundle.open(contrast_bundle)
    assert _default_report(local, "") == contrast_bundle.parent / "contrast-verify.json"
