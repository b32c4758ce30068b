# SPDX-License-Identifier: Apache-2.0
"""Bundles of the Hugging Face Hub, downloaded from a stand-in of it."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.samples.hub_server import Hub, serve_hub

import foveate
from foveate.bundle import Bundle, read_bundle, write_presets
from foveate.bundle.hub import pin_commit
from foveate.errors import BundleError, MissingExtraError, ServerError

constants = pytest.importorskip("huggingface_hub.constants")

NAME = "hf://owner/small"
ZEROS = "0" * 64


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, with an empty cache of its own."""
    with serve_hub() as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield hub


@pytest.fixture
def bundle(contrast_bundle: Path) -> Path:
    return contrast_bundle


@pytest.fixture
def other(bundle: Path, tmp_path: Path) -> Path:
    """The bundle under another name."""
    folder = Path(shutil.copytree(bundle, tmp_path / "other"))
    change(folder, "manifest.json", '"name": "', '"name": "other-')
    return folder


def change(folder: Path, name: str, old: str, new: str) -> None:
    file = folder / name
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def test_a_downloaded_bundle_finds_what_the_local_one_finds(hub: Hub, bundle: Path) -> None:
    hub.upload("owner/small", bundle, "main")
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[20:60, 30:70] = 255, 0, 0
    with foveate.load(NAME) as downloaded, foveate.load(bundle) as local:
        found, expected = downloaded(pixels), local(pixels)
    assert len(expected.scores) > 0
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(np.asarray(found.masks), np.asarray(expected.masks))


def test_only_the_files_of_the_manifest_are_downloaded(hub: Hub, bundle: Path) -> None:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    hub.commit("owner/small", {**files, "README.md": b"# Small", "video.mp4": b"large"}, "main")
    listed = Bundle.open(NAME).manifest.files
    assert sorted(hub.downloads()) == sorted(["manifest.json", *listed])


@pytest.mark.parametrize("revision", ["main", "v1", "refs/pr/1"])
def test_a_revision_is_a_branch_a_tag_or_a_reference(
    hub: Hub, bundle: Path, other: Path, revision: str
) -> None:
    commit = hub.upload("owner/small", other, revision)
    hub.upload("owner/small", bundle, "unused")
    opened = Bundle.open(f"{NAME}@{revision}")
    assert opened.root.name == commit
    assert opened.manifest.name.startswith("other-")


def test_a_commit_that_is_in_the_cache_needs_no_network(hub: Hub, bundle: Path) -> None:
    commit = hub.upload("owner/small", bundle, "main")
    assert pin_commit(NAME) == f"{NAME}@{commit}"
    hub.requests.clear()
    Bundle.open(f"{NAME}@{commit}")
    assert hub.requests == []


def test_a_pinned_name_keeps_its_files_when_the_branch_advances(
    hub: Hub, bundle: Path, other: Path
) -> None:
    hub.upload("owner/small", bundle, "main")
    pinned = pin_commit(NAME)
    hub.upload("owner/small", other, "main")
    assert Bundle.open(NAME).manifest.name != Bundle.open(pinned).manifest.name


