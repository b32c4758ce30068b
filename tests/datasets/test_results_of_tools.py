# SPDX-License-Identifier: Apache-2.0
"""Detections from the files of labelme and CVAT: those that we write, and those that people made."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.datasets.test_layouts import labelme_file
from tests.labeling.test_formats import in_parts
from tests.results.test_detections import HEIGHT, WIDTH, detections_of, proposals_of
from tests.results.test_polygons import blobs, iou, lines, noise
from tests.samples.paths import IMAGES

import foveate
from foveate.arrays import BoolArray
from foveate.datasets import detections_from_coco, detections_from_cvat, detections_from_labelme
from foveate.errors import DataError, OptionError
from foveate.images.reading import read_image
from foveate.labeling import CocoLabels, CvatLabels, LabelOptions, label_objects
from foveate.results.detections import Detections
from foveate.results.run_masks import RunMasks, column_runs

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = ("zebra", "dog & <b>")
XML = '<annotations><version>1.1</version><image name="a.jpg" width="40" height="30">{}</image>{}'


def detections_with(masks: list[BoolArray]) -> Detections:
    """Return a detection for each mask, (H, W) bool of one size, of both classes in turn."""
    count, (height, width) = len(masks), masks[0].shape
    runs = RunMasks([column_runs(m.view(np.uint8)) for m in masks], height=height, width=width)
    return Detections(
        boxes=runs.boxes(),
        scores=np.linspace(0.9, 0.3, count).astype(np.float32),
        labels=np.arange(count) % 2,
        class_names=NAMES,
        masks=runs,
        proposals=np.arange(count),
    )


def through_labelme(found: Detections, folder: Path) -> Detections:
    file = folder / "a.json"
    file.write_text(found.to_labelme("a.jpg"), encoding="utf-8")
    return detections_from_labelme(file, class_names=found.class_names)


def through_cvat(found: Detections, folder: Path) -> Detections:
    file = folder / "a.xml"
    file.write_text(found.to_cvat("a.jpg"), encoding="utf-8")
    return detections_from_cvat(file)


def through_coco(found: Detections, folder: Path) -> Detections:
    del folder
    _, height, width = found.masks.shape
    options = LabelOptions(score_threshold=0, max_overlap=1, max_objects=len(found) or 1)
    document = CocoLabels(found.class_names)
    document.add("a.jpg", height, width, label_objects(found, options))
    entries = json.loads(document.to_text())["annotations"]
    names = found.class_names
    return detections_from_coco(entries, height=height, width=width, categories=names)


WAYS = (through_labelme, through_cvat, through_coco)
Way = Callable[[Detections, Path], Detections]


@st.composite
def several(draw: st.DrawFn) -> list[BoolArray]:
    """A few masks of one size, each with a pixel."""
    first = draw(st.one_of(noise(), blobs(), lines()))
    others = [
        np.roll(first, step, (0, 1)) for step in draw(st.lists(st.integers(1, 50), max_size=2))
    ]
    return [first, *others]


@pytest.mark.parametrize("way", WAYS)
@given(masks=several())
@settings(max_examples=50)
def test_objects_come_back_with_their_masks(
    way: Way, masks: list[BoolArray], tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = detections_with(masks)
    again = way(found, tmp_path_factory.getbasetemp())
    assert again.class_names == found.class_names
    assert again.names == found.names
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-4)
    assert min(map(iou, again.masks, masks)) >= 0.98


def test_masks_of_photographs_come_back(tmp_path: Path) -> None:
    with foveate.load("mini", preset="fast") as pipeline:
        for name in ("astronaut.jpg", "cat.jpg", "flower.jpg"):
            image = cv2.resize(read_image(IMAGES / name), (256, 192), interpolation=cv2.INTER_AREA)
            found = pipeline.propose(image)
            masks = list(found.masks[found.masks.areas() > 0][:40])
            for way in WAYS:
                again = way(detections_with(masks), tmp_path)
                assert min(map(iou, again.masks, masks)) >= 0.98, (name, way)


def test_an_object_in_parts_comes_back_as_one(tmp_path: Path) -> None:
    found = in_parts()
    for way in WAYS:
        again = way(found, tmp_path)
        assert again.names == ["dog & <b>", "cat"]
        assert np.array_equal(again.boxes, found.masks.boxes())


def test_proposals_have_one_label_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(proposals_of(2).to_labelme("a.jpg"), encoding="utf-8")
    (tmp_path / "a.xml").write_text(proposals_of(2).to_cvat("a.jpg"), encoding="utf-8")
    for again in (
        detections_from_labelme(tmp_path / "a.json"),
        detections_from_cvat(tmp_path / "a.xml"),
    ):
        assert again.names == ["object", "object"]
        assert again.class_names == ("object",)


def test_a_tolerance_leaves_out_corners_and_is_checked() -> None:
    assert len(detections_of(1).to_cvat("a", tolerance=9)) < len(detections_of(1).to_cvat("a"))
    with pytest.raises(OptionError, match="tolerance must lie in 0..100, found -1"):
        detections_of(1).to_labelme("a.jpg", tolerance=-1)


def test_a_file_without_an_object_has_no_detection(tmp_path: Path) -> None:
    for way in WAYS:
        again = way(detections_of(0), tmp_path)
        assert len(again) == 0
        assert again.masks.shape == (0, HEIGHT, WIDTH)


def test_shapes_that_people_drew_in_labelme_are_read(tmp_path: Path) -> None:
    def shape(label: str, kind: str, points: Any) -> dict[str, Any]:
        return {"label": label, "shape_type": kind, "points": points, "group_id": None}

    shapes = [
        shape("b", "rectangle", [[14, 4], [4, 9]]),
        shape("a", "circle", [[16, 12], [16, 18]]),
        shape("a", "oriented_rectangle", [[20, 4], [24, 4], [24, 9], [20, 9]]),
    ]
    labelme_file(tmp_path / "a.json", "", shapes=shapes)
    found = detections_from_labelme(tmp_path / "a.json")
    assert found.names == ["b", "a", "a"]
    assert found.class_names == ("a", "b")
    assert found.scores.tolist() == [1, 1, 1]
    assert found.boxes[0].tolist() == [4, 4, 14, 9]
    assert found.boxes[2].tolist() == [20, 4, 24, 9]
    assert found.masks.areas()[1] == pytest.approx(np.pi * 36, rel=0.05)


def cvat(shapes: str, tmp_path: Path, rest: str = "") -> Path:
    file = tmp_path / "a.xml"
    file.write_text(XML.format(shapes, rest) + "</annotations>", encoding="utf-8")
    return file


def test_shapes_that_people_drew_in_cvat_are_read(tmp_path: Path) -> None:
    shapes = """
        <box label="a" xtl="4" ytl="10" xbr="14" ybr="14" rotation="90.0"/>
        <ellipse label="b" cx="20" cy="12" rx="8" ry="4"/>
        <mask label="c" rle="1, 3, 2" left="30" top="20" width="3" height="2"/>
        <polygon label="d" points="0,0;4,0;4,4;0,4" group_id="7"/>
        <mask label="d" rle="0, 2" left="9" top="0" width="2" height="1" group_id="7"/>
        <tag label="night"/>"""
    found = detections_from_cvat(cvat(shapes, tmp_path))
    assert found.names == ["a", "b", "c", "d"]
    assert found.boxes[0].tolist() == [7, 7, 11, 17]  # turned by a right angle
    assert found.masks.areas()[1] == pytest.approx(np.pi * 32, rel=0.05)
    expected = np.zeros((30, 40), bool)
    expected[20, 31:33] = expected[21, 30] = True
    assert np.array_equal(found.masks[2], expected)
    assert found.masks.areas()[3] == 18


def test_one_of_several_images_of_cvat_is_chosen(tmp_path: Path) -> None:
    document = CvatLabels(NAMES)
    for name, count in (("in/a.jpg", 1), ("b.jpg", 0)):
        objects = label_objects(in_parts(), LabelOptions(max_objects=2))[:count]
        document.add(name, 90, 120, objects)
    file = tmp_path / "all.xml"
    file.write_text(document.to_text(), encoding="utf-8")
    assert len(detections_from_cvat(file, image="in/a.jpg")) == 1
    empty = detections_from_cvat(file, image="b.jpg")
    assert (len(empty), empty.class_names) == (0, NAMES)
    with pytest.raises(DataError, match="2 of 2 images are meant by image=None.*such as in/a.jpg"):
        detections_from_cvat(file)
    with pytest.raises(DataError, match="0 of 2 images are meant by image='a.jpg'"):
        detections_from_cvat(file, image="a.jpg")


POINTS = [[4, 4], [14, 4], [14, 14]]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shapes": 3}, "expected a file of labelme, with a list of shapes: .*a.json: correct it"),
        ({"imageHeight": None}, "its imageHeight: None is not an integer"),
        ({"imageWidth": 0}, "a height of .* and a width of 0"),
        (
            {"shapes": [{"label": "box", "shape_type": "line", "points": POINTS}]},
            "a shape has no label or no outline, its type is line",
        ),
        (
            {"shapes": [{"label": "box", "shape_type": "mask", "points": POINTS[:2]}]},
            "a shape has no label or no outline, its type is mask",
        ),
        ({"shapes": [7]}, "a shape has no label or no outline, its type is int"),
        ({"shapes": [{"label": "box", "points": POINTS[:2]}]}, "no polygon has three points"),
        ({"shapes": [{"label": "cat", "points": POINTS}]}, "the label 'cat' is unknown, .* box"),
        (
            {"imageHeight": 4, "imageWidth": 3},
            "a 'box' has no pixel in the image of 3 x 4: .*a.json: correct it in labelme",
        ),
    ],
)
def test_a_file_of_labelme_that_cannot_be_used_is_an_error(
    changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    labelme_file(tmp_path / "a.json", "box", **changes)
    with pytest.raises(DataError, match=text):
        detections_from_labelme(tmp_path / "a.json", class_names=("box",))


@pytest.mark.parametrize("read", [detections_from_cvat, detections_from_labelme])
def test_a_file_that_does_not_exist_is_named(read: Callable[[Path], Any], tmp_path: Path) -> None:
    text = r"the file cannot be read \(No such file or directory\): .*gone: check the path$"
    with pytest.raises(DataError, match=text):
        read(tmp_path / "gone")


BOMB = '<!DOCTYPE a [<!ENTITY x "{}">]><annotations><image name="&x;"/></annotations>'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "the XML cannot be read .*: .*a.xml: export it from CVAT as 'CVAT for images 1.1'"),
        ('{"shapes": []}', "the XML cannot be read"),
        (BOMB.format("&y;" * 9), "it has a document type, which CVAT does not write"),
        ("<annotation/>", "expected images of CVAT, but the file begins with <annotation>"),
        (
            "<annotations><track/></annotations>",
            "expected images of CVAT, but the file is a video of CVAT",
        ),
        ("<annotations/>", "0 of 0 images are meant"),
    ],
)
def test_a_file_that_is_not_of_cvat_is_an_error(content: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=text):
        detections_from_cvat(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ('<polyline label="a" points="0,0;1,1"/>', "shape 1, a polyline: expected one of polygon,"),
        ('<box label="a" xtl="1"/>', "shape 1, a box: 'ytl' is missing"),
        ('<polygon points="0,0;1,1;2,2"/>', "shape 1, a polygon: 'label' is missing"),
        ('<polygon label="a" points="0,0;1;x"/>', "'x' is not a finite number"),
        ('<polygon label="a" points="90,0;95,0;95,9"/>', "a 'a' has no pixel in the image of 40 x"),
        (
            '<mask label="a" rle="9" left="39" top="0" width="3" height="3"/>',
            "its box lies outside of the image of 40 x 30 pixels",
        ),
        (
            '<mask label="a" rle="2, 2" left="0" top="0" width="3" height="3"/>',
            "its runs cover 4 pixels, not 3 x 3",
        ),
    ],
)
def test_a_shape_of_cvat_that_cannot_be_used_is_an_error(
    shape: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=text):
        detections_from_cvat(cvat(shape, tmp_path))


@cache
def written(kind: str) -> str:
    found = detections_of(2)
    return found.to_labelme("a.jpg") if kind == "labelme" else found.to_cvat("a.jpg")


@pytest.mark.parametrize("kind", ["labelme", "cvat"])
@given(data=st.data())
@settings(max_examples=100)
def test_a_damaged_file_is_read_or_refused(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text, file = written(kind), tmp_path_factory.getbasetemp() / "damaged"
    start, cut = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 30))
    part = data.draw(st.sampled_from(["", "-", "9" * 400, '"', "<", "]", "1e999", "\0", "\ud800"]))
    damaged = text[:start] + part + text[start + cut :]
    file.write_bytes(damaged.encode(errors="surrogatepass"))
    with suppress(DataError):
        read = detections_from_labelme if kind == "labelme" else detections_from_cvat
        assert len(read(file)) <= 3
