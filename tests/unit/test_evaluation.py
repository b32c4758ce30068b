# SPDX-License-Identifier: Apache-2.0
"""Figures equal pycocotools' own, and intervals follow the families."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foveate.errors import DataError, OptionError
from foveate.training.evaluation import GroundTruth, Resampling, measure
from foveate.training.evaluation.annotations import Picture

SIZE = (120, 160)
CLASSES = {"cat": 3, "bird": 5, "boat": 9}
FEW = Resampling(replicates=50)


def rectangle(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    rle: dict[str, Any] = coco_mask.encode(mask)
    return rle


def annotation(identifier: int, image: int, category: int, rle: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": identifier,
        "image_id": image,
        "category_id": category,
        "segmentation": rle,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": float(coco_mask.area(rle)),
        "iscrowd": 0,
        "family": f"family {identifier % 7}",
    }


def scene(pictures: int = 12, seed: int = 3) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random rectangles with a few crowds, and results near some of them, with equal scores."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, pictures + 1):
        for _ in range(int(random.integers(0, 6))):
            x, y = int(random.integers(0, 100)), int(random.integers(0, 80))
            width, height = int(random.integers(4, 59)), int(random.integers(4, 39))
            category = int(random.choice(list(CLASSES.values())))
            rle = rectangle(x, y, width, height)
            entry = annotation(len(annotations) + 1, image, category, rle)
            entry["iscrowd"] = int(random.random() < 0.1)
            annotations.append(entry)
            for _ in range(int(random.integers(0, 9))):
                dx, dy = random.integers(-3, 4, 2)
                found = rectangle(max(x + int(dx), 0), max(y + int(dy), 0), width + 1, height)
                guess = category if random.random() < 0.8 else 3
                results.append(
                    {
                        "image_id": image,
                        "category_id": guess,
                        "score": float(random.integers(0, 20)) / 20,
                        "segmentation": found,
                        "bbox": coco_mask.toBbox(found).tolist(),
                    }
                )
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for i in range(1, pictures + 1)
    ]
    categories = [{"id": i, "name": name} for name, i in CLASSES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def open_truth(content: dict[str, Any]) -> GroundTruth:
    return GroundTruth(content, pictures=Path("pictures"), name="scene")


def plain_coco(
    content: dict[str, Any],
    results: list[dict[str, Any]],
    *,
    kind: str,
    by_class: bool,
) -> Any:
    """Evaluate as pycocotools' own demo does."""
    keep = "segmentation" if kind == "segm" else "bbox"
    own = {"image_id", "category_id", "score", keep}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(content, default=bytes.decode))
        truth.createIndex()
        found = truth.loadRes([{k: v for k, v in r.items() if k in own} for r in results])
        evaluated = COCOeval(truth, found, kind)
        evaluated.params.useCats = int(by_class)
        evaluated.params.maxDets = [1, 10, 100]
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated.stats


@pytest.mark.parametrize(("region", "kind"), [("mask", "segm"), ("box", "bbox")])
def test_proposals_equal_plain_pycocotools(region: str, kind: str) -> None:
    content, results = scene()
    stats = plain_coco(content, results, kind=kind, by_class=False)
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    names = ["AR@10", "AR@100", "AR@100, small", "AR@100, medium"]
    values = [figures[f"{region} {name}"].value for name in names]
    assert values == pytest.approx([stats[7], stats[8], stats[9], stats[10]], abs=1e-6)


@pytest.mark.parametrize(("region", "kind"), [("mask", "segm"), ("box", "bbox")])
def test_detections_equal_plain_pycocotools(region: str, kind: str) -> None:
    content, results = scene()
    stats = plain_coco(content, results, kind=kind, by_class=True)
    figures = measure(open_truth(content), results, task="detections", resampling=FEW)
    names = ["AP", "AP50", "AP75", "AP, small", "AP, medium", "AR@100"]
    values = [figures[f"{region} {name}"].value for name in names]
    assert values == pytest.approx([*stats[:5], stats[8]], abs=1e-6)


def test_a_size_without_objects_has_no_figure() -> None:
    content, results = scene()
    figures = measure(open_truth(content), results, task="detections", resampling=FEW)
    assert np.isnan(figures["mask AP, large"].value)


@pytest.mark.parametrize("task", ["proposals", "detections"])
def test_no_result_is_a_figure_of_zero(task: Any) -> None:
    content, _ = scene()
    figures = measure(open_truth(content), [], task=task, resampling=FEW)
    name = "mask AR@100" if task == "proposals" else "mask AP"
    assert (figures[name].value, figures[name].low, figures[name].high) == (0, 0, 0)


def test_no_object_is_no_figure() -> None:
    content, results = scene()
    content["annotations"] = []
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    assert all(np.isnan(figure.value) for figure in figures.values())


def test_a_result_on_a_crowd_is_neither_right_nor_wrong() -> None:
    right, crowd = rectangle(10, 10, 30, 30), rectangle(70, 20, 50, 50)
    entries = [annotation(1, 1, 3, right), {**annotation(2, 1, 3, crowd), "iscrowd": 1}]
    content, _ = scene(pictures=1)
    content["annotations"] = entries
    base = {"image_id": 1, "category_id": 3}
    results = [
        {**base, "score": 0.9, "segmentation": rectangle(80, 30, 20, 20)},
        {**base, "score": 0.8, "segmentation": right},
    ]
    figures = measure(open_truth(content), results, task="detections", resampling=FEW)
    assert figures["mask AP"].value == pytest.approx(1.0)


