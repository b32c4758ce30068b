# SPDX-License-Identifier: Apache-2.0
"""Results of another program are read, checked and measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from foveate.errors import DataError
from foveate.training.evaluation import GroundTruth, Resampling, measure, read_results

SIZE = (60, 80)
FEW = Resampling(replicates=10)


def encode(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    rle = coco_mask.encode(mask)
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


@pytest.fixture
def truth() -> GroundTruth:
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in (4, 8)
        ],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 7, "segmentation": encode(10, 10, 20, 20)},
            {"id": 2, "image_id": 8, "category_id": 7, "segmentation": encode(30, 5, 40, 40)},
        ],
    }
    return GroundTruth(content, pictures=Path("pictures"), name="two pictures")


def result(**changes: Any) -> dict[str, Any]:
    whole = {
        "image_id": 4,
        "category_id": 7,
        "score": 0.9,
        "segmentation": encode(10, 10, 20, 20),
    }
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


def write(folder: Path, content: Any) -> Path:
    file = folder / "results.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_results_of_another_program_are_measured(truth: GroundTruth, tmp_path: Path) -> None:
    found = read_results(write(tmp_path, [result()]), truth, task="detections")
    figures = measure(truth, found.entries, task="detections", resampling=FEW)
    assert figures["mask AP"].value == pytest.approx(51 / 101)  # one of two objects


def test_polygons_and_run_lengths_are_masks_too(truth: GroundTruth, tmp_path: Path) -> None:
    plain = {"size": list(SIZE), "counts": [10 * 60 + 10, *[20, 40] * 19, 20, 30 + 50 * 60]}
    polygon = [[10, 10, 30, 10, 30, 30, 10, 30]]
    entries = [result(segmentation=shape) for shape in (plain, polygon)]
    found = read_results(write(tmp_path, entries), truth, task="proposals")
    masks = [entry["segmentation"] for entry in found.entries]
    overlaps = coco_mask.iou(masks, [encode(10, 10, 20, 20)], [0])
    assert overlaps.tolist() == [[1.0], [1.0]]


def test_boxes_alone_give_the_figures_of_boxes(truth: GroundTruth, tmp_path: Path) -> None:
    entries = [result(segmentation=None, bbox=[10, 10, 20, 20.0])]
    found = read_results(write(tmp_path, entries), truth, task="proposals")
    assert found.regions == ("box",)
    figures = measure(truth, found.entries, task="proposals", regions=found.regions, resampling=FEW)
    assert figures["box AR@100"].value == pytest.approx(0.5)
    assert not any(name.startswith("mask") for name in figures)


def test_proposals_need_no_category_of_the_data_set(truth: GroundTruth, tmp_path: Path) -> None:
    entries = [result(category_id=None), result(image_id=8, category_id=1)]
    found = read_results(write(tmp_path, entries), truth, task="proposals")
    figures = measure(truth, found.entries, task="proposals", resampling=FEW)
    assert figures["mask AR@100"].value == pytest.approx(0.5)


def test_results_elsewhere_are_left_out_and_counted(truth: GroundTruth, tmp_path: Path) -> None:
    found = read_results(write(tmp_path, [result(), result(image_id=5)]), truth, task="detections")
    assert (len(found.entries), found.elsewhere) == (1, 1)


def test_no_results_are_results(truth: GroundTruth, tmp_path: Path) -> None:
    found = read_results(write(tmp_path, []), truth, task="detections")
    assert (found.entries, found.elsewhere) == ([], 0)
    assert found.regions == ("mask", "box")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (7, "it is int and no object"),
        (result(image_id=None), "'image_id' is missing"),
        (result(image_id="4"), "its image_id is '4'"),
        (result(score=float("nan")), "its score is nan"),
        (result(score=True), "its score is True"),
        (result(category_id=None), "'category_id' is missing"),
        (result(segmentation=None, bbox=[1, 2, 3, 4]), "some results have a segmentation"),
        (result(bbox=[1, 2, 3]), r"its bbox is \[1, 2, 3\]"),
        (result(bbox=[1, 2, -3, 4]), r"its bbox is \[1, 2, -3, 4\]"),
        (result(segmentation={"size": [9, 9], "counts": [81]}), r"its size is \[9, 9\]"),
        (result(segmentation={"size": list(SIZE), "counts": "~~"}), "run-length code is damaged"),
    ],
)
def test_a_damaged_result_is_named(bad: Any, says: str, truth: GroundTruth, tmp_path: Path) -> None:
    file = write(tmp_path, [result(), bad])
    with pytest.raises(
        DataError, match=rf"result 1 cannot be used, .*{says}.*results\.json: write a JSON list"
    ):
        read_results(file, truth, task="detections")


def test_boxes_without_one_are_named(truth: GroundTruth, tmp_path: Path) -> None:
    file = write(tmp_path, [result(segmentation=None)])
    with pytest.raises(DataError, match="result 0 cannot be used, 'bbox' is missing"):
        read_results(file, truth, task="detections")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"annotations": []}, "expected a list of results, found dict"),
        ([result(image_id=99)], "none of 1 results is of a picture of two pictures"),
    ],
)
def test_another_kind_of_file_is_an_error(
    content: Any, says: str, truth: GroundTruth, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        read_results(write(tmp_path, content), truth, task="detections")


def test_a_file_that_is_no_json_is_an_error(truth: GroundTruth, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text("[{", encoding="utf-8")
    with pytest.raises(DataError, match=r"no results can be read.*results\.json"):
        read_results(file, truth, task="detections")
