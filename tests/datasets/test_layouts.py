# SPDX-License-Identifier: Apache-2.0
"""Data sets as tools lay them out: found, read, divided, or refused with what is understood."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from foveate.datasets import LAYOUTS, CocoDataset, find_parts, find_splits
from foveate.errors import DataError
from foveate.evaluation import GroundTruth

# pycocotools decodes into an array type of its own, of which NumPy 2 disapproves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (24, 32)
NAMES = ("box", "disc")


def draw(file: Path, value: int = 90) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((*SIZE, 3), value, np.uint8))


def coco(files: list[str], first: int = 1) -> dict[str, Any]:
    """One square in each image, the classes in turn."""
    square = [[4.0, 4.0, 14.0, 4.0, 14.0, 14.0, 4.0, 14.0]]
    return {
        "images": [
            {"id": i, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for i, name in enumerate(files, first)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES, first)],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": (i - first) % 2 + first,
                "segmentation": square,
                "bbox": [4, 4, 10, 10],
                "area": 100,
                "iscrowd": 0,
            }
            for i in range(first, first + len(files))
        ],
    }


def save(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def part(file: Path, images: Path, prefix: str, count: int, inside: str = "") -> None:
    names = [f"{inside}{prefix}{i}.png" for i in range(count)]
    save(file, coco(names))
    for name in names:
        draw(images / name)


def ours(folder: Path, *, validation: bool) -> None:
    for name, count in (("train", 4), ("validation", 2))[: 1 + validation]:
        part(folder / name / "annotations.json", folder / name / "images", name, count)


def published(folder: Path, *, validation: bool) -> None:
    for name, count in (("train2014", 4), ("val2014", 2))[: 1 + validation]:
        file = folder / "annotations" / f"instances_{name}.json"
        part(file, folder / name, name, count)
        save(file.with_name(f"captions_{name}.json"), {"annotations": []})


def cvat(folder: Path, *, validation: bool) -> None:
    if validation:
        for name, count in (("train", 4), ("val", 2)):
            file = folder / "annotations" / f"instances_{name}.json"
            part(file, folder / "images" / name, "frame", count, inside="job 1/")
    else:
        file = folder / "annotations" / "instances_default.json"
        part(file, folder / "images", "frame", 4)


def cvat_default(folder: Path, *, validation: bool) -> None:
    assert not validation
    part(
        folder / "annotations" / "instances_default.json", folder / "images" / "default", "frame", 4
    )


def roboflow(folder: Path, *, validation: bool) -> None:
    """Its ids start at 0, and category 0 is a root that no object has."""
    for name, count in (("train", 4), ("valid", 2), ("test", 1))[:: 1 if validation else 2]:
        names = [f"a-{name}-{i}_jpg.rf.0f.jpg" for i in range(count)]
        content: dict[str, Any] = coco(names, first=0)
        for record in content["annotations"]:
            record["category_id"] += 1
        content["categories"] = [
            {"id": 0, "name": "shapes", "supercategory": "none"},
            {"id": 1, "name": "box", "supercategory": "shapes"},
            {"id": 2, "name": "disc", "supercategory": "shapes"},
        ]
        save(folder / name / "_annotations.coco.json", content)
        for file in names:
            draw(folder / name / file)


def labelme_file(file: Path, label: str, **changes: Any) -> None:
    square = [[4, 4], [14, 4], [14, 14], [4, 14]]
    shape = {"label": label, "points": square, "group_id": None, "shape_type": "polygon"}
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [shape],
        "imagePath": f"{file.stem}.png",
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }
    save(file, {**content, **changes})
    draw(file.with_suffix(".png"))


def labelme(folder: Path, *, validation: bool) -> None:
    parts = (("train", 4), ("val", 2)) if validation else ((".", 4),)
    for name, count in parts:
        for i in range(count):
            labelme_file(folder / name / f"{i}.json", NAMES[i % 2])


def labelme2coco(folder: Path, *, validation: bool) -> None:
    """As labelme's example script writes it: its ids start at 0."""
    parts = (("train", 4), ("val", 2)) if validation else ((".", 4),)
    for name, count in parts:
        names = [f"JPEGImages/{i}.jpg" for i in range(count)]
        content = coco(names, first=0)
        content["categories"] = [
            {"supercategory": None, "id": i, "name": n} for i, n in enumerate(NAMES)
        ]
        save(folder / name / "annotations.json", content)
        for file in names:
            draw(folder / name / file)


def one_file(folder: Path, *, validation: bool) -> None:
    """As Label Studio exports it: the names are of its server."""
    parts = ("train", "val") if validation else ("result",)
    for name in parts:
        names = [f"{name}{i}.png" for i in range(4 if name != "val" else 2)]
        save(folder / f"{name}.json", coco([f"../../data/media/upload/1/{n}" for n in names]))
        for file in names:
            draw(folder / "images" / file)