def test_best_overlap_is_the_mean_over_objects() -> None:
    content, _ = scene(pictures=1)
    content["annotations"] = [
        annotation(1, 1, 3, rectangle(0, 0, 20, 20)),
        annotation(2, 1, 9, rectangle(100, 60, 10, 10)),
    ]
    results = [
        {"image_id": 1, "score": 0.1, "segmentation": rectangle(0, 0, 20, 10)},
        {"image_id": 1, "score": 0.9, "segmentation": rectangle(0, 0, 5, 20)},
    ]
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    assert figures["mean best overlap"].value == pytest.approx(0.25)
    large = figures["mean best overlap, at least 1 % of the picture"]
    assert large.value == pytest.approx(0.5)


def test_only_the_best_hundred_of_a_picture_count() -> None:
    content, _ = scene(pictures=1)
    content["annotations"] = [annotation(1, 1, 3, rectangle(0, 0, 20, 20))]
    wrong = rectangle(100, 60, 10, 10)
    results = [{"image_id": 1, "score": 0.5, "segmentation": wrong} for _ in range(100)]
    results.append({"image_id": 1, "score": 0.4, "segmentation": rectangle(0, 0, 20, 20)})
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    assert figures["mask AR@100"].value == 0
    assert figures["mean best overlap"].value == 0


def test_the_same_seed_gives_the_same_intervals() -> None:
    content, results = scene()
    first, second = (
        measure(open_truth(content), results, task="detections", resampling=FEW) for _ in range(2)
    )
    assert repr(first) == repr(second)


def test_the_interval_holds_the_value_and_has_a_width() -> None:
    content, results = scene(pictures=30)
    figure = measure(open_truth(content), results, task="detections")["mask AP"]
    assert figure.low < figure.value < figure.high


def test_a_replicate_equals_an_evaluation_of_the_resampled_objects() -> None:
    """Weights of 2 are the same objects and results twice; weights of 0 take both away."""
    content, _ = scene(pictures=2)
    one, two = rectangle(5, 5, 30, 30), rectangle(60, 60, 30, 30)
    content["annotations"] = [annotation(1, 1, 3, one), annotation(2, 2, 3, two)]
    results = [
        {"image_id": 1, "category_id": 3, "score": 0.9, "segmentation": one},
        {"image_id": 2, "category_id": 3, "score": 0.8, "segmentation": rectangle(0, 0, 9, 9)},
    ]
    figure = measure(open_truth(content), results, task="detections")["mask AP"]
    # Family 1 is drawn 0, 1 or 2 times out of 2: AP is 0, 51/101 (recalls up to .5) or 1.
    assert (figure.low, figure.high) == (0.0, 1.0)
    assert figure.value == pytest.approx(51 / 101)


def test_one_family_leaves_no_doubt() -> None:
    content, results = scene()
    for entry in content["annotations"]:
        entry["family"] = "the only one"
    figure = measure(open_truth(content), results, task="proposals")["mask AR@100"]
    assert figure.low == pytest.approx(figure.value)
    assert figure.high == pytest.approx(figure.value)


def test_objects_are_resampled_where_families_are_unknown() -> None:
    content, _ = scene()
    for entry in content["annotations"]:
        del entry["family"]
    truth = open_truth(content)
    assert (truth.unit, truth.families) == ("object", len(content["annotations"]))


def test_an_annotation_id_of_zero_is_refused() -> None:
    content, _ = scene()
    content["annotations"][0]["id"] = 0
    with pytest.raises(DataError, match=r"id 0, ids must start at 1.*convert the data set again"):
        open_truth(content)


def test_missing_annotations_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotations\.json.*foveate compose"):
        GroundTruth.open(tmp_path)


def test_a_data_set_opens_at_its_validation_split_and_up_to_a_limit(tmp_path: Path) -> None:
    content, _ = scene()
    split = tmp_path / "validation"
    split.mkdir()
    text = json.dumps(content, default=bytes.decode)
    (split / "annotations.json").write_text(text, encoding="utf-8")
    truth = GroundTruth.open(tmp_path, limit=2)
    expected = Picture(identifier=2, path=split / "pictures" / "2.jpg", height=120, width=160)
    assert truth.pictures[1:] == (expected,)
    assert {o["image_id"] for o in truth.objects} <= {1, 2}


def test_polygons_are_objects_too() -> None:
    content, _ = scene(pictures=1)
    entry = annotation(1, 1, 3, rectangle(10, 10, 30, 20))
    entry["segmentation"] = [[10, 10, 40, 10, 40, 30, 10, 30]]
    content["annotations"] = [entry]
    results = [{"image_id": 1, "score": 1.0, "segmentation": rectangle(10, 10, 30, 20)}]
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    assert figures["mask AR@100"].value == pytest.approx(1.0)


def test_replicates_must_be_positive() -> None:
    with pytest.raises(OptionError, match="replicates must be at least 1, found 0"):
        Resampling(replicates=0)
