# SPDX-License-Identifier: Apache-2.0
"""Bad records of a data set: left out and counted by training, refused by evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tests.samples.datasets import (
    HEIGHT,
    WIDTH,
    annotation,
    compressed,
    content,
    read,
    square_mask,
    write,
)

from foveate.datasets import CocoDataset, Reason, find_source, read_annotations
from foveate.datasets.segmentations import check_code
from foveate.errors import DataError
from foveate.evaluation import GroundTruth

# pycocotools decodes into an array type of its own, of which NumPy 2 disapproves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# --- bad records ----------------------------------------------------------------------------

CUT = compressed()["counts"][:-1]
BAD_RECORDS = [
    (Reason.MALFORMED, annotation(id="seven")),
    (Reason.MALFORMED, annotation(id=1.5)),
    (Reason.MALFORMED, annotation(id=2**70)),
    (Reason.MALFORMED, annotation(id=float("inf"))),
    (Reason.MALFORMED, annotation(area=float("nan"))),
    (Reason.MALFORMED, annotation(image_id=None)),
    (Reason.MALFORMED, annotation(bbox=[1, 2, 3])),
    (Reason.MALFORMED, annotation(bbox=[1, 2, -3, 4])),
    (Reason.MALFORMED, annotation(bbox=[1, 2, float("nan"), 4])),
    (Reason.MALFORMED, annotation(area="large")),
    (Reason.MALFORMED, "no annotation at all"),
    (Reason.UNKNOWN_IMAGE, annotation(image_id=9)),
    (Reason.UNKNOWN_CATEGORY, annotation(category_id=4)),
    (Reason.MALFORMED, annotation(iscrowd="false")),
    (Reason.MALFORMED, annotation(iscrowd=2)),
    (Reason.MALFORMED, annotation(iscrowd="")),
    (Reason.MALFORMED, annotation() | {"iscrowd": None}),
    (Reason.MALFORMED, annotation(category_id=True)),
    (Reason.MALFORMED, annotation(image_id="1.0")),
    (Reason.MALFORMED, annotation(image_id=[1])),
    (Reason.MALFORMED, annotation(area=True)),
    (Reason.MALFORMED, annotation(area=-1)),
    (Reason.MALFORMED, annotation(bbox=[1, 2, 10**400, 4])),
    (Reason.MALFORMED, annotation(bbox="1234")),
    (Reason.NO_MASK, annotation(segmentation=None)),
    (Reason.NO_MASK, annotation(segmentation=[])),
    (Reason.BAD_MASK, annotation(segmentation=None, bbox=None)),
    (Reason.BAD_MASK, annotation(segmentation=[], bbox=[1, 2, 0, 4])),
    (Reason.BAD_MASK, annotation(segmentation=[[1, 1, 5, 10**400, 9, 1]])),
    (Reason.BAD_MASK, annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": CUT})),
    (Reason.BAD_MASK, annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": "Zoë"})),
    (Reason.BAD_MASK, annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": ""})),
    (Reason.BAD_MASK, annotation(segmentation=[[1, 1, 5, 5]])),
    (Reason.BAD_MASK, annotation(segmentation=[[1, 1, 5, 5, 9, 1, 3]])),
    (Reason.BAD_MASK, annotation(segmentation=[[1, 1, 5, "5", 9, 1]])),
    (Reason.BAD_MASK, annotation(segmentation=[[1, 1, float("inf"), 5, 9, 1]])),
    (Reason.BAD_MASK, annotation(segmentation=[[1, 1, 1e9, 5, 9, 1]])),
    (Reason.BAD_MASK, annotation(segmentation={"size": [5, 8], "counts": [40]})),
    (Reason.BAD_MASK, annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": [100]})),
    (Reason.BAD_MASK, annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": [-1, 1201]})),
]


@pytest.mark.parametrize(("reason", "bad"), BAD_RECORDS)
def test_training_leaves_a_bad_record_out_and_counts_it(reason: Reason, bad: Any) -> None:
    table = read(annotation(id=41), bad, annotation(id=43))
    assert table.ids.tolist() == [41, 43]
    assert table.problems.counts == {reason: 1}
    np.testing.assert_array_equal(table.mask(1), square_mask())


@pytest.mark.parametrize(("reason", "bad"), BAD_RECORDS)
def test_evaluation_refuses_a_bad_record_and_names_it(reason: Reason, bad: Any) -> None:
    name = "annotation" if isinstance(bad, dict) else "annotation number 2"
    with pytest.raises(DataError, match=f"{name}.*cannot be used, because {reason}.*some.json"):
        read(annotation(id=41), bad, strict=True)


def test_an_image_larger_than_any_is_refused_with_what_it_holds() -> None:
    wrong = content(annotation())
    wrong["images"][0]["width"] = 10**12
    table = read_annotations(wrong, file=Path("some.json"), strict=False)
    assert set(table.problems.counts) == {Reason.MALFORMED, Reason.UNKNOWN_IMAGE}
    with pytest.raises(DataError, match="a height of 30 and a width of 1000000000000"):
        read_annotations(wrong, file=Path("some.json"), strict=True)


EMPTY = [
    (Reason.EMPTY_MASK, annotation(segmentation=[[1, 1, 5, 5, 9, 9]])),
    (Reason.EMPTY_MASK, annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": [1200]})),
    (Reason.OUTSIDE, annotation(segmentation=[[50, 5, 60, 5, 60, 15]])),
    (Reason.OUTSIDE, annotation(segmentation=[[5, -9, 9, -9, 9, -1]])),
    (Reason.OUTSIDE, annotation(segmentation=[[5, 32, 9, 32, 9, 38]])),
    (Reason.OUTSIDE, annotation(segmentation=[[WIDTH, 5, 60, 5, 60, 15]])),
    (Reason.OUTSIDE, annotation(segmentation=[[-9, 5, 0, 5, 0, 15]])),
]


@pytest.mark.parametrize(("reason", "bad"), EMPTY)
def test_what_nothing_can_find_is_left_out_of_training(reason: Reason, bad: Any) -> None:
    table = read(bad, annotation(id=2))
    assert table.ids.tolist() == [2]
    assert table.problems.counts == {reason: 1}


@pytest.mark.parametrize(("reason", "bad"), EMPTY)
def test_what_nothing_can_find_is_an_object_of_evaluation(reason: Reason, bad: Any) -> None:
    """As for pycocotools, whose figures it lowers."""
    truth = GroundTruth(content(bad, annotation(id=2)), images=Path("images"), name="some")
    assert [o["id"] for o in truth.objects] == [1, 2]
    assert truth.problems.counts == {reason: 1}


def test_an_object_that_is_partly_outside_is_kept() -> None:
    table = read(annotation(segmentation=[[-5, -5, 5, -5, 5, 5, -5, 5]]))
    assert table.mask(0).sum() == 25
    assert len(table.problems) == 0


@pytest.mark.parametrize(
    "polygon",
    [
        [0, 5, 1, 5, 1, 15, 0, 15],
        [5, 0, 15, 0, 15, 1, 5, 1],
        [WIDTH - 1, 5, WIDTH, 5, WIDTH, 15, WIDTH - 1, 15],
        [5, HEIGHT - 1, 15, HEIGHT - 1, 15, HEIGHT, 5, HEIGHT],
    ],
)
def test_an_object_on_the_edge_of_the_image_is_kept(polygon: list[int]) -> None:
    table = read(annotation(segmentation=[polygon]))
    assert table.mask(0).sum() == 10
    assert len(table.problems) == 0


@pytest.mark.parametrize("value", ["0", "1", 0.0, 1, 1.0, False, True])
def test_a_crowd_is_written_as_a_number_a_digit_or_a_boolean(value: Any) -> None:
    assert read(annotation(iscrowd=value)).crowds.tolist() == [float(value) == 1]


def test_no_damaged_code_comes_near_pycocotools() -> None:
    """Its decoder writes past its buffers, so the process dies, not always."""
    random = np.random.default_rng(0)
    whole = compressed()["counts"]
    for _ in range(300):
        letters = list(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, len(letters), random.integers(0, 3)):
            letters[place] = chr(random.integers(33, 127))
        bad = annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": "".join(letters)})
        for entry in (bad, bad | {"bbox": None, "area": 0}):
            table = read(entry)
            for row in range(len(table)):
                assert table.mask(row).sum() == table.segmentations.areas()[row] > 0


def test_runs_that_wrap_around_cover_no_image() -> None:
    steps = coco_mask.frPyObjects({"size": [4, 6], "counts": [0, 2**31, 2**31 + 24]}, 4, 6)
    with pytest.raises(ValueError, match="covers|damaged"):
        check_code(steps["counts"], 24)


def test_a_negative_run_is_damaged_though_the_sum_is_right() -> None:
    with pytest.raises(ValueError, match="damaged"):
        check_code(b"5Od0", 24)  # runs of 5, -1 and 20


def test_boxes_without_masks_are_read_where_masks_are_not_needed(tmp_path: Path) -> None:
    boxes = (
        annotation(segmentation=[], area=None),
        annotation(id=2, bbox=[90, 5, 4, 4], segmentation=[]),
    )
    write(tmp_path, content(*boxes))
    with pytest.raises(
        DataError, match="none of the objects has a mask, 2 have only a box.*outline"
    ):
        CocoDataset(tmp_path)
    dataset = CocoDataset(tmp_path, masks=False)
    assert dataset.annotations.boxes.tolist() == [[10, 5, 10, 10]]
    assert dataset.annotations.areas.tolist() == [100]
    assert dataset.problems.counts == {Reason.OUTSIDE: 1}
    mixed = CocoDataset(write(tmp_path, content(*boxes, annotation(id=3))))
    assert mixed.annotations.ids.tolist() == [3]
    assert mixed.problems.counts == {Reason.NO_MASK: 2}


def test_two_images_of_one_file_are_one_too_many() -> None:
    data = content(annotation(), annotation(id=2, image_id=2))
    data["images"][1]["file_name"] = data["images"][0]["file_name"]
    table = read_annotations(data, file=Path("some.json"), strict=False)
    assert table.problems.counts == {Reason.REPEATED: 1, Reason.UNKNOWN_IMAGE: 1}
    with pytest.raises(DataError, match=r"image 2, 1\.png cannot be used, because it is listed"):
        read_annotations(data, file=Path("some.json"), strict=True)


@pytest.mark.parametrize("change", ["file_name", "height", "id"])
@pytest.mark.parametrize("value", [None, [], {}, True, "\ud800", 10**400, float("nan"), -1, 2**20])
def test_no_value_of_an_images_field_is_a_surprise(change: str, value: Any) -> None:
    data = content(annotation(id=7, image_id=2))
    data["images"][0][change] = value
    table = read_annotations(data, file=Path("some.json"), strict=False)
    assert table.ids.tolist() == [7]


def test_a_class_that_would_move_the_cursor_is_refused() -> None:
    data = content()
    data["categories"][0]["name"] = "\x1b[2Jcat"
    with pytest.raises(DataError, match=r"its name: '\\x1b\[2Jcat' is not text"):
        read_annotations(data, file=Path("some.json"), strict=False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps(content()).encode("utf-16"), "it is UTF-16, and must be UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"images": "\xff"}', "invalid start byte"),
        (b'{"images": 1' + b"0" * 5000 + b"}", "Exceeds the limit"),
        (b"", "Expecting value"),
        (b"null", "'images' is not a list"),
    ],
)
def test_a_file_that_is_no_json_in_utf8_says_so(text: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_bytes(text)
    with pytest.raises(DataError, match=rf"{says}.*annotations\.json"):
        CocoDataset(tmp_path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path, content(annotation())) / "annotations.json"
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert len(CocoDataset(tmp_path).annotations) == 1


def test_ids_may_start_at_0() -> None:
    """pycocotools takes a match with the id 0 for none."""
    assert read(annotation(id=0)).ids.tolist() == [0]
    data = content(annotation(id=0, family="a"), annotation(id=1, family="b"))
    truth = GroundTruth(data, images=Path("images"), name="some")
    assert [(o["id"], o["family"]) for o in truth.objects] == [(1, "a"), (2, "b")]


def test_equal_ids_of_different_objects_matter_to_evaluation_only() -> None:
    """Some tools number the objects of each image from 1."""
    pair = annotation(), annotation(image_id=2)
    assert len(read(*pair)) == 2
    with pytest.raises(DataError, match="two annotations have the id 1"):
        read(*pair, strict=True)


def test_an_object_that_is_listed_twice_is_taken_once() -> None:
    table = read(annotation(), annotation(), annotation(id=2))
    assert table.ids.tolist() == [1, 2]
    assert table.problems.counts == {Reason.REPEATED: 1}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": None}, "'annotations' is not a list"),
        ({"images": {}}, "'images' is not a list"),
        ({"categories": [{"id": 3, "name": "cat"}] * 2}, "two categories have the id 3"),
        (
            {
                "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}],
                "annotations": [annotation(), annotation(id=2, category_id=4)],
            },
            "two categories have the name 'cat': 3 and 4",
        ),
        (
            {"categories": [{"name": "cat"}]},
            "category number 1 has no id and name: 'id' is missing",
        ),
        (
            {"images": [{"id": 1, "file_name": n, "height": 3, "width": 3} for n in ("a", "b")]},
            "two images have the id 1: a and b",
        ),
    ],
)
def test_what_leaves_other_records_without_a_meaning_is_refused(
    changes: dict[str, Any], message: str, strict: bool
) -> None:
    with pytest.raises(DataError, match=message):
        read_annotations(content(**changes), file=Path("some.json"), strict=strict)


@pytest.mark.parametrize(
    ("extra", "used", "kept"),
    [
        ({"id": 0, "name": "cat", "supercategory": "none"}, 3, ((3, "cat"), (7, "dog"))),
        ({"id": 0, "name": "pets", "supercategory": "none"}, 3, ((3, "cat"), (7, "dog"))),
        ({"id": 0, "name": "_background_"}, 3, ((3, "cat"), (7, "dog"))),
        ({"id": 9, "name": "cat"}, 9, ((7, "dog"), (9, "cat"))),
        ({"id": 9, "name": "hen"}, 3, ((3, "cat"), (7, "dog"), (9, "hen"))),
        (
            {"id": 0, "name": "pets", "supercategory": "none"},
            0,
            ((0, "pets"), (3, "cat"), (7, "dog")),
        ),
    ],
)
def test_a_category_that_stands_for_none_is_left_out_if_no_object_has_it(
    extra: dict[str, Any], used: int, kept: tuple[tuple[int, str], ...]
) -> None:
    """Roboflow's root, perhaps of the name of a class, and the background of labelme's script."""
    data = content(annotation(category_id=used))
    for category in data["categories"]:
        category["supercategory"] = "pets"
    data["categories"].insert(0, extra)
    for strict in (False, True):
        table = read_annotations(data, file=Path("some.json"), strict=strict)
        assert table.categories == kept
        assert len(table) == 1


def test_an_image_without_a_size_is_left_out_with_its_objects() -> None:
    data = content(annotation(), annotation(id=2, image_id=2))
    data["images"][0]["height"] = 0
    table = read_annotations(data, file=Path("some.json"), strict=False)
    assert table.ids.tolist() == [2]
    assert table.problems.counts == {Reason.MALFORMED: 1, Reason.UNKNOWN_IMAGE: 1}


def test_a_missing_image_is_left_out_with_its_objects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, content(annotation(), annotation(id=2, image_id=2)))
    (tmp_path / "images" / "1.png").unlink()
    dataset = CocoDataset(tmp_path)
    assert len(dataset) == 1
    assert dataset.annotations.ids.tolist() == [2]
    assert dataset.image(0).max() == 80
    assert "1 because the image cannot be read" in caplog.text
    assert "1.png" in caplog.text


def test_a_folder_without_any_of_the_images_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, content(annotation()))
    with pytest.raises(
        DataError, match=r"none of the 2 annotated images.*1\.png.*put the images there"
    ):
        CocoDataset(find_source(tmp_path / "elsewhere", tmp_path / "annotations.json"))


def test_a_cut_off_image_is_an_error_that_names_it(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content()))
    file = tmp_path / "images" / "1.png"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"truncated.*1\.png"):
        dataset.image(0)


def test_an_image_of_another_size_is_an_error_that_names_it(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content()))
    cv2.imwrite(str(dataset.path(0)), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(DataError, match=r"has 30 x 40 pixels, its annotations are for 40 x 30"):
        dataset.image(0)


def test_no_annotations_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"layout of the data set is unknown, .*annotations\.json"):
        CocoDataset(tmp_path)


def test_the_report_gives_numbers_and_examples() -> None:
    table = read(*(annotation(id=i, category_id=4) for i in range(1, 6)), annotation(image_id=9))
    assert table.problems.report() == (
        "5 because its category is not listed (annotation 1 of image 1, annotation 2 of image "
        "1, annotation 3 of image 1, ...); 1 because its image is not listed (annotation 1 of "
        "image 9)"
    )
