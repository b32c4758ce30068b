# SPDX-License-Identifier: Apache-2.0
"""A model repository of Triton, read with Triton's schema and run by a simulated server."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from tests.samples.compiling import key_with, record_of
from tests.samples.triton_server import Server, read_config, schema
from tests.samples.verified_bundles import with_manifest

import foveate
from foveate.bundle import Bundle, TensorSpec
from foveate.bundle.manifest import StageSpec
from foveate.cli import invoke
from foveate.errors import BackendError, BundleError, InputError
from foveate.export.triton import write_repository
from foveate.export.triton.repository import stage_config

MODELS = [f"foveate_{stage}" for stage in ("propose", "refine", "features", "classify")]


@pytest.fixture
def image() -> np.ndarray:
    canvas = np.zeros((150, 220, 3), np.uint8)
    cv2.circle(canvas, (80, 70), 38, (250, 20, 20), -1)
    cv2.rectangle(canvas, (150, 60), (200, 110), (10, 240, 30), -1)
    return canvas


@pytest.fixture
def server(contrast_bundle: Path, tmp_path: Path) -> Server:
    bundle = Bundle.open(contrast_bundle)
    assert write_repository(bundle, tmp_path / "models", score_threshold=0.1) == [
        *MODELS,
        "foveate",
    ]
    return Server(tmp_path / "models")


def test_every_model_has_a_configuration_of_the_schema(server: Server) -> None:
    assert sorted(path.name for path in server.root.iterdir()) == sorted([*MODELS, "foveate"])
    configs = {path.name: read_config(path) for path in server.root.iterdir()}
    assert all(one.max_batch_size == 0 for one in configs.values())
    (image,) = configs["foveate_propose"].input
    assert list(image.dims) == [1, 3, -1, -1]
    refine = {one.name: list(one.dims) for one in configs["foveate_refine"].input}
    assert refine["vectors"] == [-1, 3]
    assert configs["foveate"].backend == "python"
    outputs = {one.name: list(one.dims) for one in configs["foveate"].output}
    assert outputs == {
        "boxes": [-1, 4],
        "scores": [-1],
        "labels": [-1],
        "masks": [-1, -1, -1],
        "rle": [-1],
    }
    names = configs["foveate"].parameters["class_names"].string_value
    assert json.loads(names) == ["red", "green", "blue"]
    assert (server.root / "foveate" / "requirements.txt").read_text() == (
        f"foveate=={foveate.__version__}\n"
    )


def test_what_is_served_knows_nothing_of_our_domain(server: Server) -> None:
    for name in MODELS:
        model = onnx.load(server.root / name / "1" / "model.onnx")
        assert not model.functions
        assert {node.domain for node in model.graph.node} == {""}


def test_the_server_finds_what_the_pipeline_finds(
    server: Server, contrast_bundle: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = foveate.PipelineOptions(score_threshold=0.1)
    with foveate.load(contrast_bundle, options=options) as pipeline:
        expected = pipeline(image)
    assert len(expected) >= 2
    model = server.load("foveate", monkeypatch)
    response = server.ask(model, "foveate", image, "boxes", "scores", "labels", "masks", "rle")
    model.finalize()
    assert not response.has_error()
    found = {one.name(): one.as_numpy() for one in response.output_tensors()}
    np.testing.assert_array_equal(found["labels"], expected.labels)
    np.testing.assert_allclose(found["boxes"], expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-5)
    np.testing.assert_array_equal(found["masks"], np.asarray(expected.masks))
    assert [json.loads(text) for text in found["rle"]] == expected.masks.rle()
    assert set(server.calls) == set(MODELS)


def test_only_what_is_asked_for_comes(
    server: Server, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = server.load("foveate", monkeypatch)
    response = server.ask(model, "foveate", image, "scores")
    assert [one.name() for one in response.output_tensors()] == ["scores"]


def test_a_bundle_that_only_proposes_is_served_without_labels(
    proposing_bundle: Path, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = write_repository(Bundle.open(proposing_bundle), tmp_path / "models", name="things")
    assert models == ["things_propose", "things_refine", "things"]
    server = Server(tmp_path / "models")
    model = server.load("things", monkeypatch)
    response = server.ask(model, "things", image, "boxes", "scores")
    boxes, scores = (one.as_numpy() for one in response.output_tensors())
    assert len(boxes) == len(scores) > 0
    assert "labels" not in {one.name for one in read_config(server.root / "things").output}


def test_a_stage_that_fails_is_the_error_of_its_request(
    server: Server, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.broken = "foveate_refine"
    model = server.load("foveate", monkeypatch)
    response = server.ask(model, "foveate", image, "scores")
    error = response.error()
    assert error is not None
    assert error.message() == "the model 'foveate_refine' failed (out of memory)"
    server.broken = ""
    assert not server.ask(model, "foveate", image, "scores").has_error()


def with_engines(
    contrast_bundle: Path, folder: Path, onnx_digest: str | None = None, plugins: str | None = None
) -> Bundle:
    """Copy a bundle and add an engine file per stage, with the right digests of the stages."""
    bundle = with_manifest(Bundle.open(contrast_bundle), folder / "compiled")
    place = bundle.root / "engines" / "tensorrt"
    place.mkdir(parents=True)
    for stage, spec in bundle.manifest.stages.items():
        digest = onnx_digest or bundle.manifest.files[spec.file].sha256
        plan = stage.encode()
        key = key_with(target="tensorrt", stage=stage, onnx=digest, plugins=plugins)
        (place / f"{stage}.plan").write_bytes(plan)
        record = replace(record_of(key, plan), name=stage)
        (place / f"{stage}.json").write_text(record.to_json(), encoding="utf-8")
    return bundle


def test_engines_are_served_raw_with_their_profiles(contrast_bundle: Path, tmp_path: Path) -> None:
    bundle = with_engines(contrast_bundle, tmp_path)
    write_repository(bundle, tmp_path / "models", engines=True)
    folder = tmp_path / "models" / "foveate_refine"
    config = read_config(folder)
    assert config.platform == "tensorrt_plan"
    (group,) = config.instance_group
    assert schema().ModelInstanceGroup.Kind.Name(group.kind) == "KIND_GPU"
    assert list(group.profile) == ["0", "1"]
    assert (folder / "1" / "model.plan").read_bytes() == b"refine"
    plan_digest = json.loads((folder / "1" / "model.json").read_text())["plan"]["sha256"]
    assert plan_digest == hashlib.sha256(b"refine").hexdigest()


def test_a_stage_without_an_engine_is_named_with_the_command(
    contrast_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="the stage 'propose' has no engine.*foveate compile"):
        write_repository(Bundle.open(contrast_bundle), tmp_path / "models", engines=True)
    assert not (tmp_path / "models").exists()


def test_a_stale_engine_is_not_served(contrast_bundle: Path, tmp_path: Path) -> None:
    bundle = with_engines(contrast_bundle, tmp_path, onnx_digest="e" * 64)
    with pytest.raises(BackendError, match="'propose' was compiled from another ONNX file"):
        write_repository(bundle, tmp_path / "models", engines=True)


def test_an_engine_that_needs_plugins_is_not_served(contrast_bundle: Path, tmp_path: Path) -> None:
    bundle = with_engines(contrast_bundle, tmp_path, plugins="d" * 64)
    with pytest.raises(BackendError) as caught:
        write_repository(bundle, tmp_path / "models", engines=True)
    assert str(caught.value) == (
        "the engine 'propose' needs plugins, which Triton does not register: "
        f"{bundle.root}/engines/tensorrt/propose.plan: run: foveate compile {bundle.root} "
        "--target tensorrt --no-plugins"
    )
    assert not (tmp_path / "models").exists()


def test_the_values_of_a_size_are_a_shape_tensor_of_an_engine_only(tmp_path: Path) -> None:
    size = TensorSpec(name="size", dtype="int64", shape=(2,))
    bits = TensorSpec(name="bits", dtype="int32", shape=("windows", "height", "words"))
    spec = StageSpec(file="paste.onnx", inputs=(size,), outputs=(bits,))
    for profiles, expected in ((None, False), (1, True)):
        (tmp_path / "paste").mkdir(exist_ok=True)
        text = stage_config("paste", spec, profiles=profiles)
        (tmp_path / "paste" / "config.pbtxt").write_text(text)
        assert read_config(tmp_path / "paste").input[0].is_shape_tensor == expected


def test_a_folder_with_something_in_it_is_refused(contrast_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="the model repository already exists"):
        write_repository(Bundle.open(contrast_bundle), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_command_writes_a_repository_of_a_bundle(
    contrast_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["triton", str(contrast_bundle), "--output", str(tmp_path / "models")]
    assert invoke(words) == 0
    assert (tmp_path / "models" / "foveate" / "1" / "model.py").is_file()
    assert invoke(words) == 1
    assert "the model repository already exists" in capsys.readouterr().err
