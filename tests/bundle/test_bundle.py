# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foveate.bundle import (
    SCHEMA,
    Bundle,
    Manifest,
    MaskSpec,
    NetworkSpec,
    PreprocessingSpec,
    PyramidSpec,
    SelectSpec,
    SourceSpec,
    StageSpec,
    TensorSpec,
    WindowSpec,
    write_bundle,
)
from foveate.errors import BundleError, OptionError

FILES = {"propose.onnx": b"one", "refine.onnx": b"two", "cards/model.md": b"three"}


def manifest_of(**changes: Any) -> Manifest:
    image = TensorSpec(name="image", dtype="float32", shape=(1, 3, "height", "width"))
    scores = TensorSpec(name="scores", dtype="float32", shape=(1, 1, "rows", "columns"))
    logits = TensorSpec(name="logits", dtype="float32", shape=("windows", 160, 160))
    values: dict[str, Any] = {
        "name": "tiny",
        "class_names": ("cat",),
        "preprocessing": PreprocessingSpec(mean=(127,) * 3, std=(128,) * 3, fill=127),
        "pyramid": PyramidSpec(scales=(0.5, 1.0), max_side=1024),
        "windows": WindowSpec(size=160, stride=16, padding=80),
        "select": SelectSpec(top_k=10, window_nms_iou=0.9),
        "mask": MaskSpec(size=160, threshold=-1.386),
        "stages": {
            "propose": StageSpec(file="propose.onnx", inputs=(image,), outputs=(scores,)),
            "refine": StageSpec(file="refine.onnx", inputs=(), outputs=(logits,)),
        },
        "provenance": {"trained": {"on": ["nothing", 1, None]}},
    }
    return Manifest(**(values | changes))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny", manifest_of(), FILES).root


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_is_written_is_read(root: Path) -> None:
    bundle = Bundle.open(root)
    assert bundle.manifest == replace(manifest_of(), files=bundle.manifest.files)
    assert bundle.stage_path("refine").read_bytes() == b"two"
    assert set(bundle.manifest.files) == set(FILES)


def test_an_interrupted_writer_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Path, *_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", broken)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "tiny", manifest_of(), FILES)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_on_request(root: Path) -> None:
    with pytest.raises(BundleError, match="already exists"):
        write_bundle(root, manifest_of(), FILES)
    write_bundle(root, manifest_of(name="other"), FILES, overwrite=True)
    assert Bundle.open(root).manifest.name == "other"
    assert [path.name for path in root.parent.iterdir()] == ["tiny"]


