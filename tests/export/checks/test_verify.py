# SPDX-License-Identifier: Apache-2.0
"""Verification: figures on real images, their thresholds, and the first layer that diverges."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.samples.images import write_small_cat
from tests.samples.verified_bundles import add_to_weight, small_bundle, with_change, with_manifest

from foveate.bundle import Bundle, NetworkSpec, SourceSpec
from foveate.cli import invoke
from foveate.errors import InputError, ModelError, OptionError
from foveate.export.checks.matching import match
from foveate.export.checks.record import (
    DEFAULT_THRESHOLDS,
    Accuracy,
    Record,
    Thresholds,
    check_record,
    read_record,
    write_record,
)
from foveate.export.checks.verification import first_divergence, measure
from foveate.export.execution.divergence import Accumulator, relative_error
from foveate.export.execution.sessions import bundle_reference, calls_of, exposing, session_function
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle, torch_reference
from foveate.models.checkpoint import save_checkpoint
from foveate.results.detections import Proposals

TOLERANCES = dict.fromkeys(("propose", "refine", "features", "classify"), 1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def image(folder: Path) -> Path:
    """Return the path of a small image of the cat."""
    return write_small_cat(folder / "cat.png")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return small_bundle(folder / "small")


@pytest.fixture(scope="module")
def damaged(folder: Path, bundle: Bundle) -> Bundle:
    change = add_to_weight("network.deepmask.trunk.blocks.3.depthwise.weight_half", 0.5)
    return with_change(bundle, folder / "damaged", "propose", change)


@pytest.fixture(scope="module")
def record(bundle: Bundle, image: Path) -> Record:
    return measure(bundle, torch_reference(bundle), [image], score_threshold=0.001)


def test_every_stage_and_the_detections_agree_with_pytorch(record: Record) -> None:
    (one,) = record.images
    assert list(one.stages) == ["propose", "refine", "features", "classify"]
    assert one.stages["propose"]["scores"].calls == 2
    assert 0 < max(found.relative for of in one.stages.values() for found in of.values()) <= 1e-5
    assert one.detections.expected == one.detections.found == len(one.detections.pairs) > 0
    check_record(record)


def test_figures_are_judged_again_without_a_run(
    record: Record, bundle: Bundle, tmp_path: Path
) -> None:
    write_record(record, tmp_path / "figures.json")
    again = read_record(tmp_path / "figures.json", bundle)
    assert again == record
    strict = dict.fromkeys(record.files, Thresholds(tolerance=0.0))
    with pytest.raises(ModelError, match=r"the stage 'propose' differs from PyTorch: its output '"):
        check_record(again, strict)


def test_figures_of_other_files_are_refused(
    record: Record, damaged: Bundle, tmp_path: Path
) -> None:
    write_record(record, tmp_path / "figures.json")
    with pytest.raises(InputError, match="the figures do not belong to the ONNX files"):
        read_record(tmp_path / "figures.json", damaged)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="no figures of a verification"):
        read_record(tmp_path / "other.json", damaged)


def test_figures_that_find_no_room_leave_those_before(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "figures.json"
    file.write_text("before")

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError) as caught:
        write_record(record, file)
    assert str(caught.value) == (
        f"the file cannot be written (No space left on device): {file}: free some space, or choose "
        "another path"
    )
    assert [one.read_text() for one in tmp_path.iterdir()] == ["before"]


def test_values_that_are_not_finite_fail(record: Record) -> None:
    (one,) = record.images
    bad = replace(one.stages["refine"]["logits"], not_finite=3)
    stages = {**one.stages, "refine": {"logits": bad}}
    broken = replace(record, images=(replace(one, stages=stages),))
    with pytest.raises(ModelError, match="'refine' differs.* has 3 values that are not finite"):
        check_record(broken)


@pytest.mark.parametrize("change", [{"box_error": 0.6}, {"mask_iou": 0.98}])
def test_a_detection_that_moved_fails(record: Record, change: dict[str, float]) -> None:
    (one,) = record.images
    first, *rest = one.detections.pairs
    moved = replace(one.detections, pairs=(replace(first, **change), *rest))
    broken = replace(record, images=(replace(one, detections=moved),))
    with pytest.raises(ModelError, match="the whole cascade differs from PyTorch"):
        check_record(broken)


def test_detections_of_all_images_are_judged_together(record: Record) -> None:
    (one,) = record.images
    pairs = one.detections.pairs
    most = len(pairs)
    lost = replace(one, image="lost.jpg", detections=replace(one.detections, pairs=()))
    two = replace(record, images=(one, lost))
    half = dict.fromkeys(record.files, Thresholds(min_match_rate=0.5))
    check_record(two, half)
    more = dict.fromkeys(record.files, Thresholds(min_match_rate=0.51))
    with pytest.raises(ModelError, match=rf"{most} of {2 * most} detections .* lost on lost\.jpg"):
        check_record(two, more)


def test_a_changed_weight_is_found_in_its_layer(
    bundle: Bundle, damaged: Bundle, image: Path
) -> None:
    reference = bundle_reference(damaged, bundle)
    with pytest.raises(ModelError, match="the stage 'propose' differs from the bundle 'small'"):
        check_record(measure(damaged, reference, [image]))
    divergence = first_divergence(damaged, reference, [image], TOLERANCES)
    assert divergence is not None
    name = "network.deepmask.trunk.blocks.3.depthwise.weight"
    model = onnx.load(damaged.stage_path("propose"))
    (node,) = [one for one in model.graph.node if name in one.input]
    assert (divergence.stage, divergence.node, divergence.op) == ("propose", node.name, "Conv")
    assert divergence.parameters == (name,)
    assert divergence.image == str(image)


def test_the_image_that_shows_a_divergence_is_named_with_its_layer(
    bundle: Bundle, image: Path, folder: Path
) -> None:
    """A layer in the middle is clipped at a value that a dull image never reaches."""
    dull = folder / "dull.png"
    cv2.imwrite(str(dull), np.full((72, 96, 3), 127, np.uint8))
    value = onnx.load(bundle.stage_path("features")).graph.node[-6].output[0]
    reference = bundle_reference(bundle, bundle)
    model = exposing(reference.model("features"), [value])
    highest = max(
        float(session_function(model)(inputs)[value].max())
        for stage, inputs in calls_of(bundle, reference.functions, dull)
        if stage == "features"
    )

    def cut_off(model: onnx.ModelProto) -> None:
        (node,) = [one for one in model.graph.node if value in one.output]
        limit = numpy_helper.from_array(np.array(highest * 1.01, np.float32), "limit")
        model.graph.initializer.append(limit)
        node.output[0] = "uncut"
        cut = onnx.helper.make_node("Min", ["uncut", "limit"], [value], name="planted")
        model.graph.node.insert(list(model.graph.node).index(node) + 1, cut)

    broken = with_change(bundle, folder / "cut", "features", cut_off)
    against = bundle_reference(broken, bundle)
    assert first_divergence(broken, against, [dull], TOLERANCES) is None
    divergence = first_divergence(broken, against, [dull, image], TOLERANCES)
    assert divergence is not None
    assert (divergence.stage, divergence.node, divergence.value) == ("features", "planted", value)
    assert divergence.image == str(image)


def test_lost_accuracy_fails(record: Record) -> None:
    kept = replace(record, accuracy={"mask AP": Accuracy(expected=0.3, found=0.2998)})
    check_record(kept)
    lost = replace(record, accuracy={"mask AP": Accuracy(expected=0.3, found=0.299)})
    with pytest.raises(ModelError) as caught:
        check_record(lost)
    assert caught.value.what == (
        "the whole cascade is less accurate than PyTorch: mask AP is 0.2990, at least 99.9% of "
        "0.3000 was expected"
    )


def test_the_command_compares_accuracy_on_a_data_set(
    bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    shutil.copyfile(image, tmp_path / "images" / "cat.png")
    outline = [20.0, 10.0, 80.0, 10.0, 80.0, 70.0, 20.0, 70.0]
    content = {
        "images": [{"id": 1, "file_name": "cat.png", "height": 72, "width": 96}],
        "categories": [{"id": 1, "name": "animal"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [outline],
                "bbox": [20.0, 10.0, 60.0, 60.0],
                "area": 3600.0,
                "iscrowd": 0,
            }
        ],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    words = ["verify", str(bundle.root), "--reference", str(bundle.root), "--image", str(image)]
    words += ["--dataset", str(tmp_path), "--report", str(tmp_path / "figures.json")]
    assert invoke(words) == 0
    lines = [one for one in capsys.readouterr().out.splitlines() if one.startswith("mask A")]
    assert [line.partition(":")[0] for line in lines] == [
        "mask AR@10",
        "mask AR@100",
        "mask AP",
        "mask AP50",
    ]
    saved = json.loads((tmp_path / "figures.json").read_text())["accuracy"]
    assert all(one["expected"] == one["found"] for one in saved.values())
    assert saved["mask AR@10"]["found"] > 0


def test_a_changed_weight_is_found_by_its_checkpoint(
    bundle: Bundle, image: Path, folder: Path
) -> None:
    save_checkpoint(folder / "own.safetensors", cascade_from_bundle(bundle))
    change = add_to_weight("network.refinements.1.vertical.weight_half", 0.5)
    broken = with_change(bundle, folder / "refine", "refine", change)
    reference = torch_reference(broken, folder / "own.safetensors")
    divergence = first_divergence(broken, reference, [image], TOLERANCES)
    assert divergence is not None
    assert (divergence.stage, divergence.op) == ("refine", "Conv")
    assert divergence.parameters == ("network.refinements.1.vertical.weight",)
    assert "the first layer that diverges is" in str(divergence)


def test_a_bundle_does_not_diverge_from_itself(bundle: Bundle, image: Path) -> None:
    assert first_divergence(bundle, bundle_reference(bundle, bundle), [image], TOLERANCES) is None


def test_other_networks_are_refused(bundle: Bundle, folder: Path) -> None:
    source = SourceSpec(networks=(NetworkSpec(name="deepmask-mini"),))
    other = with_manifest(bundle, folder / "foreign", source=source)
    with pytest.raises(ModelError, match="expected the networks of the bundle, sharpmask-mini"):
        bundle_reference(bundle, other)


def test_a_accumulator_counts_what_is_not_finite_and_what_has_another_shape() -> None:
    accumulator = Accumulator()
    accumulator.add(np.array([1.0, np.inf, np.nan, 2.0]), np.array([1.5, np.inf, np.nan, np.nan]))
    accumulator.add(np.zeros(3), np.zeros(4))
    result = accumulator.result()
    assert (result.calls, result.values, result.not_finite, result.misshapen) == (2, 1, 1, 1)
    assert (result.max_error, result.largest) == (0.5, 1.0)
    assert relative_error(np.zeros(3), np.zeros(4)) == float("inf")
    assert relative_error(np.array([100.0]), np.array([99.0])) == 0.01


def test_the_cosine_is_of_all_calls_together() -> None:
    accumulator = Accumulator()
    accumulator.add(np.array([3.0]), np.array([3.0]))
    accumulator.add(np.array([4.0]), np.array([0.0]))
    assert accumulator.result().cosine == pytest.approx(0.6)
    assert Accumulator().result().cosine == 1.0


def proposals(boxes: np.ndarray[Any, Any]) -> Any:
    """Return what matching reads of proposals, with full masks."""
    masks = np.ones((len(boxes), 4, 4), bool)
    scores = np.linspace(0.9, 0.8, len(boxes), dtype=np.float32)
    return Proposals(boxes=boxes, scores=scores, masks=masks)  # type: ignore[arg-type]  # a stand-in


def test_detections_are_matched_once_each() -> None:
    boxes = np.array([[0, 0, 4, 4], [1, 0, 4, 4]], np.float32)
    found = match(proposals(boxes), proposals(boxes[::-1]))
    assert [pair.box_error for pair in found.pairs] == [0.0, 0.0]
    assert len(match(proposals(boxes), proposals(boxes[:1])).pairs) == 1


def test_impossible_thresholds_are_refused() -> None:
    with pytest.raises(OptionError, match=r"mask_iou is 1\.5, expected 0 to 1"):
        Thresholds(mask_iou=1.5)
    with pytest.raises(OptionError, match="tolerance is nan"):
        replace(DEFAULT_THRESHOLDS["fp16"], tolerance=float("nan"))


def test_the_command_saves_figures_and_judges_them_again(
    bundle: Bundle, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", str(bundle.root)]
    run = [*words, "--image", str(image), "--reference", str(bundle.root)]
    assert invoke(run) == 0
    assert "small agrees" not in capsys.readouterr().err
    saved = bundle.root.parent / "small-verify.json"
    assert json.loads(saved.read_text())["reference"] == "the bundle 'small'"
    assert invoke([*words, "--from-report"]) == 0
    assert "detections: " in capsys.readouterr().out


def test_the_command_names_the_first_stage_that_fails(
    bundle: Bundle, damaged: Bundle, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", str(damaged.root), "--image", str(image)]
    words += ["--reference", str(bundle.root)]
    assert invoke(words) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("foveate: ")]
    assert "the stage 'propose' differs" in line
    assert invoke([*words, "--bisect"]) == 1
    assert "'network.deepmask.trunk.blocks.3.depthwise.weight' differs" in capsys.readouterr().err


def test_without_pytorch_the_command_says_how_to_get_it(
    bundle: Bundle, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("execution.stages", "to_onnx.bundle_weights", "to_onnx.onnx_graph"):
        monkeypatch.delitem(sys.modules, f"foveate.export.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert invoke(["verify", str(bundle.root), "--image", str(image)]) == 1
    assert "the module 'torch' is not installed: run: pip" in capsys.readouterr().err


def test_what_is_no_bundle_is_refused(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["verify", str(bundle.stage_path("refine"))]) == 1
    assert "expected the directory of a bundle, found a file" in capsys.readouterr().err
    content = json.loads((bundle.root / "manifest.json").read_text())
    del content["stages"]["refine"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    for command in ("verify", "inspect"):
        assert invoke([command, str(tmp_path)]) == 1
        assert "refine" in capsys.readouterr().err
