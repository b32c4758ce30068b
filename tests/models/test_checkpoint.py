# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of each network: weights come back bit by bit, and those that do not fit are refused."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from foveate.bundle import Bundle
from foveate.cli import invoke
from foveate.errors import InputError, ModelError
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    Detector,
    build_cascade,
    build_detector,
    join,
    load_checkpoint,
    load_detector,
    round_to_half,
    save_checkpoint,
)
from foveate.models.sharpmask import SharpMask

Sizes = dict[str, int | str]
RESNET: Sizes = {"width": 4, "neck": 8, "vector": 16, "score_hidden": 8}
PROPOSALS: dict[str, Sizes] = {
    "deepmask-resnet50": RESNET,
    "deepmask-vgg": {"width": 2, "neck": 8, "vector": 8, "score_hidden": 8},
    "sharpmask-resnet50": {**RESNET, "km": 16, "ks": 16, "form": "paper"},
}
DETECTORS: dict[str, Sizes] = {
    "multipathnet-vgg16": {"width": 2, "mixed": 4, "hidden": 8, "rounding": "caffe"},
    "fast-rcnn-vgg16": {"width": 2, "hidden": 8},
    "multipathnet-resnet18": {"width": 2, "affine_after_addition": True},
    "multipathnet-resnet50": {"width": 2},
}


def proposals(name: str = "deepmask-resnet50") -> Cascade:
    return build_cascade(CascadeInfo(proposals=name, proposals_sizes=PROPOSALS[name]))


def detector(name: str = "multipathnet-resnet18") -> Detector:
    sizes = DETECTORS[name]
    return build_detector(
        CascadeInfo(classifier=name, classifier_sizes=sizes, class_names=("cat", "cup"))
    )


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    expected, found = one.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize("name", PROPOSALS)
def test_a_proposal_network_comes_back_bit_for_bit_in_float32(name: str, tmp_path: Path) -> None:
    path = tmp_path / "proposals.safetensors"
    cascade = proposals(name)
    save_checkpoint(path, cascade, half=False)
    again = load_checkpoint(path)
    assert again.info == cascade.info
    assert_equal(cascade.proposals, again.proposals)
    assert not again.proposals.training


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_alone_comes_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    alone = detector(name)
    save_checkpoint(path, alone, half=False)
    again = load_detector(path)
    assert again.info == alone.info
    assert_equal(alone.classifier, again.classifier)
    trained = [parameter.requires_grad for parameter in alone.classifier.parameters()]
    assert [parameter.requires_grad for parameter in again.classifier.parameters()] == trained


