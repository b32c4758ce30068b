# SPDX-License-Identifier: Apache-2.0
"""Every field of what we read as JSON with every kind of wrong value: an error of ours, or it works."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fuzz.wrong_values import REMOVED, WRONG, paths, random_change, with_value
from tests.samples.compiling import KEY, record_of

import foveate
from foveate.bundle import Bundle, Manifest, write_bundle
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.bundle.signatures import check_signatures
from foveate.errors import BundleError, FoveateError

MINI = json.loads((Bundle.open("mini").root / "manifest.json").read_text())


def first_of_each(kinds: dict[str, Any]) -> dict[str, Any]:
    name, value = next(iter(kinds.items()))
    return {name: value}


def small_manifest() -> dict[str, Any]:
    """Return the manifest of ``mini`` with one or two of each list, which stand for the others."""
    document: dict[str, Any] = copy.deepcopy(MINI)
    document["class_names"] = document["class_names"][:2]
    document["pyramid"]["scales"] = document["pyramid"]["scales"][:2]
    document["provenance"] = {"tools": {"python": "3.11"}, "weights_sha256": "0" * 64}
    document["files"] = first_of_each(document["files"])
    for stage in document["stages"].values():
        for side in ("inputs", "outputs"):
            stage[side] = sorted(stage[side], key=lambda tensor: "stride" not in tensor)[:2]
    preset = document["presets"]["fast"] | {"max_side": 512, "window_nms_iou": 0.8}
    preset["measured"] = first_of_each(preset["measured"])
    for measurement in preset["measured"].values():
        measurement["figures"] = first_of_each(measurement["figures"])
    preset["conditions"] = first_of_each(preset["conditions"])
    document["presets"] = {"fast": preset}
    document["source"] |= {"svd": [1], "optimize": ["x"], "precision": {"propose": "fp16"}}
    return document


SMALL = small_manifest()
# Two of the stages stand for the others; what training wrote down is free.
FIELDS = [
    path
    for path in paths(SMALL)
    if not any(isinstance(key, int) and key > 0 for key in path)
    and path[1:2] not in (("refine",), ("features",))
    and not (path[0] == "provenance" and len(path) > 2)
]


def text_with(document: Any, path: Any, value: Any) -> str:
    return json.dumps(with_value(document, path, value))


@pytest.mark.parametrize("value", WRONG, ids=lambda value: f"{value!r:.20}")
def test_a_manifest_with_a_wrong_value_anywhere_is_refused_or_written_alike(value: object) -> None:
    for path in FIELDS:
        text = text_with(SMALL, path, value)
        with contextlib.suppress(BundleError):
            manifest = Manifest.from_json(text)
            assert Manifest.from_json(manifest.to_json().encode().decode()) == manifest


@pytest.mark.parametrize("value", WRONG, ids=lambda value: f"{value!r:.20}")
def test_an_engine_record_with_a_wrong_value_anywhere_is_refused_or_written_alike(
    value: object,
) -> None:
    document = json.loads(record_of(KEY, b"plan").to_json())
    for path in paths(document):
        with contextlib.suppress(BundleError):
            record = EngineMetadata.from_json(text_with(document, path, value))
            assert EngineMetadata.from_json(record.to_json().encode().decode()) == record


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("mask", "threshold"), 10**400, "'mask.threshold' must be finite"),
        (("mask", "threshold"), 1e308, "threshold must lie in -1e4..1e4"),
        (("preprocessing", "mean", 0), 1e308, "mean must lie in -1e4..1e4"),
        (("preprocessing", "std", 0), 1e-300, "std must lie in 1e-4..1e4"),
        (("stages", "features", "outputs", 0, "stride"), 10**18, "stride must lie in 1..1024"),
        (("pyramid", "scales", 0), 16, r"scales must lie in \(0, 4\]"),
        (("select", "top_k"), 10**18, "select.top_k times mask.size squared must be at most"),
        (("class_names", 0), "\x1b[31mred", "'class_names.0.' must be printable text"),
        (("class_names", 0), "\ud800", "'class_names.0.' must be printable text"),
        (("class_names", 0), "", "class_names must have 1 to 1000 characters"),
        (
            ("source", "precision"),
            {"propose": "fp12"},
            "precision of the stage 'propose' must be one of fp32, fp16, int8, found 'fp12'",
        ),
        (("stages", "propose", "outputs", 2, "stride"), 0, "stride must lie in 1..1024"),
        (("name",), "a\nb", "'name' must be printable text"),
        (("stages", "propose", "inputs", 0, "shape", 0), 0, "numbers of shape must lie in 1.."),
        (("provenance", "x"), [[["\ud800"]]], "'provenance.x' must be text"),
        (("provenance",), {"x": float("inf")}, "'provenance.x' must be finite"),
        (("schema",), REMOVED, "no valid schema number"),
    ],
)
def test_what_is_out_of_range_is_named(path: Any, value: object, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(text_with(MINI, path, value))


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    text = json.dumps({**MINI, "provenance": {"x": 0}})
    deep = text.replace('{"x": 0}', '{"x": ' + "[" * depth + "]" * depth + "}")
    assert deep != text
    with pytest.raises(BundleError, match="nested too deeply"):
        Manifest.from_json(deep)


def test_a_key_that_occurs_twice_is_refused() -> None:
    text = json.dumps(MINI).replace('"name": "mini"', '"name": "mini", "name": "maxi"', 1)
    with pytest.raises(BundleError, match="the key 'name' occurs twice"):
        Manifest.from_json(text)


@pytest.fixture(scope="module")
def parts(contrast_bundle: Path) -> tuple[Any, dict[str, bytes]]:
    files = {path.name: path.read_bytes() for path in contrast_bundle.iterdir()}
    return json.loads(files.pop("manifest.json")), files


@pytest.mark.parametrize("seed", range(40))
def test_a_changed_bundle_is_refused_or_runs(
    tmp_path: Path, parts: tuple[Any, dict[str, bytes]], seed: int
) -> None:
    document, files = parts
    root = tmp_path / "changed"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    changed = random_change(document, np.random.default_rng(seed))
    (root / "manifest.json").write_text(json.dumps(changed))
    image = np.full((48, 64, 3), 200, np.uint8)
    with (
        contextlib.suppress(FoveateError),
        foveate.load(root, options=foveate.PipelineOptions(threads=1)) as pipeline,
    ):
        pipeline.propose(image)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("propose", "inputs", 0, "shape", 0), 2, r"image of float32 \(1, 3, height, width\), the"),
        (("propose", "outputs", 1, "dtype"), "float16", "the manifest lists vectors of float16"),
        (("propose", "outputs", 1, "shape", 1), 7, "the manifest lists vectors of float32 .1, 7,"),
    ],
)
def test_a_manifest_that_says_other_shapes_than_the_files_is_refused(
    tmp_path: Path, parts: tuple[Any, dict[str, bytes]], path: Any, value: object, message: str
) -> None:
    document, files = parts
    changed = with_value(document, ("stages", *path), value)
    write_bundle(tmp_path / "x", Manifest.from_json(json.dumps(changed)), files)
    with pytest.raises(BundleError, match=message):
        foveate.load(tmp_path / "x")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("propose", "inputs", 0, "name"),
            "photo",
            "'photo', which is not a tensor of the pipeline",
        ),
        (("propose", "outputs", 0, "name"), "vectors", "'propose' has no output 'scores'"),
        (
            ("propose", "outputs", 0, "dtype"),
            "float16",
            r"has scores of float16 \(1, 1, .*\), expected float32",
        ),
        (
            ("propose", "outputs", 1, "shape"),
            [1, 3],
            r"\(1, 3\), expected \(1, channels, rows, col",
        ),
        (("propose", "outputs", 1, "shape", 1), "c", "expected .* with at most 8192 channels"),
        (("propose", "outputs", 1, "shape", 1), 8193, "expected .* with at most 8192 channels"),
        (("propose", "outputs", 0, "stride"), 16, "'scores' with a stride, which only maps have"),
        (
            ("propose", "outputs", 2, "stride"),
            REMOVED,
            "'horizontal_1' of stride None, expected a divisor of 16",
        ),
        (
            ("propose", "outputs", 2, "stride"),
            3,
            "'horizontal_1' of stride 3, expected a divisor of 16",
        ),
        (
            ("refine", "outputs", 0, "shape"),
            [1, 3],
            r"logits of float32 \(1, 3\), expected \(1, 160, 160\) for mask.size 160",
        ),
        (
            ("refine", "inputs", 0, "name"),
            "horizontal_9",
            "'refine' reads 'horizontal_9', which no stage before it writes",
        ),
    ],
)
def test_a_tensor_that_the_pipeline_cannot_use_is_refused_when_the_bundle_is_opened(
    tmp_path: Path, parts: tuple[Any, dict[str, bytes]], path: Any, value: object, message: str
) -> None:
    document, files = parts
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    changed = with_value(document, ("stages", *path), value)
    (tmp_path / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(tmp_path)
    assert caught.value.file == str(tmp_path / "manifest.json")
    assert caught.value.remedy == "export the bundle again"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("mask", "size"), 80, r"'refine' has logits of .*, expected \(windows, 80, 80\) for mask"),
        (
            ("class_names",),
            ["red", "green"],
            r"'classify' has probabilities of .*, expected \(regions, 3\) for 2 class_names",
        ),
        (
            ("stages", "classify", "outputs", 1, "shape", 1),
            3,
            r"deltas of float32 \(regions, 3, 4\), expected \(regions, 4, 4\) for 3 class_names",
        ),
    ],
)
def test_a_manifest_that_contradicts_the_lengths_of_its_tensors_is_refused(
    parts: tuple[Any, dict[str, bytes]], path: Any, value: object, message: str
) -> None:
    changed = with_value(parts[0], path, value)
    with pytest.raises(BundleError, match=message):
        check_signatures(Manifest.from_json(json.dumps(changed)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("features", "inputs", 0, "name"),
            "map_4",
            "'features' reads 'map_4', which no stage before it writes",
        ),
        (
            ("propose", "outputs", 7, "shape", 1),
            7,
            r"'features' reads map_16 of float32 \(1, 3, .*written as map_16 of float32 \(1, 7, ",
        ),
        (
            ("features", "outputs", 0, "stride"),
            24,
            "'map_32' of stride 24, expected a multiple of 16",
        ),
    ],
)
def test_maps_that_a_classifier_cannot_share_are_refused_when_the_bundle_is_opened(
    sharing_bundle: Path, path: Any, value: object, message: str
) -> None:
    document = json.loads((sharing_bundle / "manifest.json").read_text())
    changed = with_value(document, ("stages", *path), value)
    with pytest.raises(BundleError, match=message):
        check_signatures(Manifest.from_json(json.dumps(changed)))