MAKERS: list[tuple[Callable[..., None], str]] = [
    (ours, "Foveate"),
    (published, "COCO"),
    (cvat, "CVAT (COCO 1.0)"),
    (roboflow, "Roboflow (COCO)"),
    (labelme, "labelme"),
    (labelme2coco, "Foveate"),
    (one_file, "one file"),
]


@pytest.mark.parametrize(("make", "layout"), MAKERS)
def test_each_tools_layout_is_read_with_its_validation_part(
    make: Callable[..., None], layout: str, tmp_path: Path
) -> None:
    make(tmp_path, validation=True)
    splits = find_splits(tmp_path)
    assert splits.train.layout == layout
    assert splits.train.class_names == NAMES
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation)) == (4, 2)
    assert [i.mask.sum() for i in splits.validation.instances(1)] == [100]
    assert splits.train.image(3).shape == (*SIZE, 3)
    truth = GroundTruth.open(tmp_path)
    assert [p.path for p in truth.images] == [splits.validation.path(i) for i in range(2)]
    assert sorted(truth.category_ids) == sorted(NAMES)


@pytest.mark.parametrize(("make", "layout"), [*MAKERS, (cvat_default, "CVAT (COCO 1.0)")])
def test_each_tools_layout_is_read_without_a_validation_part(
    make: Callable[..., None], layout: str, tmp_path: Path
) -> None:
    make(tmp_path, validation=False)
    splits = find_splits(tmp_path)
    assert splits.train.layout == layout
    assert splits.validation is None
    assert len(splits.train) == 4
    assert splits.train.image(3).shape == (*SIZE, 3)
    assert [i.label for i in splits.train.instances(1)] == [1]


def test_one_folder_or_one_file_is_a_data_set_in_one_part(tmp_path: Path) -> None:
    ours(tmp_path, validation=False)
    for place in (tmp_path / "train", tmp_path / "train" / "annotations.json"):
        assert len(find_splits(place).train) == 4