def test_a_bundle_is_not_replaced_by_one_that_cannot_be_opened(root: Path) -> None:
    before = {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    select = SelectSpec(top_k=1 << 30, window_nms_iou=0.8)
    for manifest in (manifest_of(name="two\nlines"), manifest_of(select=select)):
        with pytest.raises(
            BundleError, match="it could not be opened: the manifest is inval"
        ) as caught:
            write_bundle(root, manifest, FILES, overwrite=True)
        assert caught.value.file == str(root)
        assert [path.name for path in root.parent.iterdir()] == ["tiny"]
        after = {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        assert after == before


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(BundleError, match="not a bundle"):
        write_bundle(tmp_path, manifest_of(), FILES, overwrite=True)
    assert (tmp_path / "holiday.jpg").exists()


def test_a_relative_path_stays_valid_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = write_bundle("here", manifest_of(), FILES)
    monkeypatch.chdir("/")
    assert bundle.stage_path("propose").exists()


def test_an_unknown_name_lists_what_there_is(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"no such bundle: nonsense: pass a directory"):
        Bundle.open("nonsense")
    Path("file.onnx").touch()
    with pytest.raises(BundleError, match=r"found a file: file\.onnx"):
        Bundle.open("file.onnx")


@pytest.mark.parametrize("given", [None, 3, b"mini", ["mini"], FILES])
def test_what_is_neither_a_name_nor_a_path_is_refused(given: Any) -> None:
    kind = type(given).__name__
    with pytest.raises(OptionError, match=f"^a bundle must be a name or a path, found {kind}: "):
        Bundle.open(given)


def test_a_size_of_a_network_may_be_a_number_a_text_or_a_bool() -> None:
    sizes: dict[str, bool | int | str] = {"affine_after_addition": True, "km": 4, "form": "paper"}
    networks = (NetworkSpec(name="sharpmask-resnet50", sizes=sizes),)
    manifest = replace(Bundle.open("mini").manifest, source=SourceSpec(networks=networks))
    read = Manifest.from_json(manifest.to_json())
    assert read.source.networks == networks
    assert read.source.networks[0].sizes["affine_after_addition"] is True


def test_an_empty_text_is_not_the_working_directory() -> None:
    with pytest.raises(
        OptionError, match="^a bundle must be a name or a path, found an empty text"
    ):
        Bundle.open("")


def test_a_directory_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no manifest: .*manifest\.json: pass the directory"):
        Bundle.open(tmp_path)


def test_a_changed_byte_is_found(root: Path) -> None:
    (root / "refine.onnx").write_bytes(b"twO")
    with pytest.raises(BundleError, match=r"was changed .*refine\.onnx: copy, download or export"):
        Bundle.open(root)


def test_a_cut_file_is_found(root: Path) -> None:
    (root / "refine.onnx").write_bytes(b"t")
    with pytest.raises(BundleError, match=r"has 1 bytes, the manifest lists 3: .*refine\.onnx"):
        Bundle.open(root)


def test_a_missing_file_is_found(root: Path) -> None:
    (root / "propose.onnx").unlink()
    with pytest.raises(BundleError, match=r"cannot be read \(No such file.*propose\.onnx"):
        Bundle.open(root)


def test_a_missing_stage_is_found(root: Path) -> None:
    edit(root, lambda m: m["stages"].pop("refine"))
    with pytest.raises(BundleError, match=r"stage 'refine' is missing: .*manifest\.json"):
        Bundle.open(root)


def test_a_stage_without_checksum_is_refused(root: Path) -> None:
    edit(root, lambda m: m["files"].pop("refine.onnx"))
    with pytest.raises(BundleError, match=r"'refine\.onnx' of the stage 'refine' has no checksum"):
        Bundle.open(root)


def test_a_newer_schema_asks_for_an_update(root: Path) -> None:
    edit(root, lambda m: m.update(schema=SCHEMA + 1, novelty={}))
    with pytest.raises(BundleError, match=r"schema 2, .* reads up to 1: .*update foveate"):
        Bundle.open(root)


@pytest.mark.parametrize(
    "name", ["../outside.onnx", "/etc/passwd", "a/../../x", "c:/x", "..\\x", "a\0b", ""]
)
def test_a_path_that_leaves_the_bundle_is_refused(root: Path, name: str) -> None:
    edit(root, lambda m: m["files"].update({name: m["files"]["refine.onnx"]}))
    with pytest.raises(BundleError, match="leaves the bundle"):
        Bundle.open(root)
    with pytest.raises(BundleError, match="leaves the bundle"):
        write_bundle(root.parent / "new", manifest_of(), FILES | {name: b""})
    assert not (root.parent / "new").exists()


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="this system has no symbolic links")
def test_a_link_that_leaves_the_bundle_is_refused(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"two")
    (root / "refine.onnx").unlink()
    (root / "refine.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="link that leaves the bundle"):
        Bundle.open(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("mask"), "key 'mask' is missing"),
        (lambda m: m.update(extra=1), "unknown key 'extra'"),
        (lambda m: m["mask"].update(size="160"), r"'mask\.size' must be int, found '160'"),
        (lambda m: m["mask"].update(size=True), r"'mask\.size' must be int, found True"),
        (lambda m: m["mask"].update(threshold=float("nan")), r"'mask\.threshold' must be finite"),
        (lambda m: m["preprocessing"].update(mean=[1, 2]), r"'preprocessing\.mean' needs 3 values"),
        (lambda m: m["pyramid"].update(scales=[]), "pyramid: scales must not be empty"),
        (lambda m: m["stages"].update(extra=m["stages"]["refine"]), "unknown stage 'extra'"),
        (
            lambda m: m["stages"].update(features=m["stages"]["refine"]),
            "needs the stage 'classify'",
        ),
        (lambda m: m["files"]["refine.onnx"].update(sha256="zz"), "sha256 is malformed"),
        (lambda m: m.update(schema="1"), "no valid schema number"),
        (lambda m: m.update(class_names="cat"), "'class_names' must be a list"),
        (lambda m: m.update(windows=[]), "'windows' must be an object"),
        (lambda m: m.update(class_names=["a", "a"]), "class_names repeat"),
    ],
)
def test_what_does_not_fit_is_named(root: Path, change: Any, message: str) -> None:
    edit(root, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(root)
    assert caught.value.file == str(root / "manifest.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(root: Path, text: str) -> None:
    (root / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"manifest is not .*manifest\.json"):
        Bundle.open(root)
