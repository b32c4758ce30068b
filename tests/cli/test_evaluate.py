# SPDX-License-Identifier: Apache-2.0
"""`foveate evaluate` with bundles, PyTorch and the results of other programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from foveate.bundle import Bundle
from foveate.cli import invoke
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.models.checkpoint import Cascade, save_checkpoint

SIZE = (120, 160)
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of two images with a red square each."""
    root = tmp_path_factory.mktemp("data")
    split = root / "validation"
    (split / "images").mkdir(parents=True)
    annotations = []
    for number, left in ((1, 40), (2, 70)):
        image = np.zeros((*SIZE, 3), np.uint8)
        image[30:80, left : left + 50] = (0, 0, 255)
        cv2.imwrite(str(split / "images" / f"{number}.png"), image)
        rle = coco_mask.encode(np.asfortranarray((image[..., 2] > 0).astype(np.uint8)))
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "segmentation": {"size": list(SIZE), "counts": rle["counts"].decode()},
                "area": 2500,
                "bbox": [left, 30, 50, 50],
                "iscrowd": 0,
            }
        )
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
        "annotations": annotations,
    }
    (split / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return root


@pytest.fixture
def evaluate(dataset: Path, contrast_bundle: Path, tmp_path: Path) -> Evaluate:
    """Run the command and return its JSON."""

    def run(*words: str, bundle: Path | str | None = contrast_bundle) -> dict[str, Any]:
        file = tmp_path / "figures.json"
        fixed = ("--dataset", str(dataset), "--replicates", "5", "--json", str(file))
        first = () if bundle is None else (str(bundle),)
        assert invoke(["evaluate", *first, *fixed, *words]) == 0
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content

    return run


def test_proposals_are_a_thousand_by_default(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    content = evaluate("--proposals")
    figures = content["figures"]
    assert content["proposals_per_image"] == 1000
    for name in ("AR@10", "AR@100", "AR@1000", "AUC", "AR@1000, small", "AUC, medium"):
        assert {f"mask {name}", f"box {name}"} <= figures.keys()
    assert figures["mean best overlap"]["value"] > 0.5
    said = capsys.readouterr()
    assert "mean best overlap" in said.out
    assert "2 images, at most 1000 proposals each" in said.out
    assert "Evaluating: 2 of 2" in said.err


def test_top_k_limits_the_proposals_and_the_figures(evaluate: Evaluate) -> None:
    content = evaluate("--proposals", "--top-k", "3")
    assert content["proposals_per_image"] == 3
    assert content["cost"]["results_per_image"]["most"] <= 3
    assert "mask AR@3" in content["figures"]
    assert "mask AR@10" not in content["figures"]


def test_the_original_choice_fills_up_the_windows_that_a_small_image_lacks(
    evaluate: Evaluate,
) -> None:
    words = ("--proposals", "--top-k", "300")
    usual, released = evaluate(*words), evaluate(*words, "--reproduce-original")
    assert released["subject"] == f"{usual['subject']}, as the original"
    counts = [content["cost"]["results_per_image"]["most"] for content in (usual, released)]
    assert counts[0] < 100 < counts[1]
    name = "mask AR@10"  # the first window is no object, and has the best score
    assert released["figures"][name]["value"] < 0.5 < usual["figures"][name]["value"]


OF_PIPELINE = (
    "--preset p --top-k 3 --scales 0.5 --max-side 64 --tiles off --tile-overlap 9 --checkpoint c "
    "--detector d --device auto --backend auto --threads 2 --reproduce-original"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            f"mini --results r.json {OF_PIPELINE}",
            "--results runs no pipeline, so it takes no bundle, "
            + ", ".join(word for word in OF_PIPELINE.split() if word.startswith("--")),
        ),
        (
            "mini --results r.json --proposals --top-k 3",
            "it takes no bundle: omit one or the other",
        ),
        ("mini --checkpoint c", "--checkpoint is evaluated instead of a bundle, found 'mini' too"),
        ("--detector d", "--detector needs --checkpoint: pass a proposal network too"),
    ],
)
def test_what_would_have_no_effect_is_refused_by_name(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["evaluate", *words.split(), "--dataset", "nowhere"]) == 1
    assert message in capsys.readouterr().err


def test_detections_have_average_precision_and_a_cost(evaluate: Evaluate) -> None:
    content = evaluate("--backend", "onnxruntime")
    for name in ("AP", "AP50", "AP75", "AP, small", "AP, medium", "AP, large", "AP, class red"):
        assert f"mask {name}" in content["figures"]
    assert content["backend"] == "onnxruntime"
    assert content["cost"]["seconds_per_image"]["median"] > 0
    assert content["cost"]["peak_memory_bytes"] > 0