def test_the_commit_and_the_checksum_are_logged(
    hub: Hub, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commit = hub.upload("owner/small", bundle, "v1")
    with caplog.at_level(logging.INFO, "foveate.bundle"):
        Bundle.open(f"{NAME}@v1")
    assert caplog.messages == [f"{NAME}@v1 is {NAME}@{commit}#sha256={digest(bundle)}"]
    Bundle.open(caplog.messages[0].rpartition(" ")[2])  # the logged name is one to pass


def test_without_the_network_a_branch_means_what_it_last_meant(
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.upload("owner/small", bundle, "main")
    Bundle.open(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert Bundle.open(NAME).root.name == commit
    assert hub.requests == []


def test_another_checksum_is_an_error_before_any_network_is_downloaded(
    hub: Hub, bundle: Path
) -> None:
    hub.upload("owner/small", bundle, "main")
    with pytest.raises(BundleError) as caught:
        Bundle.open(f"{NAME}#sha256={ZEROS}")
    assert str(caught.value) == (
        f"the manifest has the SHA-256 {digest(bundle)}, expected {ZEROS}: {NAME}#sha256={ZEROS}: "
        "use the revision that the checksum was taken from, or omit the checksum"
    )
    assert hub.downloads() == ["manifest.json"]


def test_a_file_that_differs_from_the_manifest_is_an_error(hub: Hub, bundle: Path) -> None:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    files["refine.onnx"] = files["refine.onnx"][:-1] + b"\0"
    hub.commit("owner/small", files, "main")
    with pytest.raises(BundleError, match=r"a file was changed .*/refine\.onnx: copy, download"):
        Bundle.open(NAME)


def test_a_manifest_cannot_name_files_outside(hub: Hub, bundle: Path, other: Path) -> None:
    change(other, "manifest.json", '"refine.onnx": {', '"../refine.onnx": {')
    hub.upload("owner/small", other, "main")
    with pytest.raises(BundleError, match="'../refine.onnx', a path that leaves the bundle"):
        Bundle.open(NAME)
    assert hub.downloads() == ["manifest.json"]


def test_a_link_out_of_the_cache_of_its_repository_is_refused(
    hub: Hub, bundle: Path, tmp_path: Path
) -> None:
    hub.upload("owner/small", bundle, "main")
    root = Bundle.open(NAME).root
    outside = tmp_path / "refine.onnx"
    outside.write_bytes((root / "refine.onnx").read_bytes())
    (root / "refine.onnx").unlink()
    (root / "refine.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="is a link that leaves the bundle"):
        Bundle.open(root)


def test_the_directory_in_the_cache_is_a_bundle_as_well(hub: Hub, bundle: Path) -> None:
    """It is what ``hf download owner/name`` prints."""
    hub.upload("owner/small", bundle, "main")
    root = Bundle.open(NAME).root
    assert (root / "refine.onnx").is_symlink()
    assert Bundle.open(root).manifest == Bundle.open(bundle).manifest


def test_presets_are_not_written_into_the_cache(hub: Hub, bundle: Path) -> None:
    hub.upload("owner/small", bundle, "main")
    opened = Bundle.open(NAME)
    with pytest.raises(BundleError, match="must not change: .*: copy it: cp -rL .* my-bundle"):
        write_presets(opened, {})
    assert digest(opened.root) == digest(bundle)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "hf://owner/none",
            (
                "there is no such repository: hf://owner/none: check the name; for a private one, run "
                "'hf auth login' or set HF_TOKEN"
            ),
        ),
        (
            "hf://owner/gated",
            (
                "the repository is gated: hf://owner/gated: request access on its page, then run "
                "'hf auth login' or set HF_TOKEN"
            ),
        ),
        (
            "hf://owner/small@v9",
            (
                "the repository has no revision 'v9': hf://owner/small@v9: pass a branch, a tag or a "
                "complete commit"
            ),
        ),
        (
            "hf://owner/model",
            (
                "the repository is not a bundle, or not a complete one: it has no manifest.json: "
                "hf://owner/model: upload the directory that 'foveate export' wrote"
            ),
        ),
        (
            "hf://owner/part",
            (
                "the repository is not a bundle, or not a complete one: it has no refine.onnx: "
                "hf://owner/part@COMMIT: upload the directory that 'foveate export' wrote"
            ),
        ),
        (
            "hf://owner/strange",
            ("the manifest has no valid schema number (found None): hf://owner/strange@COMMIT"),
        ),
        (
            "hf://small",
            (
                "the name of a bundle on the Hugging Face Hub is malformed: hf://small: write "
                "hf://owner/name, then @revision and #sha256=(64 digits) if wanted"
            ),
        ),
        (
            "hf://owner/--name",
            (
                "there is no such repository: hf://owner/--name: check the name; for a private one, "
                "run 'hf auth login' or set HF_TOKEN"
            ),
        ),
    ],
)
def test_a_wrong_name_is_an_error_with_its_remedy(
    hub: Hub, bundle: Path, name: str, message: str
) -> None:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    hub.commit("owner/small", files, "main")
    hub.commit("owner/gated", files, "main")
    hub.gated.add("owner/gated")
    hub.commit("owner/model", {"config.json": b"{}"}, "main")
    hub.commit("owner/strange", {"manifest.json": b"{}"}, "main")
    del files["refine.onnx"]
    hub.commit("owner/part", files, "main")
    with pytest.raises(BundleError) as caught:
        Bundle.open(name)
    assert re.sub("[0-9a-f]{40}", "COMMIT", str(caught.value)) == message


def test_a_hub_that_is_down_is_an_error_unless_the_cache_has_the_bundle(
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.upload("owner/small", bundle, "main")
    Bundle.open(NAME)
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # it tries five times
    Bundle.open(NAME)
    with pytest.raises(ServerError) as caught:
        Bundle.open("hf://owner/new")
    assert str(caught.value) == (
        "the Hugging Face Hub cannot be reached (ConnectError: [Errno 111] Connection refused): "
        "hf://owner/new: check the network, or HF_ENDPOINT if it is set"
    )


def test_offline_a_bundle_that_is_not_in_the_cache_is_an_error(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ServerError) as caught:
        Bundle.open(NAME)
    assert str(caught.value) == (
        f"the cache lacks manifest.json: {NAME}: download the bundle without HF_HUB_OFFLINE"
    )


def test_an_interrupted_download_keeps_complete_files(hub: Hub, bundle: Path) -> None:
    hub.upload("owner/small", bundle, "main")
    hub.cut.add("refine.onnx")
    with pytest.raises(
        ServerError, match=r"the download of refine\.onnx failed \(OSError: .*kept$"
    ):
        Bundle.open(NAME)
    hub.cut.clear()
    hub.requests.clear()
    Bundle.open(NAME)
    assert "refine.onnx" in hub.downloads()
    assert "propose.onnx" not in hub.downloads()


def test_a_cache_that_is_a_file_is_named(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    hub.upload("owner/small", bundle, "main")
    (tmp_path / "cache").write_text("not a directory")
    with pytest.raises(BundleError, match="cannot be stored .*: set HF_HUB_CACHE"):
        Bundle.open(NAME)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"run: pip install 'foveate\[hub\]'"):
        read_bundle(NAME, lambda opened: opened)
