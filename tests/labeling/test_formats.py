# SPDX-License-Identifier: Apache-2.0
"""The files of annotation tools, read by the readers that training uses and by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from tests.results.test_detections import HEIGHT, WIDTH, detections_of, proposals_of
from tests.results.test_polygons import iou

from foveate.datasets import CocoDataset
from foveate.errors import OptionError
from foveate.labeling import (
    CocoLabels,
    CvatLabels,
    LabeledObject,
    LabelOptions,
    label_objects,
    labelme_json,
)
from foveate.results.detections import Detections
from foveate.results.window_masks import WindowMasks

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

APART = LabelOptions(max_overlap=1.0)


def in_parts() -> Detections:
    """A ring in two parts around a hole each, and a disc, in an image of 90 x 120."""
    y, x = np.mgrid[:64, :64]
    left, right = np.hypot(x - 15, y - 31), np.hypot(x - 47, y - 31)
    rings = 5 - np.abs(np.minimum(left, right) - 8)
    logits = np.stack([rings, 20.5 - np.hypot(x - 30, y - 30)]).astype(np.float32)
    windows = np.array([[5, 10, 64, 64], [60, 20, 64, 64]], np.float32)
    masks = WindowMasks(logits, windows, np.arange(2), threshold=0, height=90, width=120)
    return Detections(
        boxes=masks.boxes(),
        scores=np.array([0.8, 0.7], np.float32),
        labels=np.array([1, 0]),
        class_names=("cat", "dog & <b>"),
        masks=masks,
        proposals=np.arange(2),
    )


def write_image(folder: Path, name: str = "a.jpg") -> None:
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / name), np.full((90, 120, 3), 99, np.uint8))


def check_dataset(folder: Path) -> None:
    """Check that a data set has exactly the objects of ``in_parts``."""
    dataset, found = CocoDataset(folder), in_parts()
    assert len(dataset.problems) == 0
    assert dataset.class_names == found.class_names
    masks = dict(zip(found.labels.tolist(), found.masks, strict=True))
    for index in range(2):
        mask = dataset.annotations.mask(index).astype(bool)
        assert iou(mask, masks.pop(int(dataset.annotations.labels[index]))) >= 0.98


def test_training_reads_the_files_of_labelme(tmp_path: Path) -> None:
    write_image(tmp_path)
    text = labelme_json("a.jpg", 90, 120, label_objects(in_parts(), APART))
    (tmp_path / "a.json").write_text(text)
    check_dataset(tmp_path)
    content = json.loads(text)
    assert content["imageData"] is None
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == (
        "a.jpg",
        90,
        120,
    )
    shapes = content["shapes"]
    assert [(s["label"], s["group_id"], s["score"]) for s in shapes] == [
        ("dog & <b>", 1, 0.8),
        ("dog & <b>", 1, 0.8),
        ("cat", None, 0.7),
    ]
    assert {s["shape_type"] for s in shapes} == {"polygon"}


def test_training_and_pycocotools_read_the_file_of_coco(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path)
    found = in_parts()
    labels = CocoLabels(found.class_names)
    labels.add("a.jpg", 90, 120, label_objects(found, APART))
    labels.add("empty.jpg", 50, 40, [])
    write_image(tmp_path, "empty.jpg")
    path = tmp_path / "annotations.json"
    path.write_text(labels.to_text())
    truth = COCO(str(path))
    assert [image["file_name"] for image in truth.loadImgs([1, 2])] == ["a.jpg", "empty.jpg"]
    entries = truth.loadAnns(truth.getAnnIds())
    assert [entry["category_id"] for entry in entries] == [2, 1]
    assert [len(entry["segmentation"]) for entry in entries] == [2, 1]
    for entry, mask, box in zip(entries, found.masks, found.masks.boxes(), strict=True):
        assert iou(truth.annToMask(entry).astype(bool), mask) >= 0.98
        assert entry["area"] == mask.sum()
        assert entry["bbox"] == [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    assert {"info", "licenses"} <= truth.dataset.keys()
    capsys.readouterr()
    check_dataset(tmp_path)


def test_the_file_of_cvat_has_a_group_per_object_and_escaped_names() -> None:
    labels = CvatLabels(("cat", "dog & <b>"))
    labels.add("folder/a & b.jpg", 90, 120, label_objects(in_parts(), APART))
    labels.add("empty.jpg", 50, 40, [])
    root = ET.fromstring(labels.to_text())  # noqa: S314 - our own document
    assert root.findtext("version") == "1.1"
    assert [label.text for label in root.findall("meta/task/labels/label/name")] == [
        "cat",
        "dog & <b>",
    ]
    first, second = root.findall("image")
    assert first.attrib == {"id": "0", "name": "folder/a & b.jpg", "width": "120", "height": "90"}
    assert len(second) == 0
    shapes = [(s.get("label"), s.get("group_id"), s.findtext("attribute")) for s in first]
    assert shapes == [("dog & <b>", "1", "0.8000")] * 2 + [("cat", None, "0.7000")]
    assert {s.get("source") for s in first} == {"auto"}


def test_objects_are_chosen_by_score_overlap_and_number() -> None:
    found = detections_of(4)  # discs of 20 pixels, 8 pixels apart to the right and 4 down

    def chosen(**options: Any) -> list[float]:
        return [one.score for one in label_objects(found, LabelOptions(**options))]

    assert chosen(max_overlap=1) == [0.9, 0.8, 0.7, 0.6]
    assert chosen(max_overlap=0.25) == [0.9, 0.7]  # that of neighbors is 0.29
    assert chosen(max_overlap=1, score_threshold=0.75) == [0.9, 0.8]
    assert chosen(max_overlap=1, max_objects=3) == [0.9, 0.8, 0.7]


def test_proposals_get_the_label_that_is_asked_for() -> None:
    objects = label_objects(proposals_of(2), LabelOptions(label="cell", max_overlap=1))
    assert [one.label for one in objects] == ["cell", "cell"]
    assert objects[0].box == (6, 6, 20, 20)
    assert objects[0].area == proposals_of(2).masks.areas()[0]


def test_an_object_without_a_pixel_is_left_out() -> None:
    masks = WindowMasks(
        np.full((1, 4, 4), -1, np.float32),
        np.array([[0, 0, 9, 9]], np.float32),
        np.array([0]),
        threshold=0,
        height=HEIGHT,
        width=WIDTH,
    )
    found = Detections(**{**vars(detections_of(1)), "masks": masks})
    assert label_objects(found, LabelOptions()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tolerance": -1.0}, r"tolerance must lie in 0..100, found -1.0"),
        ({"max_overlap": 1.5}, r"max_overlap must lie in 0..1, found 1.5"),
        ({"max_objects": 0}, "max_objects must be at least 1, found 0"),
        ({"label": " "}, "label is empty: name what the objects are"),
        ({"label": "a\nb"}, r"label must be printable text, found 'a\\nb'"),
        ({"tolerance": "1"}, "tolerance must be finite float, found '1'"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        LabelOptions(**options)


def test_a_byte_that_is_not_utf8_is_escaped_in_each_format() -> None:
    name = "caf\udce9.jpg"
    objects: list[LabeledObject] = []
    for labels in (CocoLabels(["a"]), CvatLabels(["a"])):
        labels.add(name, 3, 4, objects)
        assert r"caf\xe9.jpg" in labels.to_text().encode().decode().replace("\\\\", "\\")
    assert r"caf\xe9.jpg" in labelme_json(name, 3, 4, objects).replace("\\\\", "\\")