def test_results_of_another_program_need_no_bundle(
    evaluate: Evaluate, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((dataset / "validation" / "annotations.json").read_text(encoding="utf-8"))
    entries = [{**entry, "score": 0.5} for entry in truth["annotations"]]
    file = tmp_path / "results.json"
    file.write_text(json.dumps([*entries, {**entries[0], "image_id": 3}]), encoding="utf-8")
    content = evaluate("--results", str(file), bundle=None)
    assert content["figures"]["mask AP"]["value"] == pytest.approx(1)
    assert (content["subject"], content["cost"]) == (str(file), None)
    assert "1 result belongs to an image that the data set lacks" in capsys.readouterr().err
    content = evaluate("--results", str(file), "--proposals", bundle=None)
    assert content["figures"]["mask AR@1000"]["value"] == pytest.approx(1)


def test_json_is_the_only_output_on_stdout(
    dataset: Path, contrast_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--dataset", str(dataset), "--replicates", "5", "--limit", "1", "--json", "-"]
    assert invoke(["evaluate", str(contrast_bundle), *words]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["dataset"]["images"] == 1
    assert "1 image, 1 object; intervals by 5 resamplings of 1 single object" in " ".join(
        said.err.split()
    )


def test_annotations_may_be_in_another_folder(
    dataset: Path, contrast_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = dataset / "validation"
    words = ["--dataset", str(split / "images"), "--json", "-", "--replicates", "5"]
    words += ["--annotations", str(split / "annotations.json")]
    assert invoke(["evaluate", str(contrast_bundle), *words]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"]["objects"] == 2


def test_pytorch_gives_the_same_figures_as_onnx_runtime(evaluate: Evaluate) -> None:
    """With the shipped weights, on a data set that is too small to measure their accuracy."""
    reports = [
        evaluate("--proposals", "--top-k", "20", "--backend", backend, bundle="mini")
        for backend in ("onnxruntime", "torch")
    ]
    assert [report["backend"] for report in reports] == ["onnxruntime", "torch"]
    ours, theirs = (report["figures"] for report in reports)
    for name, figure in ours.items():
        assert figure["value"] == pytest.approx(theirs[name]["value"], abs=1e-3), name


def test_a_checkpoint_is_exported_and_evaluated_instead_of_a_bundle(
    evaluate: Evaluate, contrast_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mini.safetensors"
    save_checkpoint(file, cascade_from_bundle(Bundle.open("mini")))
    exported: list[Cascade] = []

    def export(cascade: Cascade, directory: Path) -> Bundle:
        """Replace the export, which takes half a minute and is tested elsewhere."""
        exported.append(cascade)
        shutil.copytree(contrast_bundle, directory)
        return Bundle.open(directory)

    monkeypatch.setattr("foveate.export.bundle_export.export_bundle", export)
    content = evaluate("--proposals", "--checkpoint", str(file), bundle=None)
    assert [cascade.info.proposals for cascade in exported] == ["sharpmask-mini"]
    assert content["subject"] == str(file)
    assert content["figures"]["mean best overlap"]["value"] > 0.5


def spoiled(dataset: Path, folder: Path, spoil: Callable[[dict[str, Any]], None]) -> Path:
    """Copy the data set with other annotations."""
    copy = folder / "spoiled"
    shutil.copytree(dataset, copy)
    file = copy / "validation" / "annotations.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    spoil(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    return copy


def test_classes_that_the_bundle_lacks_are_named(
    dataset: Path, contrast_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["categories"].append({"id": 3, "name": "violet"})
        content["annotations"][1]["category_id"] = 3

    words = ["evaluate", str(contrast_bundle), "--replicates", "2", "--dataset"]
    assert invoke([*words, str(dataset)]) == 0
    assert "lacks" not in capsys.readouterr().err
    assert invoke([*words, str(spoiled(dataset, tmp_path, spoil))]) == 0
    assert (
        "the bundle lacks 1 of the 2 classes with objects (violet), and the average precision of "
        "each counts as 0: give the objects the bundle's classes, or measure proposals"
    ) in capsys.readouterr().err


def test_missing_images_are_reported_before_anything_runs(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "validation" / "images" / "2.png").unlink()
    assert invoke(["evaluate", "no such bundle", "--dataset", str(copy)]) == 1
    said = capsys.readouterr().err
    assert "1 of 2 images are missing, the first is image 2" in said
    assert "2.png: put them there" in said


def test_an_image_of_another_size_than_annotated_is_named(
    dataset: Path, contrast_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["images"][0]["height"] = 240
        content["annotations"][0]["segmentation"] = [[40, 30, 90, 30, 90, 80, 40, 80]]

    words = ["--dataset", str(spoiled(dataset, tmp_path, spoil)), "--proposals"]
    assert invoke(["evaluate", str(contrast_bundle), *words]) == 1
    said = capsys.readouterr().err
    assert "image 1 is annotated as 160x240 pixels, its file has 160x120" in said


def test_objects_that_cannot_be_found_are_counted_and_named(
    dataset: Path, contrast_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"] = [[40, 30, 90, 30, 60, 30]]

    words = ["--dataset", str(spoiled(dataset, tmp_path, spoil)), "--proposals", "--top-k", "3"]
    assert invoke(["evaluate", str(contrast_bundle), *words]) == 0
    said = capsys.readouterr().err
    assert "cannot be found: 1 because its area is zero (annotation 1 of image 1)" in said


@pytest.mark.parametrize("more", [[], ["--reproduce-original"]])
def test_an_unknown_backend_is_one_line_that_names_the_known_ones(
    dataset: Path, contrast_bundle: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    words = ["--dataset", str(dataset), "--backend", "abacus", *more]
    assert invoke(["evaluate", str(contrast_bundle), *words]) == 1
    said = capsys.readouterr().err
    assert "there is no backend 'abacus': use auto, " in said
    assert said.endswith(", torch\n")
