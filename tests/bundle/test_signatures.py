# SPDX-License-Identifier: Apache-2.0
"""Which names, types and shapes of tensors between the stages the pipeline accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foveate.bundle import Bundle, Manifest
from foveate.bundle.signatures import check_signatures
from foveate.errors import BundleError

MINI = (Bundle.open("mini").root / "manifest.json").read_text(encoding="utf-8")


def tensor(document: Any, stage: str, side: str, name: str) -> Any:
    (found,) = [one for one in document["stages"][stage][side] if one["name"] == name]
    return found


def check(document: Any) -> None:
    check_signatures(Manifest.from_json(json.dumps(document)))


def test_inputs_after_the_boxes_are_checked_too() -> None:
    document = json.loads(MINI)
    document["stages"]["classify"]["inputs"].reverse()
    assert document["stages"]["classify"]["inputs"][0]["name"] == "boxes"
    check(document)
    tensor(document, "classify", "inputs", "map_32")["name"] = "map_64"
    with pytest.raises(BundleError, match="'classify' reads 'map_64', which no stage before"):
        check(document)


def test_as_many_channels_as_the_limit_are_accepted() -> None:
    document = json.loads(MINI)
    tensor(document, "propose", "outputs", "vectors")["shape"][1] = 8192
    check(document)


def test_mask_scores_of_a_fixed_number_of_windows_are_refused() -> None:
    document = json.loads(MINI)
    tensor(document, "refine", "outputs", "mask_scores")["shape"] = [100, 1]
    with pytest.raises(
        BundleError, match=r"mask_scores of float32 \(100, 1\), expected \(windows, 1\)"
    ):
        check(document)


def test_a_classifier_with_an_image_of_its_own_does_not_read_maps_of_propose() -> None:
    document = json.loads(MINI)
    image = {"name": "image", "dtype": "float32", "shape": [1, 3, "height", "width"]}
    document["stages"]["features"]["inputs"] = [image]
    with pytest.raises(BundleError, match="'classify' reads 'map_8', which no stage before it"):
        check(document)


@pytest.mark.parametrize(
    ("stage", "side", "name"),
    [
        ("propose", "inputs", "image"),
        ("propose", "outputs", "vectors"),
        ("refine", "inputs", "horizontal_2"),
        ("refine", "outputs", "logits"),
    ],
)
def test_images_features_and_logits_may_be_float16(stage: str, side: str, name: str) -> None:
    document = json.loads(MINI)
    tensor(document, stage, side, name)["dtype"] = "float16"
    check(document)


def test_maps_may_be_float16_where_the_writer_and_all_readers_are() -> None:
    document = json.loads(MINI)
    for stage, side in (("propose", "outputs"), ("features", "inputs"), ("classify", "inputs")):
        tensor(document, stage, side, "map_16")["dtype"] = "float16"
    check(document)
    tensor(document, "classify", "inputs", "map_16")["dtype"] = "float32"
    with pytest.raises(BundleError, match="'classify' reads map_16 of float32 .*of float16"):
        check(document)


@pytest.mark.parametrize(
    ("stage", "side", "name"),
    [
        ("refine", "inputs", "scores"),
        ("refine", "outputs", "mask_scores"),
        ("classify", "inputs", "boxes"),
        ("classify", "outputs", "probabilities"),
        ("classify", "outputs", "deltas"),
    ],
)
def test_scores_and_coordinates_must_be_float32(stage: str, side: str, name: str) -> None:
    document = json.loads(MINI)
    tensor(document, stage, side, name)["dtype"] = "float16"
    with pytest.raises(BundleError, match=f"{stage!r} has {name} of float16 .*, expected float32"):
        check(document)


@pytest.mark.parametrize(
    ("stage", "name"), [("refine", "logits"), ("classify", "probabilities"), ("classify", "deltas")]
)
def test_a_stage_without_an_output_that_the_pipeline_reads_is_refused(
    stage: str, name: str
) -> None:
    document = json.loads(MINI)
    outputs = document["stages"][stage]["outputs"]
    outputs.remove(tensor(document, stage, "outputs", name))
    with pytest.raises(BundleError, match=f"the stage {stage!r} has no output {name!r}"):
        check(document)


@pytest.mark.parametrize(
    ("stage", "name"), [("refine", "boxes"), ("propose", "boxes"), ("classify", "map_08")]
)
def test_an_input_that_the_pipeline_does_not_have_is_refused(stage: str, name: str) -> None:
    document = json.loads(MINI)
    document["stages"][stage]["inputs"][0]["name"] = name
    with pytest.raises(BundleError, match=f"{stage!r} has {name!r}, which is not a tensor of"):
        check(document)


def test_maps_of_the_classifier_need_four_dimensions() -> None:
    document = json.loads(MINI)
    tensor(document, "features", "outputs", "map_32")["shape"] = [1, 192]
    with pytest.raises(BundleError, match=r"map_32 of float32 \(1, 192\), expected \(1, channels"):
        check(document)


def test_the_stage_that_pastes_masks_is_no_network() -> None:
    document = json.loads(MINI)
    document["stages"]["paste"] = {"file": "paste.onnx", "inputs": [], "outputs": []}
    check(document)
    assert "paste" not in Manifest.from_json(json.dumps(document)).networks