def test_halves_are_half_as_large_and_leave_the_networks_as_they_are(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    cascade = proposals()
    save_checkpoint(half, cascade)
    save_checkpoint(whole, cascade, half=False)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    weight = cascade.proposals.state_dict()["neck.weight"]
    assert not torch.equal(weight, weight.half().float())
    round_to_half(cascade.proposals)
    assert_equal(cascade.proposals, load_checkpoint(half).proposals)


def test_proposals_and_a_detector_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "cascade.safetensors"
    cascade = join(proposals(), detector())
    save_checkpoint(path, cascade, half=False)
    again = load_checkpoint(path)
    assert again.info == cascade.info
    assert again.classifier is not None
    assert_equal(again.classifier, load_detector(path).classifier)
    assert again.info.class_names == ("cat", "cup")


def test_a_joined_cascade_chooses_proposals_as_the_proposal_network_was_trained_for() -> None:
    chosen: dict[str, Any] = {
        "mask_threshold": -0.25,
        "mask_scoring": True,
        "top_k": 33,
        "window_nms_iou": 0.55,
        "proposal_nms_iou": 0.45,
    }
    alone = proposals()
    alone = replace(alone, info=replace(alone.info, **chosen, class_nms_iou=0.2))
    found = join(alone, detector()).info
    assert {name: getattr(found, name) for name in chosen} == chosen
    assert found.class_nms_iou == detector().info.class_nms_iou


def test_a_detector_alone_is_not_a_cascade(tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    save_checkpoint(path, detector())
    with pytest.raises(ModelError, match="found the detector 'multipathnet-resnet18' alone.*pass"):
        load_checkpoint(path)


def test_a_detector_that_was_trained_separately_takes_the_place_of_another(tmp_path: Path) -> None:
    alone, whole = tmp_path / "detector.safetensors", tmp_path / "cascade.safetensors"
    trained = detector()
    save_checkpoint(alone, trained, half=False)
    save_checkpoint(whole, join(proposals(), detector("fast-rcnn-vgg16")), half=False)
    cascade = load_checkpoint(whole, alone)
    assert cascade.info.classifier == "multipathnet-resnet18"
    assert cascade.info.proposals == "deepmask-resnet50"
    assert cascade.classifier is not None
    assert_equal(cascade.classifier, trained.classifier)


def test_the_command_exports_both_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported: list[Cascade] = []

    def record(cascade: Cascade, *_: object, **__: object) -> Bundle:
        exported.append(cascade)
        return Bundle.open("mini")

    monkeypatch.setattr("foveate.export.bundle_export.export_bundle", record)
    alone, sharpmask = tmp_path / "detector.safetensors", tmp_path / "sharpmask.safetensors"
    save_checkpoint(alone, detector())
    save_checkpoint(sharpmask, proposals("sharpmask-resnet50"))
    words = ["export", str(sharpmask), "--output", str(tmp_path / "bundle")]
    assert invoke([*words, "--detector", str(alone)]) == 0
    (cascade,) = exported
    assert isinstance(cascade.proposals, SharpMask)
    assert cascade.classifier is not None
    assert cascade.info.class_names == ("cat", "cup")
    assert invoke([*words, "--detector", str(sharpmask)]) == 1
    assert "expected a detector, found 'sharpmask-resnet50' alone" in capsys.readouterr().err


def test_the_file_describes_the_inputs_of_its_networks(tmp_path: Path) -> None:
    path = tmp_path / "cascade.safetensors"
    save_checkpoint(path, join(proposals("deepmask-vgg"), detector("fast-rcnn-vgg16")))
    with safetensors.safe_open(path, "pt") as file:
        inputs = json.loads(file.metadata()["inputs"])
    assert inputs["proposals"]["window"] == 224
    assert inputs["proposals"]["stride"] == 16
    assert inputs["proposals"]["context"] == 0
    assert inputs["proposals"]["border"] == 112
    assert inputs["proposals"]["mask_side"] == 56
    assert inputs["proposals"]["normalisation"]["mean"][0] == pytest.approx(0.485 * 255)
    assert inputs["classifier"]["normalisation"]["order"] == "bgr"


def test_weights_trained_on_other_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cascade.safetensors"
    cascade = proposals()
    save_checkpoint(path, cascade)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    metadata["inputs"] = metadata["inputs"].replace('"order": "rgb"', '"order": "bgr"')
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(ModelError, match="the proposals were trained on .*bgr.*rgb"):
        load_checkpoint(path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cascade.safetensors"
    info = CascadeInfo(proposals="deepmask-resnet50", proposals_sizes={**RESNET, "vector": 17})
    save_checkpoint(path, Cascade(info=info, proposals=proposals().proposals))
    with pytest.raises(ModelError, match="the weights do not fit DeepMask: .*embed.weight"):
        load_checkpoint(path)


def test_a_pickle_is_refused_as_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match="expected a safetensors checkpoint, found a pickle"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(ModelError, match="expected a safetensors checkpoint, found a pickle"):
        load_checkpoint(path)


def test_an_onnx_file_is_refused_as_one(tmp_path: Path) -> None:
    path = tmp_path / "refine.onnx"
    shutil.copy(Bundle.open("mini").stage_path("refine"), path)
    with pytest.raises(ModelError) as caught:
        load_checkpoint(path)
    assert str(caught.value) == (
        f"expected a safetensors checkpoint, found an ONNX file: {path}: pass the checkpoint that "
        "it was exported from, or its bundle"
    )


def test_a_file_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cascade.safetensors"
    save_checkpoint(path, proposals())

    def refuse(*_: object) -> None:  # root may read every file
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("foveate.models.checkpoint.open_regular", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError, match=r"the checkpoint cannot be read \(.*Permission denied\)"):
        load_checkpoint(path)


def test_a_full_disk_is_an_error_that_keeps_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cascade.safetensors"
    path.write_bytes(b"before")

    def full(_self: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(
        InputError, match=r"cannot be written \(No space left.*: free some space, or"
    ):
        save_checkpoint(path, proposals())
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cascade.safetensors"
    save_checkpoint(path, proposals())
    content = path.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match="the checkpoint cannot be read"):
            load_checkpoint(path)


def test_a_missing_file_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "cascade.safetensors"
    with pytest.raises(ModelError) as caught:
        load_checkpoint(path)
    assert str(caught.value) == (
        f"the checkpoint cannot be read (No such file or directory): {path}: "
        "check the path, or make one with `foveate train`"
    )


def written(path: Path, info: object, inputs: object) -> Path:
    """Write a checkpoint with a description of any kind."""
    metadata = {"format": "foveate-1", "info": json.dumps(info), "inputs": json.dumps(inputs)}
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("color", "red", "unknown key 'color'"),
        ("proposals", [], "'proposals' must be str or NoneType, found \\[\\]"),
        ("proposals_sizes", None, "'proposals_sizes' must be an object, found None"),
        ("class_names", "cat", "'class_names' must be a list, found 'cat'"),
        ("calibration", [1.0], "'calibration' needs 3 values, found 1"),
        ("delta_mean", [0.0] * 5, "'delta_mean' needs 4 values, found 5"),
        ("training", ["note"], "'training' must be an object"),
    ],
)
def test_a_description_of_another_form_is_refused(
    key: str, value: object, reason: str, tmp_path: Path
) -> None:
    info = {**asdict(proposals().info), key: value}
    path = written(tmp_path / "cascade.safetensors", info, {})
    with pytest.raises(ModelError, match=f"description of the networks cannot be read: {reason}"):
        load_checkpoint(path)


def test_a_description_of_inputs_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "cascade.safetensors", asdict(proposals().info), ["window"])
    with pytest.raises(ModelError, match="cannot be read: 'the document' must be an object"):
        load_checkpoint(path)


def test_a_size_called_name_is_refused(tmp_path: Path) -> None:
    info = {**asdict(proposals().info), "proposals_sizes": {"name": 3}}
    path = written(tmp_path / "cascade.safetensors", info, {})
    with pytest.raises(ModelError, match="takes no size 'name'"):
        load_checkpoint(path)
