# SPDX-License-Identifier: Apache-2.0
"""Reading COCO annotations: every form of mask, every kind of bad record, any folder."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from foveate.errors import DataError
from foveate.training.dataset import CocoDataset, Reason, read_annotations
from foveate.training.dataset.segmentations import check_code
from foveate.training.evaluation import GroundTruth

# pycocotools decodes into an array type of its own, of which NumPy 2 disapproves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 30, 40
SQUARE = [[10, 5, 20, 5, 20, 15, 10, 15]]


def square_mask() -> Any:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[5:15, 10:20] = 1
    return mask


def annotation(**changes: Any) -> dict[str, Any]:
    """A good annotation, changed; a key of value None is taken out."""
    entry = {
        "id": 1,
        "image_id": 1,
        "category_id": 3,
        "segmentation": SQUARE,
        "bbox": [10, 5, 10, 10],
        "area": 100.0,
        "iscrowd": 0,
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not None}


def content(*annotations: Any, **changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": list(annotations),
        **changes,
    }


def write(directory: Path, data: Any, pictures: str = "pictures") -> Path:
    (directory / pictures).mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        picture = np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)
        cv2.imwrite(str(directory / pictures / f"{number}.png"), picture)
    (directory / "annotations.json").write_text(json.dumps(data), encoding="utf-8")
    return directory


def read(*annotations: Any, strict: bool = False) -> Any:
    return read_annotations(content(*annotations), file=Path("some.json"), strict=strict)


def compressed() -> dict[str, Any]:
    rle = coco_mask.encode(square_mask())
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def run_lengths() -> dict[str, Any]:
    flat = square_mask().ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": counts}


# --- what is read ---------------------------------------------------------------------------


@pytest.mark.parametrize("segmentation", [SQUARE, compressed(), run_lengths()])
def test_every_form_of_mask_decodes_to_the_same_pixels(segmentation: Any) -> None:
    table = read(annotation(segmentation=segmentation))
    np.testing.assert_array_equal(table.mask(0), square_mask())


def test_polygons_of_one_object_are_joined() -> None:
    two = [[0, 0, 4, 0, 4, 4, 0, 4], [10, 10, 14, 10, 14, 14, 10, 14]]
    assert read(annotation(segmentation=two)).mask(0).sum() == 32


def test_areas_and_extents_are_those_of_each_objects_own_polygons() -> None:
    triangle, two = [[30, 20, 34, 20, 30, 26]], [[0, 0, 4, 0, 4, 4, 0, 4], [10, 9, 12, 9, 12, 4]]
    shapes = read(
        annotation(segmentation=triangle),
        annotation(id=2, segmentation=compressed()),
        annotation(id=3, segmentation=two),
    ).segmentations
    np.testing.assert_allclose(shapes.areas(), [12, 100, 16 + 5])
    assert shapes.extents().tolist() == [[30, 20, 34, 26], [0, 0, 0, 0], [0, 0, 12, 9]]


def test_only_codes_have_no_polygons() -> None:
    table = read(annotation(), annotation(id=2, segmentation=compressed()))
    np.testing.assert_array_equal(table.polygons(0)[0], np.reshape(SQUARE, (4, 2)))
    assert table.polygons(1) == []


def test_labels_follow_the_ids_of_categories_over_their_gaps() -> None:
    table = read(annotation(category_id=7), annotation(id=2, category_id=3))
    assert table.categories == ((3, "cat"), (7, "dog"))
    assert table.labels.tolist() == [1, 0]


def test_objects_are_ordered_by_picture() -> None:
    table = read(annotation(id=5, image_id=2), annotation(id=6), annotation(id=7, image_id=2))
    assert table.ids.tolist() == [6, 5, 7]
    assert table.starts.tolist() == [0, 1, 3]


@pytest.mark.parametrize("segmentation", [SQUARE, compressed()])
def test_a_missing_box_and_area_are_the_masks(segmentation: Any) -> None:
    table = read(annotation(bbox=None, area=None, segmentation=segmentation))
    assert table.boxes[0].tolist() == [10, 5, 10, 10]
    assert table.areas[0] == 100


def test_a_table_survives_pickling() -> None:
    table = pickle.loads(pickle.dumps(read(annotation())))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(table.mask(0), square_mask())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 6))
def test_a_code_of_pycocotools_passes_at_its_own_size_only(bits: list[bool], rows: int) -> None:
    mask = np.array(bits[: len(bits) // rows * rows] or [True] * rows, np.uint8).reshape(rows, -1)
    code = coco_mask.encode(np.asfortranarray(mask))["counts"]
    check_code(code, mask.size)
    with pytest.raises(ValueError, match=f"covers {mask.size} pixels, not {mask.size + 1}"):
        check_code(code, mask.size + 1)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=12))
def test_a_damaged_code_never_decodes_to_chance(code: bytes) -> None:
    """Either it is refused, or pycocotools decodes it to as many pixels as its runs say."""
    try:
        check_code(code, 24)
    except ValueError:
        return
    decoded = coco_mask.decode({"size": [4, 6], "counts": code})
    assert coco_mask.area({"size": [4, 6], "counts": code}) == decoded.sum()


# --- where it is read -----------------------------------------------------------------------


def test_pictures_lie_beside_the_annotations(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content(annotation())))
    assert dataset.picture(1).max() == 80
    assert dataset.class_names == ("cat", "dog")
    assert dataset.instances(0)[0].box.tolist() == [10, 5, 20, 15]
    assert dataset.instances(1) == []


def test_pictures_and_annotations_lie_in_any_two_places_as_coco_has_them(tmp_path: Path) -> None:
    write(tmp_path / "coco", content(annotation()), pictures="train2017")
    file = tmp_path / "instances_train2017.json"
    (tmp_path / "coco" / "annotations.json").rename(file)
    dataset = CocoDataset(tmp_path / "coco" / "train2017", annotations=file)
    assert dataset.picture(0).max() == 40
    truth = GroundTruth.open(tmp_path / "coco" / "train2017", annotations=file)
    assert truth.pictures[0].path == dataset.path(0)


def test_crowds_are_in_the_table_but_are_no_instances(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content(annotation(iscrowd=1))))
    assert dataset.annotations.crowds.tolist() == [True]
    assert dataset.instances(0) == []


# --- bad records ----------------------------------------------------------------------------

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
    (Reason.UNKNOWN_PICTURE, annotation(image_id=9)),
    (Reason.UNKNOWN_CATEGORY, annotation(category_id=4)),
    (Reason.BAD_MASK, annotation(segmentation=None)),
    (Reason.BAD_MASK, annotation(segmentation=[])),
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
    name = f"annotation {bad['id']}" if isinstance(bad, dict) else "annotation number 2"
    with pytest.raises(DataError, match=f"{name}.*cannot be used, because {reason}.*some.json"):
        read(annotation(id=41), bad, strict=True)


def test_a_picture_larger_than_any_is_refused_with_what_it_holds() -> None:
    wrong = content(annotation())
    wrong["images"][0]["width"] = 10**12
    table = read_annotations(wrong, file=Path("some.json"), strict=False)
    assert set(table.problems.counts) == {Reason.MALFORMED, Reason.UNKNOWN_PICTURE}
    with pytest.raises(DataError, match="a height of 30 and a width of 1000000000000"):
        read_annotations(wrong, file=Path("some.json"), strict=True)


EMPTY = [
    (Reason.EMPTY_MASK, annotation(segmentation=[[1, 1, 5, 5, 9, 9]])),
    (Reason.EMPTY_MASK, annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": [1200]})),
    (Reason.OUTSIDE, annotation(segmentation=[[50, 5, 60, 5, 60, 15]])),
    (Reason.OUTSIDE, annotation(segmentation=[[5, -9, 9, -9, 9, -1]])),
]


@pytest.mark.parametrize(("reason", "bad"), EMPTY)
def test_what_nothing_can_find_is_left_out_of_training(reason: Reason, bad: Any) -> None:
    table = read(bad, annotation(id=2))
    assert table.ids.tolist() == [2]
    assert table.problems.counts == {reason: 1}


@pytest.mark.parametrize(("reason", "bad"), EMPTY)
def test_what_nothing_can_find_is_an_object_of_evaluation(reason: Reason, bad: Any) -> None:
    """As for pycocotools, whose figures it lowers."""
    truth = GroundTruth(content(bad, annotation(id=2)), pictures=Path("pictures"), name="some")
    assert [o["id"] for o in truth.objects] == [1, 2]
    assert truth.problems.counts == {reason: 1}


def test_an_object_that_is_partly_outside_is_kept() -> None:
    table = read(annotation(segmentation=[[-5, -5, 5, -5, 5, 5, -5, 5]]))
    assert table.mask(0).sum() == 25
    assert len(table.problems) == 0


def test_a_damaged_code_is_named_when_its_mask_is_asked_for() -> None:
    damaged = {"size": [HEIGHT, WIDTH], "counts": compressed()["counts"][:-2]}
    table = read(annotation(id=17, segmentation=damaged))
    with pytest.raises(
        DataError, match="annotation 17 of picture 1 has a bad mask: the run-length code"
    ):
        table.mask(0)


def test_a_damaged_code_is_refused_by_evaluation_at_once() -> None:
    damaged = {"size": [HEIGHT, WIDTH], "counts": compressed()["counts"][:-2]}
    bad = content(annotation(id=17, segmentation=damaged))
    with pytest.raises(DataError, match="annotation 17 of picture 1 has a bad mask"):
        GroundTruth(bad, pictures=Path("pictures"), name="some")


def test_a_damaged_code_without_a_box_is_left_out() -> None:
    damaged = {"size": [HEIGHT, WIDTH], "counts": compressed()["counts"][:-2]}
    table = read(annotation(bbox=None, segmentation=damaged))
    assert table.problems.counts == {Reason.BAD_MASK: 1}


def test_an_id_of_0_matters_to_evaluation_only() -> None:
    assert read(annotation(id=0)).ids.tolist() == [0]
    with pytest.raises(DataError, match="annotation 0 of picture 1 has the id 0, ids must start"):
        read(annotation(id=0), strict=True)


def test_equal_ids_of_different_objects_matter_to_evaluation_only() -> None:
    """Some tools number the objects of each picture from 1."""
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
        ({"annotations": None}, "'annotations' is no list"),
        ({"images": {}}, "'images' is no list"),
        ({"categories": [{"id": 3, "name": "cat"}] * 2}, "two categories have the id 3"),
        (
            {"categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}]},
            "two categories have the name 'cat': 3 and 4",
        ),
        (
            {"categories": [{"name": "cat"}]},
            "category number 1 has no id and name: 'id' is missing",
        ),
        (
            {"images": [{"id": 1, "file_name": n, "height": 3, "width": 3} for n in ("a", "b")]},
            "two pictures have the id 1: a and b",
        ),
    ],
)
def test_what_leaves_other_records_without_a_meaning_is_refused(
    changes: dict[str, Any], message: str, strict: bool
) -> None:
    with pytest.raises(DataError, match=message):
        read_annotations(content(**changes), file=Path("some.json"), strict=strict)


def test_a_picture_without_a_size_is_left_out_with_its_objects() -> None:
    data = content(annotation(), annotation(id=2, image_id=2))
    data["images"][0]["height"] = 0
    table = read_annotations(data, file=Path("some.json"), strict=False)
    assert table.ids.tolist() == [2]
    assert table.problems.counts == {Reason.MALFORMED: 1, Reason.UNKNOWN_PICTURE: 1}


def test_a_missing_picture_is_left_out_with_its_objects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, content(annotation(), annotation(id=2, image_id=2)))
    (tmp_path / "pictures" / "1.png").unlink()
    dataset = CocoDataset(tmp_path)
    assert len(dataset) == 1
    assert dataset.annotations.ids.tolist() == [2]
    assert dataset.picture(0).max() == 80
    assert "1 because the picture cannot be read" in caplog.text
    assert "1.png" in caplog.text


def test_a_folder_without_any_of_the_pictures_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, content(annotation()))
    with pytest.raises(DataError, match=r"none of the 2 annotated pictures.*1\.png.*name the fold"):
        CocoDataset(tmp_path / "elsewhere", annotations=tmp_path / "annotations.json")


def test_a_cut_off_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content()))
    file = tmp_path / "pictures" / "1.png"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut off.*1\.png"):
        dataset.picture(0)


def test_a_picture_of_another_size_is_an_error_that_names_it(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content()))
    cv2.imwrite(str(dataset.path(0)), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(DataError, match=r"has 30 x 40 pixels, its annotations are for 40 x 30"):
        dataset.picture(0)


def test_no_annotations_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotations\.json.*foveate compose"):
        CocoDataset(tmp_path)


def test_the_report_gives_numbers_and_examples() -> None:
    table = read(*(annotation(id=i, category_id=4) for i in range(1, 6)), annotation(image_id=9))
    assert table.problems.report() == (
        "5 because its category is not listed (annotation 1 of picture 1, annotation 2 of picture "
        "1, annotation 3 of picture 1, ...); 1 because its picture is not listed (annotation 1 of "
        "picture 9)"
    )
