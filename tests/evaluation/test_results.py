# SPDX-License-Identifier: Apache-2.0
"""Results of another program are read, checked and measured."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from foveate.errors import DataError
from foveate.evaluation import Bootstrap, GroundTruth, evaluate_results, read_results
from foveate.evaluation.results import same_images

SIZE = (60, 80)
FEW = Bootstrap(replicates=10)


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
    return GroundTruth(content, images=Path("images"), name="two images")


def result(**changes: Any) -> dict[str, Any]:
    whole = {"image_id": 4, "category_id": 7, "score": 0.9, "segmentation": encode(10, 10, 20, 20)}
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


def write(folder: Path, content: Any) -> Path:
    file = folder / "results.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def entries_of(file: Path, truth: GroundTruth, task: Any) -> list[dict[str, Any]]:
    found = read_results(file, truth, task=task)
    return [entry for image in truth.images for entry in found.of(image)]


def figures_of(file: Path, truth: GroundTruth, task: Any) -> dict[str, float]:
    found = read_results(file, truth, task=task)
    figures = evaluate_results(found, truth, task=task, resampling=FEW).figures
    return {name: figure.value for name, figure in figures.items()}


def test_results_of_another_program_are_measured(truth: GroundTruth, tmp_path: Path) -> None:
    figures = figures_of(write(tmp_path, [result()]), truth, "detections")
    assert figures["mask AP"] == pytest.approx(51 / 101)  # one of two objects


def test_polygons_and_run_lengths_are_masks_too(truth: GroundTruth, tmp_path: Path) -> None:
    plain = {"size": list(SIZE), "counts": [10 * 60 + 10, *[20, 40] * 19, 20, 30 + 50 * 60]}
    polygon = [[10, 10, 30, 10, 30, 30, 10, 30]]
    entries = [result(segmentation=shape) for shape in (plain, polygon)]
    found = entries_of(write(tmp_path, entries), truth, "proposals")
    masks = [entry["segmentation"] for entry in found]
    overlaps = coco_mask.iou(masks, [encode(10, 10, 20, 20)], [0])
    assert overlaps.tolist() == [[1.0], [1.0]]


def test_boxes_alone_give_the_figures_of_boxes(truth: GroundTruth, tmp_path: Path) -> None:
    entries = [result(segmentation=None, bbox=[10, 10, 20, 20.0])]
    figures = figures_of(write(tmp_path, entries), truth, "proposals")
    assert figures["box AR@100"] == pytest.approx(0.5)
    assert not any(name.startswith("mask") for name in figures)


def test_proposals_need_no_category_of_the_data_set(truth: GroundTruth, tmp_path: Path) -> None:
    entries = [result(category_id=None), result(image_id=8, category_id=1)]
    figures = figures_of(write(tmp_path, entries), truth, "proposals")
    assert figures["mask AR@100"] == pytest.approx(0.5)


def test_results_elsewhere_are_left_out_and_counted(truth: GroundTruth, tmp_path: Path) -> None:
    file = write(tmp_path, [result(image_id=5), result()])
    assert read_results(file, truth, task="detections").elsewhere == 1
    assert [entry["image_id"] for entry in entries_of(file, truth, "detections")] == [4]


def test_ids_may_be_strings_of_digits_as_in_a_data_set(truth: GroundTruth, tmp_path: Path) -> None:
    file = write(tmp_path, [result(image_id="4", category_id="7", score="0.5")])
    [entry] = entries_of(file, truth, "detections")
    assert (entry["image_id"], entry["category_id"], entry["score"]) == (4, 7, 0.5)


def test_a_byte_order_mark_is_passed_over(truth: GroundTruth, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps([result()]), encoding="utf-8-sig")
    assert len(entries_of(file, truth, "detections")) == 1
    for order in ("le", "be"):
        file.write_text("\ufeff" + json.dumps([result()]), encoding=f"utf-16-{order}")
        with pytest.raises(DataError, match="it is UTF-16, and must be UTF-8"):
            read_results(file, truth, task="detections")


@pytest.mark.parametrize("images_first", [True, False])
def test_what_run_writes_is_matched_by_names(
    images_first: bool, truth: GroundTruth, tmp_path: Path
) -> None:
    """Its ids are its own: images and categories from 1."""
    images = {
        "images": [
            {"id": 1, "file_name": "some\\images\\8.jpg"},
            {"id": 2, "file_name": "/x/4.jpg"},
            {"id": 4, "file_name": "Zoë.jpg"},
        ],
        "categories": [{"id": 1, "name": "dög"}, {"id": 2, "name": "cat"}],
    }
    found = {
        "annotations": [
            result(image_id=1, category_id=2, score=0.1),
            result(image_id=2, category_id=2, score=0.2),
            result(image_id=2, category_id=1, score=0.3),
            result(image_id=4, category_id=2, score=0.4),
        ]
    }
    whole = {**images, **found} if images_first else {**found, **images}
    file = tmp_path / "results.json"
    file.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    entries = entries_of(file, truth, "detections")
    assert [(e["image_id"], e["category_id"], e["score"]) for e in entries] == [
        (4, 7, 0.2),
        (8, 7, 0.1),
    ]
    assert read_results(file, truth, task="detections").elsewhere == 1


def test_the_longer_common_path_decides_between_equal_names(tmp_path: Path) -> None:
    content = {
        "images": [
            {"id": i, "file_name": f"{folder}/1.jpg", "height": SIZE[0], "width": SIZE[1]}
            for i, folder in enumerate(("a", "b"), 1)
        ],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [],
    }
    truth = GroundTruth(content, images=Path("p"), name="two directories")

    def images(*names: str) -> Any:
        listed = [{"id": i, "file_name": name} for i, name in enumerate(names, 10)]
        return same_images(listed, truth, Path("r.json"))

    assert images("x/b/1.jpg", "x/a/1.jpg") == {10: 2, 11: 1}
    assert images("1.jpg", "p/a/1.jpg", "q/a/1.jpg") == {11: 1}
    with pytest.raises(
        DataError, match=r"two images .* may be image 1 of two directories: 10 and 11"
    ):
        images("q/a/1.jpg", "r/a/1.jpg")


def test_boxes_are_measured_where_an_object_has_no_mask(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 4, "file_name": "4.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 7, "segmentation": encode(10, 10, 20, 20)},
            {"id": 2, "image_id": 4, "category_id": 7, "segmentation": [], "bbox": [40, 5, 9, 9]},
        ],
    }
    truth = GroundTruth(content, images=Path("images"), name="mixed")
    assert truth.unmasked == 1
    entries = [result(), result(segmentation=encode(40, 5, 9, 9))]
    figures = figures_of(write(tmp_path, entries), truth, "detections")
    assert figures["box AP"] == pytest.approx(1)
    assert not any(name.startswith("mask") for name in figures)


@pytest.mark.parametrize(
    ("objects", "says"), [([], "has no objects"), ([{"iscrowd": 1}], "has only crowds")]
)
def test_a_data_set_in_which_no_object_counts_is_an_error(
    objects: Any, says: str, tmp_path: Path
) -> None:
    content = {
        "images": [{"id": 4, "file_name": "4.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 7, "segmentation": encode(1, 1, 9, 9), **o}
            for o in objects
        ],
    }
    file = write(tmp_path, content)
    with pytest.raises(DataError, match=rf"no object is evaluated: 1 image {says}: .*: annotate"):
        GroundTruth.open(tmp_path, annotations=file)


def test_no_results_are_results(truth: GroundTruth, tmp_path: Path) -> None:
    file = write(tmp_path, [])
    assert entries_of(file, truth, "detections") == []
    assert read_results(file, truth, task="detections").regions == ("mask", "box")


def test_results_of_an_image_may_lie_anywhere_in_the_file(
    truth: GroundTruth, tmp_path: Path
) -> None:
    entries = [result(image_id=(4, 8)[i % 2], score=i / 10) for i in range(7)]
    found = entries_of(write(tmp_path, entries), truth, "proposals")
    assert [entry["score"] for entry in found] == [0.0, 0.2, 0.4, 0.6, 0.1, 0.3, 0.5]


def test_names_outside_ascii_move_nothing(truth: GroundTruth, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    entries = [{"who": "Zoë 猫" * i, **result(score=i / 10)} for i in range(4)]
    file.write_text(json.dumps(entries, ensure_ascii=False, indent=1), encoding="utf-8")
    found = entries_of(file, truth, "proposals")
    assert [entry["score"] for entry in found] == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (7, "it is int and not an object"),
        (result(image_id=None), "'image_id' is missing"),
        (result(image_id="four"), "its image_id: 'four' is not an integer"),
        (result(score=float("nan")), "its score: nan is not a finite number"),
        (result(score=True), "its score: True is not a finite number"),
        (result(score=10**400), "its score: a huge number is not a finite number"),
        (result(category_id=None), "'category_id' is missing"),
        (result(segmentation=None, bbox=[1, 2, 3, 4]), "some results have a segmentation"),
        (result(bbox=[1, 2, 3]), r"its bbox: \[1, 2, 3\] is not a box"),
        (result(bbox=[1, 2, -3, 4]), r"its bbox: \[1, 2, -3, 4\] is not a box"),
        (result(segmentation={"size": [9, 9], "counts": [81]}), r"its size is \[9, 9\]"),
        *(
            (result(segmentation={"size": list(SIZE), "counts": counts}), "the run-length code")
            for counts in ("h", "", "~~", "0" * 9)
        ),
    ],
)
def test_a_damaged_result_is_named(bad: Any, says: str, truth: GroundTruth, tmp_path: Path) -> None:
    file = write(tmp_path, [result(), bad])
    with pytest.raises(
        DataError, match=rf"result 1 cannot be used, .*{says}.*results\.json: write a JSON list"
    ):
        entries_of(file, truth, "detections")


def test_a_mask_behind_boxes_alone_is_named(truth: GroundTruth, tmp_path: Path) -> None:
    file = write(tmp_path, [result(segmentation=None, bbox=[1, 2, 3, 4]), result()])
    message = "result 1 cannot be used, some results have a segmentation and some have none"
    with pytest.raises(DataError, match=message):
        entries_of(file, truth, "detections")


def test_no_results_need_no_class_in_common(truth: GroundTruth, tmp_path: Path) -> None:
    content = {"annotations": [], "categories": [{"id": 7, "name": "dog"}]}
    assert entries_of(write(tmp_path, content), truth, "detections") == []


def test_boxes_without_one_are_named(truth: GroundTruth, tmp_path: Path) -> None:
    file = write(tmp_path, [result(segmentation=None)])
    with pytest.raises(DataError, match="result 0 cannot be used, 'bbox' is missing"):
        entries_of(file, truth, "detections")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("results", r"result 0 cannot be read, expected '\[' or '{', found"),
        ({"annotations": {}}, r"result 0 cannot be read, expected '\[', found '{'"),
        (
            [result(), result(category_id=6)],
            r"results have the category ids 6, which are not in two images.*categories are 7 cat",
        ),
        ({"annotations": [result()], "images": [{"id": 4}]}, "'file_name' is missing"),
        ({"annotations": [result()], "categories": 7}, "they are int and not a list"),
        (
            {"annotations": [result()], "categories": [{"id": 7, "name": "dog"}]},
            "no class in common: the results have dog, the data set has cat",
        ),
        ([result(image_id=99)], "none of 1 results belongs to an image of two images"),
    ],
)
def test_another_kind_of_file_is_an_error(
    content: Any, says: str, truth: GroundTruth, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        read_results(write(tmp_path, content), truth, task="detections")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"result 0 cannot be read, expected '\[' or '{', found the end of the file"),
        ("[{", r"result 0 cannot be read, expecting property name .* at byte \d"),
        ('[{"image_id": 4}, {"image_id": 4', r"result 1 cannot be read, expecting .* at byte 32"),
        ('[{"image_id": 4}', r"result 1 cannot be read, expected ',' or '\]', found the end"),
        ('[{"image_id": 4} {}]', r"result 1 cannot be read, expected ',' or '\]', found '{'"),
        ("[] []", r"result 0 cannot be read, expected the end of the file, found '\['"),
        ("[" * 100_000, "result 0 cannot be read, it is nested too deeply"),
    ],
)
def test_a_file_that_is_no_json_list_is_an_error(
    text: str, says: str, truth: GroundTruth, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{says}.*results\.json: write a JSON list"):
        read_results(file, truth, task="proposals")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.json", "No such file or directory"),
        ("folder", "Is a directory"),
        ("pipe", "not a regular file"),
    ],
)
def test_a_path_that_is_no_file_is_an_error(
    name: str, reason: str, truth: GroundTruth, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    message = rf"the results cannot be read \({reason}\): .*{name}: pass a file of results"
    with pytest.raises(DataError, match=message):
        read_results(tmp_path / name, truth, task="detections")


def test_a_number_may_lie_in_two_parts_of_the_file(truth: GroundTruth, tmp_path: Path) -> None:
    part = 1 << 20  # bytes that are read at a time
    text = '{"version": 12, "annotations": [' + json.dumps(result()) + "]}"
    file = tmp_path / "results.json"
    file.write_text("{" + " " * (part - text.index("2, ")) + text[1:], encoding="utf-8")
    assert file.read_bytes()[part - 1 : part + 1] == b"12"
    found = read_results(file, truth, task="proposals")
    assert [len(found.of(image)) for image in truth.images] == [1, 0]


def test_memory_is_that_of_an_image_and_not_of_the_file(truth: GroundTruth, tmp_path: Path) -> None:
    long = result(note="a" * 1000)
    file = write(tmp_path, [{**long, "image_id": 4 + 4 * (i >= 9000)} for i in range(9100)])
    (image,) = truth.images[1:]
    tracemalloc.start()
    try:
        found = read_results(file, truth, task="proposals")
        assert len(found.of(image)) == 100
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6e6 < file.stat().st_size