def test_another_layout_is_answered_with_those_that_are_understood(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    save(tmp_path / "settings.json", {"color": "red"})
    (tmp_path / "annotations.xml").write_text("<annotations/>")
    for place in (tmp_path, tmp_path / "annotations.xml"):
        with pytest.raises(DataError, match="the layout of the data set is unknown") as error:
            find_splits(place)
        assert all(name in str(error.value) and look in str(error.value) for name, look in LAYOUTS)
    with pytest.raises(DataError, match=r"cannot be read \(No such file.*check the path"):
        find_splits(tmp_path / "nowhere")


def test_two_years_are_one_too_many(tmp_path: Path) -> None:
    published(tmp_path, validation=False)
    file = tmp_path / "annotations" / "instances_train2014.json"
    shutil.copy(file, file.with_name("instances_train2017.json"))
    with pytest.raises(DataError, match=r"two files may be the train part.*2014.*2017"):
        find_splits(tmp_path)


def test_a_validation_part_alone_is_nothing_to_train_with(tmp_path: Path) -> None:
    ours(tmp_path, validation=True)
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(DataError, match="no part to train with, only val"):
        find_splits(tmp_path)


def test_the_labels_of_both_parts_mean_the_same_classes(tmp_path: Path) -> None:
    for i, label in enumerate(("box", "cat", "disc")):
        labelme_file(tmp_path / "train" / f"{i}.json", label)
    labelme_file(tmp_path / "val" / "0.json", "disc")
    validation = find_splits(tmp_path).validation
    assert validation is not None
    assert validation.class_names == ("box", "cat", "disc")
    assert [i.label for i in validation.instances(0)] == [2]
    labelme_file(tmp_path / "val" / "1.json", "dog")
    with pytest.raises(DataError, match="the training part lacks the classes dog"):
        find_splits(tmp_path)


# --- labelme ----------------------------------------------------------------------------------


def test_labelmes_shapes_become_masks_and_a_group_one_object(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def shape(kind: str, points: Any, group: Any = None) -> dict[str, Any]:
        return {"label": "box", "points": points, "group_id": group, "shape_type": kind}

    shapes = [
        shape("rectangle", [[14, 4], [4, 9]]),
        shape("circle", [[16, 12], [16, 18]]),
        shape("polygon", [[0, 0], [4, 0], [4, 4], [0, 4]], group=7),
        shape("rectangle", [[20, 20], [24, 24]], group=7),
        shape("line", [[0, 0], [9, 9]]),
        shape("polygon", [[0, 0], ["a", 0], [4, 4]]),
    ]
    labelme_file(tmp_path / "a.json", "", shapes=shapes)
    dataset = CocoDataset(tmp_path)
    areas = [int(i.mask.sum()) for i in dataset.instances(0)]
    assert areas[0] == 50
    assert areas[1] == pytest.approx(np.pi * 36, rel=0.05)
    assert areas[2] == 32
    assert len(areas) == 3
    assert "1 of type line" in caplog.text
    assert "1 because its segmentation is neither" in caplog.text


def test_a_damaged_labelme_file_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labelme(tmp_path, validation=False)
    (tmp_path / "2.json").write_text('{"shapes": [', encoding="utf-8")
    assert len(CocoDataset(tmp_path)) == 3
    assert "2.json" in caplog.text


def test_a_folder_without_annotations_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "instances_val2017.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"no file of labelme: .*: name the COCO file of"):
        GroundTruth.open(tmp_path, annotations=tmp_path)


def test_labelmes_image_may_lie_in_another_folder(tmp_path: Path) -> None:
    labelme_file(tmp_path / "labels" / "a.json", "box", imagePath="..\\images\\a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels" / "a.png").rename(tmp_path / "images" / "a.png")
    assert CocoDataset(tmp_path).path(0) == tmp_path / "images" / "a.png"


# --- names of images ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "in/a.png",
        "in\\a.png",
        "./in//a.png",
        "C:\\Users\\me\\a.png",
        "/home/me/a.png",
        "../../a.png",
        "https://example.org/x/a.png",
        "old/place/a.png",
    ],
)
def test_an_images_name_is_followed_inside_of_its_folder_only(name: str, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    save(tmp_path / "data" / "annotations.json", coco([name]))
    with pytest.raises(DataError, match="none of the 1 annotated images exists"):
        CocoDataset(tmp_path / "data")
    draw(tmp_path / "data" / "images" / "in" / "a.png")
    assert CocoDataset(tmp_path / "data").path(0) == tmp_path / "data" / "images/in/a.png"


def test_an_image_that_could_be_either_of_two_is_neither(tmp_path: Path) -> None:
    save(tmp_path / "annotations.json", coco(["elsewhere/a.png", "b.png", "x/c.png", "y/c.png"]))
    for file in ("images/1/a.png", "images/2/a.png", "images/b.png", "images/c.png"):
        draw(tmp_path / file)
    dataset = CocoDataset(tmp_path)
    assert dataset.annotations.files == ("b.png",)
    assert len(dataset.problems) == 3


@pytest.mark.parametrize("name", ["\ud800.png", "\0.png", "n" * 5000, "", "..", "/", "a/" * 3000])
def test_a_name_that_no_file_can_have_is_no_image(name: str, tmp_path: Path) -> None:
    save(tmp_path / "annotations.json", coco([name, "b.png"]))
    draw(tmp_path / "images" / "b.png")
    assert CocoDataset(tmp_path).annotations.files == ("b.png",)


# --- digests and shares -----------------------------------------------------------------------


def test_the_digest_is_of_annotations_classes_and_images(tmp_path: Path) -> None:
    ours(tmp_path, validation=False)
    file = tmp_path / "train" / "annotations.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    digests = [CocoDataset(tmp_path / "train").digest]
    assert CocoDataset(tmp_path / "train").digest == digests[0]
    objects, categories = content["annotations"], content["categories"]
    for record, key, value in (
        (objects[2]["segmentation"][0], 0, 5.0),
        (objects[1], "iscrowd", 1),
        (objects[1], "category_id", 1),
        (categories[0], "name", "cube"),
    ):
        record[key] = value
        save(file, content)
        digests.append(CocoDataset(tmp_path / "train").digest)
    draw(tmp_path / "train" / "images" / "train1.png", value=7)
    os.utime(tmp_path / "train" / "images" / "train1.png", (1, 1))
    dataset = CocoDataset(tmp_path / "train")
    digests += [dataset.digest, dataset.of_images(np.array([0, 1, 2])).digest]
    assert len(set(digests)) == len(digests)


def test_a_share_is_held_out_by_names_alone(tmp_path: Path) -> None:
    part(tmp_path / "annotations.json", tmp_path / "images", "p", 20)
    content = json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))
    train, held = CocoDataset(tmp_path).split(0.2)
    assert (len(train), len(held)) == (16, 4)
    assert not set(train.annotations.files) & set(held.annotations.files)
    assert len(train.annotations) + len(held.annotations) == 20
    content["images"].reverse()
    save(tmp_path / "annotations.json", content)
    again = CocoDataset(tmp_path).split(0.2)[1]
    assert set(again.annotations.files) == set(held.annotations.files)
    other = CocoDataset(tmp_path).split(0.2, seed=1)[1]
    assert set(other.annotations.files) != set(held.annotations.files)


def test_the_last_object_of_a_class_is_not_held_out(tmp_path: Path) -> None:
    part(tmp_path / "annotations.json", tmp_path / "images", "p", 3)
    for seed in range(6):
        train, held = CocoDataset(tmp_path).split(0.01, seed=seed)
        assert (len(train), len(held)) == (2, 1)
        assert set(train.annotations.labels.tolist()) == {0, 1}


def test_parts_are_found_without_reading_their_images(tmp_path: Path) -> None:
    published(tmp_path, validation=True)
    shutil.rmtree(tmp_path / "val2014")
    assert sorted(find_parts(tmp_path)) == ["train", "val"]
